"""Servers whose queues are in PostgreSQL: without a database, beside another server, and frozen."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from secrets import token_hex

import pytest

from queuelet.v1 import queue_pb2 as pb
from support.commands import Cli
from support.pages import fetch, samples
from support.postgres_server import PostgresServer, new_schema, own_schema, shared_postgres
from support.rpc import Refused, Rpc, add_request, eventually, unique_name
from support.server_process import ServerProcess
from support.small_database import SmallDatabase, SmallLog, why_not

QUEUE = "orders"
SECRET = "pa55w0rd"


@pytest.fixture
def flags() -> Iterator[tuple[str, ...]]:
    """The flags of servers that share a schema; a killed one's lease ends soon."""
    with own_schema() as usual:
        yield (*usual, "--postgres-lease", "1")


def new_queue(rpc: Rpc) -> None:
    """Create the queue."""
    rpc.call("NewQueue", pb.NewQueueRequest(store=pb.Queue.POSTGRES, limit=-1, name=QUEUE), pb.NewQueueResponse)


def test_a_server_serves_other_stores_until_the_database_can_be_used(tmp_path: Path) -> None:
    file = tmp_path / "uri"
    file.write_text(f"postgresql://me:{SECRET}@127.0.0.1:1/shop")
    with ServerProcess("--postgres-file", str(file)) as server, closing(Rpc(server.address)) as rpc:
        assert "127.0.0.1" in server.log("serving without the postgres store until it can be used")[0]["error"]
        unnamed = pb.NewQueueRequest(store=pb.Queue.MEMORY, limit=-1)  # a name might be that of a queue in the database
        rpc.add(rpc.call("NewQueue", unnamed, pb.NewQueueResponse).queue.meta.id)
        with pytest.raises(Refused) as refused:
            new_queue(rpc)
        assert refused.value.reason == "STORE_FAILED"
        page = fetch(f"{server.metrics_url}/readyz")
        assert "PostgreSQL at 127.0.0.1:1/shop cannot be reached" in page.text
        assert samples(f"{server.metrics_url}/metrics", "queuelet_postgres_open")[""] == 0
        text = problem(rpc)
        with own_schema() as usual:
            file.write_text(usual[1])
            eventually(lambda: bool(server.log("postgres store opened")), "the store is open")
            new_queue(rpc)
            rpc.add(QUEUE)
            assert samples(f"{server.metrics_url}/metrics", "queuelet_postgres_open")[""] == 1
            shown = "\n".join([*map(str, server.log()), page.text, text, fetch(f"{server.metrics_url}/metrics").text])
            assert SECRET not in shown
            assert server.stop() == 0
            shared_postgres().drop("queuelet")


def test_the_durability_of_stores_is_in_the_stats(flags: tuple[str, ...]) -> None:
    with ServerProcess(*flags) as server, closing(Rpc(server.address)) as rpc:
        stores = {each.store: each.durability for each in rpc.server_stats().stores}
        assert stores == {pb.Queue.MEMORY: pb.DURABILITY_MEMORY, pb.Queue.POSTGRES: pb.DURABILITY_DISK}
        assert b"Postgres (disk, epoch " in Cli(server.address)("stats", "--output", "table").out


def test_a_second_server_takes_over_when_the_first_one_stops(flags: tuple[str, ...]) -> None:
    with ServerProcess(*flags) as first, closing(Rpc(first.address)) as rpc:
        new_queue(rpc)
        rpc.add_batch(QUEUE, [b"a", b"b"])
        with ServerProcess(*flags) as second, closing(Rpc(second.address)) as other:
            assert "another server owns the queues" in str(
                second.log("serving without the postgres store until it can be used")
            )
            with pytest.raises(Refused) as refused:
                other.pop(QUEUE)
            assert refused.value.reason == "STORE_FAILED"
            assert first.stop() == 0
            eventually(lambda: bool(second.log("postgres store opened")), "the second server has taken over")
            assert other.pop(QUEUE).payload == b"a"


