"""A server with a memory limit of 1 GiB survives attacks of unknown callers, and serves others meanwhile."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from support.attacked import Attacked, attacked, few_files
from support.attacks import ADD, Connection, connect_only, held
from support.counts import soaked
from support.pages import fetch
from support.patience import patient
from support.rpc import Refused, Rpc, eventually, read_all
from support.server_process import ServerProcess, server_command

pytestmark = pytest.mark.xdist_group("attacks")

MIB = 1 << 20


def peak(subject: Attacked) -> float:
    """Return the server's peak memory in MiB."""
    return subject.figures()["peak MiB"]


def is_served(address: str) -> bool:
    """Return whether a new client is served."""
    with closing(Rpc(address)) as rpc:
        try:
            rpc.raw("queuelet.v1.QueueService/GetStats", b"", timeout=patient(2))
        except Exception:  # noqa: BLE001  # any error means that it is not served
            return False
    return True


def test_streams_that_are_reset_at_once_take_no_memory() -> None:
    with attacked() as subject:
        with subject.attack("rapid_reset", streams=soaked(20_000, 100_000)):
            pass
        assert peak(subject) < 200


def test_streams_that_say_nothing_do_not_take_much_memory() -> None:
    with attacked() as subject:
        with subject.attack("open_streams", streams=1_000, connections=4):
            pass
        assert peak(subject) < 600


@pytest.mark.parametrize("attack", ["unfinished", "unfinished_consume"])
def test_requests_that_are_never_complete_are_cut_before_they_fill_the_memory(attack: str) -> None:
    with attacked() as subject:
        with subject.attack(attack, streams=400):
            eventually(lambda: subject.metric("queuelet_connections_cut_total") > 0, "a connection is cut")
        assert peak(subject) < 700
        eventually(lambda: subject.metric("queuelet_incoming_bytes") < MIB, "nothing is held any more")


def test_requests_that_are_never_complete_may_come_over_many_connections() -> None:
    with attacked("--request-timeout", "3") as subject:
        with subject.attack("unfinished", streams=10, connections=soaked(20, 60), size=2 * MIB):
            eventually(lambda: subject.metric("queuelet_connections_cut_total") > 0, "a connection is cut")
        assert peak(subject) < 700


@pytest.mark.parametrize("attack", ["watch_health", "open_reflection"])
def test_calls_that_need_no_token_are_bounded_too(tmp_path: Path, attack: str) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    metadata = (("authorization", "Bearer secret"),)
    flags = ("--token-file", str(token), "--max-incoming-bytes", soaked("8Mi", "128Mi"))
    with attacked(*flags, metadata=metadata) as subject:
        with subject.attack(attack, streams=soaked(300, 1_000), connections=soaked(3, 60)):
            enough = subject.acknowledged + 100
            eventually(lambda: subject.acknowledged >= enough, "a client is served meanwhile")
        assert peak(subject) < soaked(200, 500)


def test_a_health_check_of_a_name_without_end_is_refused() -> None:
    with ServerProcess() as server, closing(Rpc(server.address)) as rpc:
        for method in ("Check", "Watch"):
            request = health_pb2.HealthCheckRequest(service="s" * (1 << 20)).SerializeToString()
            with pytest.raises(Refused, match="the service name is too long") as caught:
                read_all(rpc.stream(f"grpc.health.v1.Health/{method}", request))
            assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_request_without_the_token_is_not_even_read(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    metadata = (("authorization", "Bearer secret"),)
    with attacked("--token-file", str(token), metadata=metadata) as subject:
        with subject.attack("unfinished", streams=400):
            pass
        assert subject.metric("queuelet_connections_cut_total") == 0
        assert peak(subject) < 200


def test_a_request_that_does_not_arrive_whole_in_time_is_refused() -> None:
    with ServerProcess("--request-timeout", "0.2") as server, closing(Rpc(server.address)) as rpc:
        rpc.new_queue("q")
        connection = Connection(server.address)
        stream, opened = connection.open(ADD)
        connection.send(opened)
        eventually(lambda: stream in connection.ended, "the call is refused")
        assert b"--request-timeout" in connection.ended[stream]
        connection.close()
        rpc.add("q")


def test_a_connection_has_so_many_calls_at_a_time_and_no_more() -> None:
    with ServerProcess("--max-streams", "5") as server:
        connection = Connection(server.address)
        connection.send(*(connection.open(ADD)[1] for _ in range(8)))
        eventually(lambda: connection.resets == 3, "those past the bound are refused")
        connection.close()


def test_idle_connections_make_room_for_others_at_the_bound() -> None:
    with ServerProcess("--max-connections", "20") as server:
        connect_only(server.address, connections=100)
        try:
            eventually(lambda: is_served(server.address), "another client is served")
            assert server.log("idle connections cut, because nearly too many are open")
        finally:
            while held:
                held.pop().close()


def test_a_server_that_may_open_few_files_is_served_on_both_ports_however_many_connect() -> None:
    """Without free files both ports would stop responding, and the log would stop too."""
    with attacked(files=300) as subject:
        server = subject.server
        (lowered,) = server.log("connection limits lowered, because the process may open few files; raise ulimit -n")
        assert (lowered["files"], lowered["connections"], lowered["http_connections"]) == (300, 150, 25)
        http = server.metrics_url.removeprefix("http://")
        with (
            subject.attack("connect_only", connections=soaked(400, 4_000)),
            subject.attack("half_http", http, connections=soaked(400, 4_000)),
        ):
            eventually(lambda: is_served(server.address), "a client that connects meanwhile is served")
            assert fetch(f"{server.metrics_url}/healthz").status == 200
            assert subject.metric("queuelet_http_connections") <= 25
            assert server.log("idle connections cut, because nearly too many are open")
            assert server.log("too many connections to the HTTP port, some were closed")


def test_a_server_that_may_open_next_to_no_files_says_so_instead_of_starting() -> None:
    with pytest.raises(RuntimeError, match="open files: the limit of this process is 100; raise it to at least 108"):
        ServerProcess(program=[*few_files(100), *server_command()]).start()


def test_a_large_request_that_is_complete_is_served_and_holds_nothing() -> None:
    with ServerProcess() as server, closing(Rpc(server.address)) as rpc:
        rpc.new_queue("q")
        for _ in range(20):
            rpc.add("q", bytes(4 * MIB - 1_000))
        with pytest.raises(Exception, match="larger than max"):
            rpc.add("q", bytes(5 * MIB))
        assert rpc.stats("q").enqueued == 20
