"""Queues in PostgreSQL: their status, how durable they are, and what users see when the database fails."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from queuelet.v1 import queue_pb2 as pb
from support.apart import Apart, server_in_place_of
from support.kube_queues import History, KubeQueues, Writes, condition, is_ready, reason_of
from support.operator_process import OperatorProcess
from support.pages import samples
from support.postgres_server import PostgresServer, Standby, new_schema
from support.queue_objects import Object
from support.rpc import Rpc, eventually
from support.server_process import ServerProcess
from tools.control_plane import ControlPlane

SOON = ("--outage-after", "1.5", "--counts-every", "0.2")
"""Flags with which the operator reports an outage early, so that tests do not wait for ten seconds."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL that the tests here may stop and configure."""
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture
def flags(postgres: PostgresServer) -> tuple[str, ...]:
    """The flags of servers with a schema of the test's own. It is not dropped, because the database goes soon."""
    return ("--postgres", postgres.url, "--postgres-schema", new_schema())


@pytest.fixture
def database_server(flags: tuple[str, ...]) -> Iterator[ServerProcess]:
    """A server with the database."""
    with ServerProcess(*flags) as process:
        yield process


def waits_with(body: Object, reason: str) -> bool:
    """Return whether a Queue is Reconciling for this reason, and not Stalled."""
    reconciling = condition(body, "Reconciling")
    is_waiting = reconciling is not None and reconciling["reason"] == reason and condition(body, "Stalled") is None
    return reason_of(body) == reason and is_waiting and not is_ready(body)


def settled(operator: OperatorProcess) -> None:
    """Wait until the operator has nothing to do."""
    url = f"{operator.metrics_url}/metrics"
    eventually(lambda: not sum(samples(url, "queuelet_operator_work_queue_length").values()), "nothing waits")


def problems(operator: OperatorProcess) -> dict[str, float]:
    """Return the operator's metrics of stores."""
    return samples(f"{operator.metrics_url}/metrics", "queuelet_operator_store_problem")


def durability_of(body: Object) -> str:
    """Return what the changes of a Queue survive, by its status."""
    return str(body["status"].get("durability", ""))


def test_a_queue_in_the_database_is_what_its_object_says(
    apart: Apart, kube: KubeQueues, database_server: ServerProcess
) -> None:
    with apart.operator(database_server), closing(Rpc(database_server.address)) as rpc:
        made = kube.create(store="Postgres", limit=10, delivery={"leaseSeconds": 60})
        status = kube.wait_ready()["status"]
        assert (status["effective"]["store"], status["durability"]) == ("Postgres", "Disk")
        queue = rpc.get_queue(kube.server_name("orders"))
        assert (queue.meta.id, queue.store, queue.limit) == (made["metadata"]["uid"], pb.Queue.POSTGRES, 10)
        assert (status["queueID"], status["epoch"]) == (queue.meta.id, queue.epoch)
        kube.create("in-memory")
        assert durability_of(kube.wait_ready("in-memory")) == "Memory"
        kube.delete()
        kube.wait_gone()


def test_the_status_says_how_durable_changes_are_and_changes_with_the_database(
    control_plane: ControlPlane,
    apart: Apart,
    kube: KubeQueues,
    postgres: PostgresServer,
    database_server: ServerProcess,
) -> None:
    with apart.operator(database_server, "--counts-every", "3600") as operator:
        kube.create(store="Postgres")
        assert durability_of(kube.wait_ready()) == "Disk"
        settled(operator)
        standby = Standby(postgres)
        try:
            with History(control_plane, kube) as history:
                writes = Writes(kube.api)
                postgres.configure(synchronous_standby_names="standby")
                kube.wait("orders", lambda each: durability_of(each) == "Replicated", "replicated")
                postgres.configure(synchronous_standby_names="")
                kube.wait("orders", lambda each: durability_of(each) == "Disk", "no longer replicated")
                settled(operator)
                assert writes.so_far() == 2
                assert history.reasons("orders") in ([], ["Ready"]), "it was Ready all the time"
        finally:
            postgres.configure(synchronous_standby_names="")
            standby.stop()