def test_a_server_that_was_frozen_gives_no_lease_that_another_one_has_given(flags: tuple[str, ...]) -> None:
    """It must not be able to, however it is woken: the message has a newer lease."""
    with ServerProcess(*flags) as first, closing(Rpc(first.address)) as rpc:
        new_queue(rpc)
        rpc.add_batch(QUEUE, [b"a", b"b"])
        (before,) = rpc.receive(QUEUE, 1, lease=600)
        first.signal(signal.SIGSTOP)
        try:
            with ServerProcess(*flags) as second, closing(Rpc(second.address)) as other:
                eventually(lambda: bool(second.log("postgres store opened")), "the second server has taken over")
                deliveries = other.receive(QUEUE, 2, lease=600)
                first.signal(signal.SIGCONT)
                for call in (lambda: rpc.receive(QUEUE, 2), lambda: rpc.ack(QUEUE, before.token)):
                    with pytest.raises(Refused) as refused:
                        call()
                    assert refused.value.reason in {"STORE_FAILED", "UNREACHABLE"}
                assert all(each.token > before.token for each in deliveries)
                assert {each.message.payload for each in deliveries} <= {b"a", b"b"}
                assert set(other.ack(QUEUE, *(each.token for each in deliveries))) == {""}
        finally:
            first.signal(signal.SIGCONT)


def test_calls_go_on_after_the_database_was_restarted(tmp_path: Path) -> None:
    database = PostgresServer()
    try:
        with ServerProcess("--postgres", database.url) as server, closing(Rpc(server.address)) as rpc:
            new_queue(rpc)
            rpc.add_batch(QUEUE, [b"a", b"b"])
            (leased,) = rpc.receive(QUEUE, 1, lease=600)
            database.kill()
            eventually(lambda: bool(server.log("postgres store failed")), "the failure is noticed")
            with pytest.raises(Refused):
                rpc.add(QUEUE)
            database.start()
            eventually(lambda: len(server.log("postgres store opened")) == 2, "the store is open again")
            assert rpc.get_queue(QUEUE).messages.ready + rpc.get_queue(QUEUE).messages.leased == 2
            rpc.add(QUEUE, b"c")
            rest = [each.message.payload for each in rpc.receive(QUEUE, 9)]
            assert rest in ([b"b", b"c"], [b"a", b"b", b"c"])  # the lease may not have been committed yet
            assert rpc.ack(QUEUE, leased.token) in ([""], ["LEASE_LOST"], ["MESSAGE_NOT_FOUND"])
    finally:
        database.stop()


@contextmanager
def user_with_password(password: str) -> Iterator[str]:
    """Yield a user of the database who needs a password, and remove it at the end."""
    database, user = shared_postgres(), unique_name("user")
    database.sql(f"CREATE ROLE \"{user}\" LOGIN PASSWORD '{password}'")
    database.sql(f'GRANT CREATE ON DATABASE postgres TO "{user}"')
    rules = database.folder / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f'host all "{user}" 127.0.0.1/32 scram-sha-256\n{before}')
    database.sql("SELECT pg_reload_conf()")
    try:
        yield user
    finally:
        rules.write_text(before)
        database.sql("SELECT pg_reload_conf()")
        database.sql(f'DROP OWNED BY "{user}"')
        database.sql(f'DROP ROLE "{user}"')


def test_a_rotated_password_is_used_at_the_next_connection_and_is_never_shown(tmp_path: Path) -> None:
    database, file = shared_postgres(), tmp_path / "uri"
    # New ones, because other tests that run now have the usual secret in their processes' command lines.
    secret, rotated = token_hex(), token_hex()
    with user_with_password(secret) as user:

        def write(password: str) -> None:
            file.write_text(f"postgresql://{user}:{password}@127.0.0.1:{database.port}/postgres")

        def end_connections() -> None:
            database.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'")  # noqa: S608  # our own name

        write(secret)
        flags = ("--debug", "--postgres-file", str(file), "--postgres-schema", new_schema())
        with ServerProcess(*flags) as server, closing(Rpc(server.address)) as rpc:
            new_queue(rpc)
            rpc.add(QUEUE, b"a")
            database.sql(f"ALTER ROLE \"{user}\" PASSWORD '{rotated}'")
            end_connections()
            eventually(lambda: "password authentication failed" in problem(rpc), "the old password is refused")
            with pytest.raises(Refused) as refused:
                rpc.add(QUEUE)
            shown = [refused.value.text, problem(rpc)]
            shown += [fetch(f"{server.metrics_url}/{page}").text for page in ("readyz", "metrics")]
            for option in ("table", "json"):
                stats = Cli(server.address)("stats", "--output", option)
                shown += [stats.out.decode(), stats.err]
            write(rotated)
            eventually(lambda: not problem(rpc), "the new password is used")
            assert rpc.pop(QUEUE).payload == b"a"
            shown += [fetch(f"{server.metrics_url}/{page}").text for page in ("readyz", "metrics")]
            ps = ("ps", "-A", "-ww", "-o", "command=")
            processes = subprocess.run(ps, capture_output=True, text=True, check=True).stdout
            assert str(file) in processes
            assert server.stop() == 0
            for text in (*shown, processes, server.output()):
                assert secret not in text
                assert rotated not in text


