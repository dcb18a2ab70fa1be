"""A server whose durable store fails: the errors that callers get, what it reports, and how it recovers.

The disk of the one fails, and the database of the other is killed.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import grpc
import pytest

from queuelet.v1 import queue_pb2 as pb
from support.durable_server import DurableServer, durable
from support.pages import fetch, samples
from support.postgres_server import PostgresServer
from support.rpc import Refused, Rpc, eventually, pop_request
from support.server_process import ServerProcess

__all__ = ["durable"]

TESTS = Path(__file__).parent.parent


@dataclass
class Failing:
    """A server with a durable store that can be broken, and a queue in each of its stores."""

    server: ServerProcess
    rpc: Rpc
    store: pb.Queue.Store
    fail: Callable[[], object]
    """Breaks the store."""
    mend: Callable[[], object]
    """Ends that."""

    @property
    def name(self) -> str:
        """The name of the store in logs and metrics."""
        return pb.Queue.Store.Name(self.store).lower()

    def metric(self, name: str) -> float:
        """Return a metric of the store."""
        return samples(f"{self.server.metrics_url}/metrics", f"queuelet_{self.name}_{name}")[""]

    def ready(self) -> tuple[int, str]:
        """Return status and text of the readiness page."""
        page = fetch(f"{self.server.metrics_url}/readyz")
        return page.status, page.text

    def add(self, queue: str = "durable") -> str:
        """Add a message; return its ID."""
        return self.rpc.add(queue, bytes(1_000)).meta.id

    def why_not_added(self) -> str:
        """Add a message; return the reason of its refusal, empty if it was accepted."""
        try:
            self.add()
        except Refused as refused:
            return refused.reason
        return ""

    def held(self) -> list[str]:
        """Return the IDs of the messages in the store."""
        return [message.meta.id for message in self.rpc.browse_all("durable")]


@cache
def database() -> PostgresServer:
    """Return the database of this module, which tests kill."""
    return PostgresServer()


@pytest.fixture(scope="module", autouse=True)
def _stopped() -> Iterator[None]:
    """Stop the database, if there is one, at the end."""
    yield
    if database.cache_info().currsize:
        database().stop()
        database.cache_clear()


@pytest.fixture(params=["disk", "postgres"])
def failing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Failing]:
    """A server with each durable store in turn, without faults at first."""
    kind = on_disk(tmp_path) if request.param == "disk" else in_postgres()
    with kind as (store, server, fail, mend), closing(Rpc(server.address)) as rpc:
        rpc.new_queue("memory")
        rpc.call("NewQueue", pb.NewQueueRequest(name="durable", store=store, limit=-1), pb.NewQueueResponse)
        yield Failing(server, rpc, store, fail, mend)


Kind = tuple[pb.Queue.Store, ServerProcess, Callable[[], object], Callable[[], object]]


@contextmanager
def on_disk(folder: Path) -> Iterator[Kind]:
    """Yield a server with a disk whose fsync can be made to fail."""
    control = folder / "control"
    control.touch()
    program = [sys.executable, "-m", "support.faulty_disk", str(control), "server"]
    path = {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    with ServerProcess("--data-dir", str(folder / "data"), program=program, env=path) as server:
        yield pb.Queue.DISK, server, lambda: control.write_text("sync"), lambda: control.write_text("")


@contextmanager
def in_postgres() -> Iterator[Kind]:
    """Yield a server with a database that can be killed."""
    own = database()
    try:
        # A long lease, so that only a lost database fails the store, and not a busy machine.
        with ServerProcess("--postgres", own.url, "--postgres-lease", "60") as server:
            yield pb.Queue.POSTGRES, server, own.kill, own.start
    finally:
        own.kill()
        own.start()
        own.drop("queuelet")


def test_a_store_that_fails_is_closed_until_it_is_well_and_has_lost_nothing(failing: Failing) -> None:
    before = [failing.add() for _ in range(3)]
    failing.fail()
    for call in (failing.add, failing.add, lambda: failing.rpc.pop("durable"), lambda: failing.rpc.receive("durable")):
        with pytest.raises(Refused) as refused:
            call()
        assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_FAILED")
    assert failing.metric("open") == 0
    status, text = failing.ready()
    assert status == 200, "queues in memory are served"
    assert re.fullmatch(r"ok\n.*(disk|PostgreSQL).*\n", text)
    assert failing.metric("failures_total") >= 1
    assert failing.server.log(f"{failing.name} store failed")
    assert fetch(f"{failing.server.metrics_url}/healthz").status == 200, "a restart would not mend it"

    failing.mend()
    eventually(lambda: failing.metric("open") == 1, "it is open again")
    assert failing.ready() == (200, "ok\n")
    held = failing.held()
    assert held[:3] == before, "what was acknowledged is there"
    assert len(held) <= 4, "of what was not, the one whose outcome was open at most"
    after = failing.add()
    assert failing.held() == [*held, after]
    assert failing.server.stop() == 0


def test_queues_in_memory_are_served_while_the_store_fails(failing: Failing) -> None:
    failing.fail()
    assert failing.why_not_added() == "STORE_FAILED"
    added = failing.add("memory")
    assert failing.rpc.pop("memory").meta.id == added


def test_a_call_that_waits_ends_with_the_failure_of_the_store(failing: Failing) -> None:
    pending = failing.rpc.start("Pop", pop_request("durable", 30))
    eventually(lambda: failing.rpc.stats("durable").waiting_calls == 1, "it waits")
    failing.fail()
    assert failing.why_not_added() == "STORE_FAILED"
    with pytest.raises(grpc.RpcError) as ended:
        pending.result()
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_watch_reports_a_store_that_fails_and_its_recovery(failing: Failing) -> None:
    def problems(batch: pb.WatchQueuesResponse) -> list[str]:
        return [store.reason for store in batch.stores if store.store == failing.store]

    watch = failing.rpc.watch()
    batches = watch.snapshot()
    (well,) = (store for batch in batches for store in batch.stores if store.store == failing.store)
    failing.fail()
    assert failing.why_not_added() == "STORE_FAILED"
    watch.until(lambda batch: problems(batch) == ["STORE_FAILED"])
    failing.mend()
    (*_, last) = watch.until(lambda batch: problems(batch) == [""])
    assert [store.epoch for store in last.stores if store.store == failing.store] == [well.epoch], "nothing was lost"
    watch.cancel()


def test_an_id_is_not_given_twice_though_the_first_message_of_it_was_lost(durable: DurableServer) -> None:
    """It may have been delivered before it was committed."""
    with ServerProcess(*durable.flags) as server, closing(Rpc(server.address)) as rpc:
        rpc.call("NewQueue", pb.NewQueueRequest(name="a", store=durable.store, limit=-1), pb.NewQueueResponse)
        last = rpc.add("a").meta.id
        server.kill()
    with ServerProcess(*durable.flags) as again, closing(Rpc(again.address)) as rpc:
        assert int(rpc.add("a").meta.id[24:], 16) > int(last[24:], 16) + 100_000
