"""A server whose queues are in three PostgreSQL nodes, while nodes, agents, connections and waits for standbys fail.

The oracle is that of the tests that kill servers: no acknowledged message is lost, none comes back, tokens grow, and
the order is exact.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from queuelet.v1 import queue_pb2 as pb
from support.commands import Cli
from support.counts import soaked
from support.ordered import BATCH
from support.postgres_quorum import PASSWORD, USER, Node, Quorum
from support.postgres_server import new_schema
from support.quorum_load import Load, load
from support.relay import Relay
from support.rpc import Rpc, add_batch_request, eventually
from support.server_process import ServerProcess

pytestmark = [pytest.mark.xdist_group("quorum"), pytest.mark.timeout(soaked(300, 7_200))]

QUEUE = "orders"
SECONDS = 2.0
"""The delay of a slow connection, which is longer than the lease."""


def faults(few: int, many: int) -> int:
    """Return how many faults a test makes: few, many in a soak, or as many as QUEUELET_FAULTS says."""
    return int(os.environ.get("QUEUELET_FAULTS", "0")) or soaked(few, many)


@pytest.fixture(scope="module")
def quorum() -> Iterator[Quorum]:
    """The three nodes, all well at the beginning of each test."""
    with Quorum() as nodes:
        yield nodes


@pytest.fixture
def server(quorum: Quorum) -> Iterator[ServerProcess]:
    """A server on the nodes."""
    schema = new_schema()
    with quorum.restored(), ServerProcess("--postgres", quorum.url(), "--postgres-schema", schema) as process:
        yield process
    quorum.drop(schema)


def new_queue(rpc: Rpc) -> None:
    """Create the queue."""
    rpc.call("NewQueue", pb.NewQueueRequest(store=pb.Queue.POSTGRES, limit=-1, name=QUEUE), pb.NewQueueResponse)


def store_of(rpc: Rpc) -> pb.StoreEpoch:
    """Return what the server says of the store."""
    return next(each for each in rpc.server_stats().stores if each.store == pb.Queue.POSTGRES)


def problem(there: Load) -> str:
    """Return why the store of a server is not open."""
    with closing(there.crowd.rpc()) as rpc:
        return store_of(rpc).problem


def replicate(quorum: Quorum, rpc: Rpc, durability: pb.Durability) -> None:
    """Have commits wait for a standby or for none, and wait until the server has noticed it."""
    quorum.configure(synchronous_mode="quorum" if durability == pb.DURABILITY_REPLICATED else "off")
    # Without calls, the next heartbeat notices it, and then the store opens again.
    eventually(lambda: store_of(rpc).durability == durability and not store_of(rpc).problem, "it is noticed")


def cancelled(primary: Node) -> bool:
    """Cancel the wait for a standby of the server's commit; return whether there was one."""
    waiting = "wait_event = 'SyncRep' AND application_name = 'queuelet'"
    return primary.sql(f"SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE {waiting}") != "0"  # noqa: S608  # our own


def spoil(relay: Relay, fault: str) -> None:
    """Have a relay cut its connections, fall silent on them, or delay all responses."""
    match fault:
        case "cut":
            relay.cut()
        case "silence":
            relay.silence()
        case _:
            relay.delay = SECONDS


def test_a_primary_that_is_killed_loses_nothing(quorum: Quorum) -> None:
    kills = faults(3, 200)
    with load(quorum) as there:
        for _ in range(kills):
            quorum.primary.kill_postgres()
            there.until_resumed()
            quorum.until_healthy()
        there.finish(f"{kills} primaries killed")


def test_a_primary_that_is_lost_with_its_agent_loses_nothing(quorum: Quorum) -> None:
    """The others wait for the end of its lease in etcd."""
    kills = faults(1, 50)
    with load(quorum) as there:
        for _ in range(kills):
            lost = quorum.primary
            lost.kill()
            there.until_resumed()
            lost.start()
            quorum.until_healthy()
        there.finish(f"{kills} primaries lost with their agents")