def test_a_server_without_a_database_says_so_until_it_has_one(
    apart: Apart, kube: KubeQueues, own_server: ServerProcess, flags: tuple[str, ...]
) -> None:
    with apart.operator(own_server):
        kube.create(store="Postgres")
        seen = kube.wait_reason("StoreUnavailable")
        stalled = condition(seen, "Stalled")
        assert stalled
        assert "has no store Postgres; start it with --postgres-file (in the chart: server" in stalled["message"]
        own_server.kill()
        with server_in_place_of(own_server, *flags):
            kube.wait_ready()


def test_a_database_that_is_never_reached_is_reported_and_waited_for(
    apart: Apart, kube: KubeQueues, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    file = tmp_path / "uri"
    file.write_text("postgresql://me:pa55w0rd@127.0.0.1:1/shop")
    with (
        ServerProcess("--postgres-file", str(file), *flags[2:]) as server,
        apart.operator(server, *SOON) as operator,
    ):
        kube.create(store="Postgres")
        seen = kube.wait("orders", lambda each: waits_with(each, "StoreUnavailable"), "reported")
        message = str(condition(seen, "Reconciling"))
        assert "127.0.0.1" in message
        assert "pa55w0rd" not in message
        assert problems(operator) == {'reason="StoreUnavailable",store="Postgres"': 1.0}
        kube.create("in-memory")
        kube.wait_ready("in-memory")
        file.write_text(flags[1])
        kube.wait_ready()
        eventually(lambda: not problems(operator), "the problem has ended")


def test_a_server_that_starts_without_its_database_loses_no_queue(
    apart: Apart, kube: KubeQueues, postgres: PostgresServer, database_server: ServerProcess, flags: tuple[str, ...]
) -> None:
    with apart.operator(database_server, *SOON), closing(Rpc(database_server.address)) as rpc:
        kube.create(store="Postgres", deletionPolicy="Delete")
        before = kube.wait_ready()["status"]
        rpc.add(kube.server_name("orders"), b"kept")
        kube.create("deleted", store="Postgres")
        kube.wait_ready("deleted")
        postgres.stop(keep=True)
        database_server.kill()
        with server_in_place_of(database_server, *flags):
            kube.wait("orders", lambda each: waits_with(each, "StoreUnavailable"), "reported")
            kube.delete("deleted")
            kube.wait("deleted", lambda each: "deletionTimestamp" in each["metadata"], "being deleted")
            assert kube.get("deleted"), "it is not taken for removed"
            postgres.start()
            after = kube.wait_ready()["status"]
            kube.wait_gone("deleted")
        assert [after[field] for field in KEPT] == [before[field] for field in KEPT]
    assert not kube.events()


KEPT = ("queueID", "epoch", "durability")


def test_a_database_that_fails_is_reported_and_passes(
    control_plane: ControlPlane,
    apart: Apart,
    kube: KubeQueues,
    postgres: PostgresServer,
    database_server: ServerProcess,
) -> None:
    queue = kube.server_name("orders")
    with apart.operator(database_server, *SOON) as operator, closing(Rpc(database_server.address)) as rpc:
        kube.create(store="Postgres")
        before = kube.wait_ready()["status"]
        rpc.add(queue, b"kept")
        kube.wait("orders", lambda each: each["status"]["messages"]["ready"] == 1, "counted")
        settled(operator)
        with History(control_plane, kube) as history:
            writes = Writes(kube.api)
            postgres.kill()
            kube.wait("orders", lambda each: waits_with(each, "StoreFailed"), "reported")
            settled(operator)
            assert writes.so_far() == 1
            assert problems(operator) == {'reason="StoreFailed",store="Postgres"': 1.0}
            kube.create("made-meanwhile", store="Postgres")
            kube.wait("made-meanwhile", lambda each: waits_with(each, "StoreFailed"), "reported")
            postgres.start()
            history.wait(["orders"], ["StoreFailed", "Ready"])
            kube.wait_ready("made-meanwhile")
        after = kube.status()
        assert [after[field] for field in KEPT] == [before[field] for field in KEPT]
        assert rpc.pop(queue).payload == b"kept"
    assert not kube.events()


def test_a_database_without_space_is_reported_and_passes(
    apart: Apart,
    kube: KubeQueues,
    postgres: PostgresServer,
    database_server: ServerProcess,
    flags: tuple[str, ...],
) -> None:
    schema, queue = flags[-1], kube.server_name("orders")
    with (
        apart.operator(database_server, "--outage-after", "1.5", "--counts-every", "3600") as operator,
        closing(Rpc(database_server.address)) as rpc,
        ThreadPoolExecutor() as pool,
    ):
        kube.create(store="Postgres")
        kube.wait_ready()
        postgres.sql(NO_SPACE.format(schema=schema))
        waits_for_space = pool.submit(rpc.add, queue, b"late")
        kube.wait("orders", lambda each: waits_with(each, "StoreFull"), "reported")
        assert problems(operator) == {'reason="StoreFull",store="Postgres"': 1.0}
        kube.create("made-meanwhile", store="Postgres")
        kube.wait("made-meanwhile", lambda each: waits_with(each, "StoreFull"), "reported")
        kube.create("in-memory")
        kube.wait_ready("in-memory")
        postgres.sql(f"DROP TRIGGER refuse ON {schema}.messages")
        kube.wait_ready()
        kube.wait_ready("made-meanwhile")
        assert waits_for_space.result().meta.id


NO_SPACE = """
    SET search_path = {schema};
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON messages EXECUTE FUNCTION refuse()
"""
"""Refuses messages as a database whose disk is full does."""


def test_a_database_that_went_back_in_time_is_reported_with_what_is_in_it(
    control_plane: ControlPlane, apart: Apart, kube: KubeQueues
) -> None:
    """A queue that is younger than the copy is created again, and no client is blamed for its loss."""
    postgres = PostgresServer()
    try:
        with (
            ServerProcess("--postgres", postgres.url) as server,
            apart.operator(server, "--counts-every", "0.2") as operator,
            closing(Rpc(server.address)) as rpc,
        ):
            kube.create(store="Postgres", limit=100)
            before = kube.wait_ready()["status"]
            queue = kube.server_name("orders")
            rpc.add_batch(queue, [b""] * 7)
            postgres.stop(keep=True)
            postgres.copy_to("older")
            postgres.start()
            eventually(lambda: len(server.log("postgres store opened")) == 2, "the store is open again")
            rpc.add_batch(queue, [b""] * 20)
            kube.change(limit=50)
            kube.create("younger", store="Postgres")
            kube.wait_ready("younger")
            kube.wait("orders", lambda each: each["status"]["messages"]["ready"] == 27, "counted")
            settled(operator)
            with History(control_plane, kube) as history:
                postgres.stop(keep=True)
                postgres.replace_by("older")
                postgres.start()
                history.wait(["orders", "younger"], ["ServerStateLost", "Ready"])
                kube.wait("orders", lambda each: each["status"]["messages"]["ready"] == 7, "as it was")
            message = kube.wait_event("ServerStateLost")["message"]
            kube.wait_event("ServerStateLost", "younger")
            assert "held 27 ready" in message
            assert "now holds 7 ready" in message
            assert {each["reason"] for each in [*kube.events(), *kube.events("younger")]} == {"ServerStateLost"}
            after = kube.status()
            assert after["queueID"] == before["queueID"]
            assert (rpc.get_queue(queue).limit, after["effective"]["limit"]) == (50, 50), (
                "it is as declared, not as it was"
            )
            assert after["epoch"] != before["epoch"]
    finally:
        postgres.stop()
