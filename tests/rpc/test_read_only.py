"""A port of the REST API that is read-only: nothing can be changed there, whatever the request is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from queuelet.rest.read_only import READING
from queuelet.rest.routes import queue_routes
from queuelet.v1 import queue_pb2 as pb
from support.gateway_process import GatewayProcess
from support.rest import Rest
from support.rpc import Rpc
from support.server_process import ServerProcess

STREAMS = {"WatchQueues", "Tail"}
"""Methods whose response does not end by itself."""


def paths() -> list[tuple[str, str, str, bytes | None]]:
    """Return each route: its RPC, its method of HTTP, its path for the queue `orders`, and a body."""
    return [
        (
            route.method,
            route.verb,
            route.template.replace("{queue_id}", "orders").replace("{ids}", "d7aa8d3b-1c52-4d0f-9d77-2b3e8e8f9a10"),
            b"{}" if route.body else None,
        )
        for route in queue_routes()
    ]


@contextmanager
def read_only(kind: str) -> Iterator[tuple[Rest, Rpc]]:
    """Run a server with a read-only port, its own or that of a gateway; yield a client of that port and one by gRPC."""
    flags = ("--http-read-only",) if kind == "server" else ()
    with ServerProcess(*flags) as server, closing(Rpc(server.address)) as rpc:
        rpc.new_queue("orders")
        rpc.add("orders", b"x")
        if kind == "server":
            yield Rest(server.rest_url), rpc
        else:
            with GatewayProcess(server.address, "--read-only") as gateway:
                yield Rest(gateway.url), rpc
        assert server.stop() == 0


@pytest.mark.need(19, 20, 23)
@pytest.mark.parametrize("kind", ["server", "gateway"])
def test_every_route_that_changes_something_is_refused_and_every_other_works(kind: str) -> None:
    with read_only(kind) as (rest, rpc):
        for method, verb, path, body in paths():
            if method in READING:
                if method not in STREAMS:
                    assert rest.ask(verb, path, body).status == 200, path
                continue
            answer = rest.ask(verb, path, body)
            assert (answer.status, answer.json["reason"]) == (403, "PERMISSION_DENIED"), path
            assert answer.json["error"].startswith(f"{method}: this address is read-only; ")
        assert rpc.get_queue("orders").messages == pb.MessageCounts(ready=1)
        with rest.open("GET", "/v1/queues:watch") as stream:
            assert stream.status == 200
        assert rest.ask("GET", "/console/board").headers["Queuelet-Access"] == "read-only"
        rpc.pop("orders")


def test_the_token_comes_first(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("opensesame-opensesame")
    with ServerProcess("--token-file", str(tmp_path / "token"), "--http-read-only") as server:
        rest = Rest(server.rest_url)
        assert rest.ask("DELETE", "/v1/queues/orders").status == 401
        right = {"Authorization": "Bearer opensesame-opensesame"}
        assert rest.ask("DELETE", "/v1/queues/orders", headers=right).status == 403
        assert server.stop() == 0


def test_a_port_that_is_not_read_only_does_not_say_so() -> None:
    with ServerProcess() as server:
        assert "Queuelet-Access" not in Rest(server.rest_url).ask("GET", "/console/board").headers
        assert server.stop() == 0