@pytest.mark.skipif(not faults(0, 1), reason="it takes a minute; make soak runs it")
def test_an_old_primary_that_was_not_told_of_a_failover_confirms_nothing(quorum: Quorum) -> None:
    """Its agent is frozen, so it goes on as a primary, and the server may be connected to it."""
    times = faults(1, 10)
    with load(quorum) as there:
        for _ in range(times):
            old = quorum.primary
            old.freeze_agent()
            quorum.until(lambda old=old: quorum.leader not in {old, None}, "another node leads", 120)  # type: ignore[misc]  # mypy does not infer a lambda with a default
            there.until_resumed()
            assert old.sql("SELECT pg_is_in_recovery()") == "f"
            old.thaw_agent()
            quorum.until_healthy()
            there.until_resumed()
        there.finish(f"{times} old primaries that went on")


def test_no_add_is_answered_while_both_standbys_are_down(quorum: Quorum) -> None:
    times = faults(1, 20)
    with load(quorum, lease=2) as there:
        for _ in range(times):
            standbys, failures = quorum.standbys, there.failures
            for standby in standbys:
                standby.kill()
            before = there.added
            there.until_failed(failures + 1)
            # It connects again, and the take-over waits for a standby too.
            eventually(lambda: "does not respond" in problem(there), "the take-over waits for a standby")
            assert there.added <= before + BATCH, "a batch may have been committed before the kill"
            for standby in standbys:
                standby.start()
            there.until_resumed()
            quorum.until_healthy()
        there.finish(f"both standbys down {times} times")


def test_a_commit_whose_wait_for_a_standby_is_cancelled_is_not_confirmed_by_a_failover_either(quorum: Quorum) -> None:
    """PostgreSQL reports it as committed, and every session of the old primary sees it, but no standby has it."""
    times, failovers = faults(10, 200), 0
    with load(quorum) as there:
        for number in range(times):
            primary, failures = quorum.primary, there.failures
            with quorum.no_replication():
                eventually(lambda primary=primary: cancelled(primary), "a wait for a standby is cancelled")  # type: ignore[misc]  # mypy does not infer a lambda with a default
                there.until_failed(failures + 1)
                if number % 5 == 0:
                    primary.kill_postgres()
                    failovers += 1
            there.until_resumed()
            quorum.until_healthy()
        there.finish(f"{times} cancelled waits, {failovers} of them with a failover")


@pytest.mark.parametrize("fault", ["cut", "silence", "delay"])
def test_a_bad_connection_to_the_primary_loses_nothing(quorum: Quorum, fault: str) -> None:
    times = faults(2, 170)
    with ExitStack() as stack:
        relays = [stack.enter_context(Relay(node.port)) for node in quorum.nodes]
        there = stack.enter_context(load(quorum, url=quorum.url(hosts=[each.address for each in relays]), lease=1))
        for _ in range(times):
            failures = there.failures
            for relay in relays:
                spoil(relay, fault)
            there.until_failed(failures + 1)
            for relay in relays:
                relay.delay = 0.0
            there.until_resumed()
        there.finish(f"{times} times: {fault}")


def test_what_responses_say_of_durability_follows_the_database(quorum: Quorum, server: ServerProcess) -> None:
    with closing(Rpc(server.address)) as rpc:
        new_queue(rpc)
        for durability in (pb.DURABILITY_REPLICATED, pb.DURABILITY_DISK, pb.DURABILITY_REPLICATED):
            replicate(quorum, rpc, durability)
            request = add_batch_request(QUEUE, [("", b"x")])
            assert rpc.call("AddBatch", request, pb.AddBatchResponse).durability == durability
        assert b"Postgres (replicated, epoch " in Cli(server.address)("stats", "--output", "table").out


