"""The HTTP port serves others while callers hold as many of its connections as they can."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from support.attacks import half_http, held, unread_http
from support.counts import soaked
from support.pages import fetch, samples
from support.patience import patient
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
