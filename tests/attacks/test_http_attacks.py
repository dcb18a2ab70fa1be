"""The HTTP port serves others while callers hold as many of its connections as they can."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from support.attacks import half_http, held, unread_http
from support.counts import soaked
from support.pages import fetch, samples
from support.patience import patient
from support.rest import Rest, queue_path
from support.rpc import eventually
from support.server_process import ServerProcess

pytestmark = pytest.mark.xdist_group("attacks")


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while held:
        held.pop().close()


def is_closed(connection: socket.socket) -> bool:
    """Return once the server has closed a connection."""
    connection.settimeout(patient(30))
    try:
        while connection.recv(1 << 20):
            pass
    except ConnectionResetError:
        return True
    return True


def closed(server: ServerProcess, reason: str) -> float:
    """Return how many connections the server has closed."""
    found = samples(f"{server.metrics_url}/metrics", "queuelet_http_connections_closed_total")
    return found[f'reason="{reason}"']


@pytest.mark.parametrize("attack", [half_http, unread_http])
def test_stalled_connections_are_closed_and_others_served(attack: Callable[..., None]) -> None:
    with ServerProcess("--http-timeout", "0.5") as server:
        attack(server.metrics_url.removeprefix("http://"), connections=4)
        assert fetch(f"{server.metrics_url}/healthz").status == 200
        eventually(lambda: closed(server, "stood_still") >= 4, "all are closed")
        assert all(is_closed(each) for each in held)
        assert closed(server, "too_many") == 0


@pytest.mark.parametrize("attack", [half_http, unread_http])
def test_past_the_most_connections_others_are_served(attack: Callable[..., None]) -> None:
    with ServerProcess("--http-timeout", "1h", "--max-http-connections", "10") as server:
        count = soaked(100, 5_000)
        attack(server.metrics_url.removeprefix("http://"), connections=count)
        assert fetch(f"{server.metrics_url}/healthz").status == 200
        eventually(lambda: closed(server, "too_many") >= count - 10, "those past the bound are closed")
        assert closed(server, "stood_still") == 0
        assert server.log("too many connections to the HTTP port, some were closed")[0]["remote"] == "127.0.0.1"


# The gateway, which also reads bodies and sends large responses


def test_bodies_that_never_end_take_no_more_memory_than_allowed() -> None:
    """Connections over the limit are closed, the largest first; a small request is served."""
    with ServerProcess("--http-timeout", "1h", "--request-timeout", "1h") as server:
        rest = Rest(server.rest_url)
        rest.get("/v1/queues")
        before = server.resident_bytes()
        body = b'{"store": "' + b"x" * (5 << 20)
        head = b"POST /v1/queues HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (len(body) + 1)
        for _ in range(soaked(40, 400)):
            opened = socket.create_connection(("127.0.0.1", server.http_port), timeout=patient(30))
            held.append(opened)
            with suppress(ConnectionError):
                opened.sendall(head + body)
        assert rest.get("/v1/queues") == {}
        # 64 MiB of bodies, and what Python and the kernel need for them.
        assert server.resident_bytes() - before < 200 << 20
        assert server.is_running


def test_large_responses_that_are_not_read_take_no_more_memory_than_allowed() -> None:
    with ServerProcess("--http-timeout", "1h") as server:
        rest = Rest(server.rest_url)
        path = queue_path(rest.new_queue()["meta"]["id"])
        for _ in range(4):
            rest.post(path, {"payload": base64.b64encode(b"x" * 900_000).decode()})
        page = rest.get(f"{path}/messages")
        assert len(page["messages"]) == 4
        before = server.resident_bytes()
        for _ in range(soaked(60, 600)):
            opened = socket.socket()
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            opened.connect(("127.0.0.1", server.http_port))
            opened.sendall(f"GET {path}/messages HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            held.append(opened)
        assert rest.get(f"{path}/messages") == page
        assert server.resident_bytes() - before < 300 << 20
        assert server.is_running


@pytest.mark.parametrize("attack", [half_http, unread_http])
def test_past_the_most_connections_the_gateway_answers_others(attack: Callable[..., None]) -> None:
    with ServerProcess("--http-timeout", "1h", "--max-gateway-connections", "10") as server:
        attack(server.rest_url.removeprefix("http://"), connections=soaked(100, 5_000))
        assert Rest(server.rest_url).get("/v1/queues") == {}
        assert fetch(f"{server.metrics_url}/healthz").status == 200
