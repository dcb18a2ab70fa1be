"""What a server reports of its database while it runs: losses to watches, and its durability as a figure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from queuelet.v1 import queue_pb2 as pb
from support.pages import samples
from support.postgres_server import PostgresServer, Standby
from support.rpc import Rpc, eventually
from support.server_process import ServerProcess

QUEUE = "orders"


@pytest.fixture
def database() -> Iterator[PostgresServer]:
    """A PostgreSQL of the test's own."""
    server = PostgresServer()
    yield server
    server.stop()


def new_queue(rpc: Rpc, name: str = QUEUE) -> pb.Queue:
    """Create a queue in the database."""
    request = pb.NewQueueRequest(store=pb.Queue.POSTGRES, limit=-1, name=name)
    return rpc.call("NewQueue", request, pb.NewQueueResponse).queue


def epoch_of(stores: pb.WatchQueuesResponse) -> str:
    """Return the epoch of the database in a batch of a watch; empty if it has none."""
    return next((each.epoch for each in stores.stores if each.store == pb.Queue.POSTGRES), "")


@pytest.mark.parametrize("counts_apart", [False, True], ids=["together", "apart"])
def test_a_watch_learns_of_a_lost_store_before_the_queues_in_it(
    database: PostgresServer,
    counts_apart: bool,  # noqa: FBT001  # a column
) -> None:
    """Otherwise a watcher would take a queue that was lost for deleted, and one that was restored for unchanged."""
    with ServerProcess("--postgres", database.url) as server, closing(Rpc(server.address)) as rpc:
        kept = new_queue(rpc)
        database.stop(keep=True)
        database.copy_to("older")
        database.start()
        eventually(lambda: len(server.log("postgres store opened")) == 2, "the store is open again")
        lost = new_queue(rpc, "younger")
        watch = rpc.watch(counts_apart=counts_apart, timeout=None)
        epoch = next(filter(None, map(epoch_of, watch.snapshot())))
        database.stop(keep=True)
        database.replace_by("older")
        database.start()
        is_reported = False
        missing = {kept.meta.id, lost.meta.id}
        while missing:
            batch = next(watch)
            is_reported = is_reported or epoch_of(batch) not in {"", epoch}
            of_queues = {each.id for each in batch.removed} | {each.meta.id for each in batch.queues}
            assert is_reported or not of_queues
            assert all(each.epoch not in {"", epoch} for each in batch.queues)
            missing -= of_queues
        watch.cancel()


def test_the_figures_say_whether_commits_are_replicated(database: PostgresServer) -> None:
    with ServerProcess("--postgres", database.url) as server:

        def is_replicated(wanted: int) -> bool:
            url = f"{server.metrics_url}/metrics"
            return samples(url, "queuelet_postgres_replicated")[""] == wanted

        assert is_replicated(0)
        standby = Standby(database)
        try:
            database.configure(synchronous_standby_names="standby")
            eventually(lambda: is_replicated(1), "commits are replicated")
            database.configure(synchronous_standby_names="")
            eventually(lambda: is_replicated(0), "commits are no longer replicated")
        finally:
            standby.stop()