def test_commits_that_a_promoted_standby_lacks_change_the_epoch(quorum: Quorum, server: ServerProcess) -> None:
    """Clients and the operator see from it that messages were lost."""
    with closing(Rpc(server.address)) as rpc:
        new_queue(rpc)
        rpc.add_batch(QUEUE, [b"replicated"])
        replicate(quorum, rpc, pb.DURABILITY_DISK)
        primary, epoch, opened = quorum.primary, store_of(rpc).epoch, len(server.log("postgres store opened"))
        watch = rpc.watch(timeout=None)
        watch.snapshot()
        with quorum.no_replication():
            primary.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
            rpc.add_batch(QUEUE, [b"only on the primary"])
            assert rpc.get_queue(QUEUE).messages.ready == 2
            primary.kill_postgres()
        eventually(lambda: len(server.log("postgres store opened")) > opened, "the store is open again", 60)
        assert store_of(rpc).epoch != epoch
        watch.until(lambda batch: any(each.epoch == store_of(rpc).epoch for each in batch.stores))
        assert rpc.pop(QUEUE).payload == b"replicated"
        assert rpc.get_queue(QUEUE).messages == pb.MessageCounts()


def test_nodes_that_are_restored_to_an_older_copy_change_the_epoch(quorum: Quorum, server: ServerProcess) -> None:
    """All commits were replicated, so no promotion shows it, but the server knows more commits than the database."""
    # The agents know how far the log had got, and would promote no node that is behind.
    quorum.configure(maximum_lag_on_failover=1 << 40)
    with closing(Rpc(server.address)) as rpc:
        new_queue(rpc)
        old = rpc.add_batch(QUEUE, [b"old", b"leased"])
        opened = len(server.log("postgres store opened"))
        with quorum.stopped():
            quorum.copy("older")
        eventually(lambda: len(server.log("postgres store opened")) > opened, "the store is open again", 60)
        epoch = store_of(rpc).epoch
        rpc.add_batch(QUEUE, [b"lost"])
        before = rpc.receive(QUEUE, 3, lease=600)
        assert [each.message.payload for each in before] == [b"old", b"leased", b"lost"]
        watch, opened = rpc.watch(timeout=None), len(server.log("postgres store opened"))
        watch.snapshot()
        with quorum.stopped():
            quorum.replace_by("older")
        eventually(lambda: len(server.log("postgres store opened")) > opened, "the store is open again", 60)
        assert store_of(rpc).durability == pb.DURABILITY_REPLICATED
        assert store_of(rpc).epoch != epoch
        watch.until(lambda batch: any(each.epoch == store_of(rpc).epoch for each in batch.stores))
        # Tokens still grow, so that what a holder from before the loss writes elsewhere can be fenced.
        after = rpc.receive(QUEUE, 3, lease=600)
        assert [each.message.payload for each in after] == [b"old", b"leased"]
        assert [each.message.meta.id for each in after] == [each.id for each in old]
        assert min(each.token for each in after) > max(each.token for each in before)
        assert set(rpc.ack(QUEUE, *(each.token for each in before))) == {"MESSAGE_NOT_FOUND"}
        assert set(rpc.ack(QUEUE, *(each.token for each in after))) == {""}


def test_a_rotated_password_is_used_at_the_next_connection(quorum: Quorum, tmp_path: Path) -> None:
    url = quorum.url(f"{USER}:{PASSWORD}")
    file = tmp_path / "uri"
    file.write_text(url)
    schema = new_schema()
    with (
        quorum.restored(),
        ServerProcess("--postgres-file", str(file), "--postgres-schema", schema) as server,
        closing(Rpc(server.address)) as rpc,
    ):
        new_queue(rpc)
        rpc.add_batch(QUEUE, [b"before"])
        quorum.primary.sql(f"ALTER USER {USER} PASSWORD 'second-word'")
        rpc.add_batch(QUEUE, [b"on the old connection"])
        quorum.primary.kill_postgres()
        eventually(lambda: "password authentication failed" in store_of(rpc).problem, "the old one is refused", 60)
        file.write_text(url.replace(PASSWORD, "second-word"))
        eventually(lambda: len(server.log("postgres store opened")) == 2, "the store is open again", 60)
        assert [rpc.pop(QUEUE).payload for _ in range(2)] == [b"before", b"on the old connection"]
        assert "second-word" not in server.output()
        assert f":{PASSWORD}@" not in server.output()
    quorum.drop(schema)