def problem(rpc: Rpc) -> str:
    """Return the problem of the PostgreSQL store."""
    return next(each.problem for each in rpc.server_stats().stores if each.store == pb.Queue.POSTGRES)


@pytest.mark.parametrize(
    "url", [f"postgresql://me:{SECRET}@db/shop", f"postgresql://db/shop?user=me&password={SECRET}"]
)
def test_a_password_on_the_command_line_is_refused_but_not_in_the_environment(url: str) -> None:
    refused = Cli("")("server", "--postgres", url)
    assert refused.code == 2
    assert "--postgres-file" in refused.err
    assert SECRET not in refused.err
    environment = {"QUEUELET_SERVER_POSTGRES": url.replace("@db", "@127.0.0.1:1").replace("//db", "//127.0.0.1:1")}
    with ServerProcess(env=environment) as server:
        assert server.log("serving without the postgres store until it can be used")
        assert SECRET not in server.output()


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_full_disk_of_the_database_refuses_messages_until_it_has_space() -> None:
    """A call that meets it first waits for the space; a message can neither be added nor removed meanwhile."""
    database = SmallDatabase(megabytes=24)
    try:
        with ServerProcess("--postgres", database.url) as server, closing(Rpc(server.address)) as rpc:

            def is_full() -> float:
                return samples(f"{server.metrics_url}/metrics", "queuelet_postgres_full")[""]

            new_queue(rpc)
            added: list[str] = []
            while True:
                adding = rpc.start("Add", add_request(QUEUE, bytes(1_000_000)))
                eventually(lambda adding=adding: adding.done() or bool(is_full()), "it is added, or the disk is full")  # type: ignore[misc]  # mypy infers no type for it
                if not adding.done():
                    break
                added.append(pb.AddResponse.FromString(adding.result()).message.meta.id)
                assert len(added) < 24
            with pytest.raises(Refused) as refused:
                rpc.add(QUEUE)
            assert refused.value.reason == "STORE_FULL"
            assert [each.meta.id for each in rpc.browse_all(QUEUE)][: len(added)] == added
            assert "disk of PostgreSQL is full" in fetch(f"{server.metrics_url}/readyz").text
            (store,) = (each for each in rpc.server_stats().stores if each.store == pb.Queue.POSTGRES)
            assert store.reason == "STORE_FULL"
            database.enlarge(200)
            added.append(pb.AddResponse.FromString(adding.result()).message.meta.id)
            eventually(lambda: not is_full(), "it has space again")
            added.append(rpc.add(QUEUE).meta.id)
            assert [each.meta.id for each in rpc.pop_all(QUEUE)] == added
            assert server.stop() == 0
    finally:
        database.stop()


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_full_disk_of_the_log_of_the_database_loses_nothing() -> None:
    """PostgreSQL ends then, and cannot start until there is space."""
    database = SmallLog(megabytes=64)
    try:
        with ServerProcess("--postgres", database.url) as server, closing(Rpc(server.address)) as rpc:
            new_queue(rpc)
            added: list[str] = []

            def fill() -> None:
                while len(added) < 64:
                    added.append(rpc.add(QUEUE, bytes(1_000_000)).meta.id)

            with pytest.raises(Refused) as refused:
                fill()
            assert refused.value.reason == "STORE_FAILED"
            eventually(lambda: bool(problem(rpc)), "the store is closed")
            database.enlarge(400)

            def is_open() -> bool:
                database.start_again()
                return not problem(rpc)

            eventually(is_open, "the store is open again")
            assert [each.meta.id for each in rpc.browse_all(QUEUE)][: len(added)] == added
            newest = rpc.add(QUEUE).meta.id
            popped = [each.meta.id for each in rpc.pop_all(QUEUE)]
            assert popped[: len(added)] == added
            assert popped[-1] == newest
            assert len(popped) - len(added) in {1, 2}, "the outcome of the call that failed is not known"
            assert server.stop() == 0
    finally:
        database.stop()
