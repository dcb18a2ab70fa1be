"""All messages of a state as lines of JSON, over REST."""

from __future__ import annotations

import json
import socket
from http.client import IncompleteRead
from pathlib import Path

import pytest

from support.gateway_process import GatewayProcess
from support.pages import samples
from support.rest import Rest, queue_path
from support.rpc import Rpc, eventually
from support.server_process import ServerProcess

LINES = {"Accept": "application/x-ndjson"}


@pytest.fixture(scope="module")
def rest(server: ServerProcess) -> Rest:
    """The API of the shared server."""
    return Rest(server.rest_url)


@pytest.fixture
def path(name: str) -> str:
    """The messages of a new queue without a limit."""
    return f"{queue_path(name)}/messages"


def lines(body: bytes) -> list[dict[str, object]]:
    assert not body or body.endswith(b"\n")
    return [json.loads(line) for line in body.splitlines()]


def test_every_message_is_a_line_whatever_the_size_of_a_page(rest: Rest, rpc: Rpc, name: str, path: str) -> None:
    rpc.add_batch(name, [b"%d" % n for n in range(1_200)])
    whole = rest.ask("GET", path, headers=LINES)
    assert (whole.status, whole.headers["Content-Type"]) == (200, "application/x-ndjson")
    pages: list[object] = []
    page = rest.get(f"{path}?page_size=1000")
    while True:
        pages += page["messages"]
        if not (token := page.get("next_page_token")):
            break
        page = rest.get(f"{path}?page_size=1000&page_token={token}")
    assert lines(whole.body) == pages
    assert lines(rest.ask("GET", f"{path}?page_size=7", headers=LINES).body) == pages
    assert rpc.get_queue(name).messages.ready == 1_200


def test_an_export_has_the_filters_of_a_browse(rest: Rest, rpc: Rpc, name: str, path: str) -> None:
    rpc.add_batch(name, [b"%d" % n for n in range(20)])
    found = rest.ask("GET", f"{path}?contains=1&payload_bytes=1&descending=true", headers=LINES)
    assert [each["payload_size"] for each in lines(found.body)] == ["2"] * 10 + ["1"]
    assert rest.ask("GET", f"{path}?states=MESSAGE_STATE_DEAD", headers=LINES).body == b""


def test_an_export_that_is_refused_is_an_error_and_no_lines(rest: Rest, path: str) -> None:
    answer = rest.ask("GET", f"{path}?selector=(", headers=LINES)
    assert (answer.status, answer.json["reason"]) == (400, "INVALID_ARGUMENT")
    assert answer.headers["Content-Type"] == "application/json"
    assert rest.ask("GET", "/v1/queues/no-such-queue/messages", headers=LINES).status == 404


def test_an_export_that_fails_is_not_taken_for_complete(rest: Rest, rpc: Rpc, name: str, path: str) -> None:
    _fill(rpc, name)
    with rest.open("GET", f"{path}?page_size=1", headers=LINES) as response:
        assert b"payload" in response.readline()
        rpc.delete_queue(name)
        with pytest.raises(IncompleteRead) as cut:
            response.read()
    last = cut.value.partial.splitlines()[-1]
    assert json.loads(last)["reason"] == "QUEUE_NOT_FOUND"


def test_a_client_that_leaves_ends_the_export(server: ServerProcess, rpc: Rpc, name: str, path: str) -> None:
    _fill(rpc, name)
    before = _pages_read(server)
    with socket.create_connection(("127.0.0.1", server.http_port)) as client:
        client.sendall(
            f"GET {path}?page_size=1 HTTP/1.1\r\nHost: localhost\r\nAccept: application/x-ndjson\r\n\r\n".encode()
        )
        assert client.recv(100)
    eventually(lambda: not _is_growing(server), "no more pages are read")
    assert _pages_read(server) - before < 300


def _fill(rpc: Rpc, name: str) -> None:
    """Add more than a connection buffers."""
    for _ in range(10):
        rpc.add_batch(name, [bytes(100_000) for _ in range(30)])


def _pages_read(server: ServerProcess) -> float:
    found = samples(f"{server.metrics_url}/metrics", "queuelet_rpc_calls_total")
    return sum(value for labels, value in found.items() if "Browse" in labels)


def _is_growing(server: ServerProcess) -> bool:
    before = _pages_read(server)
    return _pages_read(server) > before


def test_a_gateway_on_its_own_exports_too(server: ServerProcess, rpc: Rpc, name: str, path: str) -> None:
    rpc.add_batch(name, [b"%d" % n for n in range(30)])
    with GatewayProcess(server.address) as gateway:
        found = Rest(gateway.url).ask("GET", f"{path}?page_size=9", headers=LINES)
        assert len(lines(found.body)) == 30
        assert gateway.stop() == 0


def test_an_export_needs_the_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("opensesame-opensesame")
    with ServerProcess("--token-file", str(tmp_path / "token")) as server:
        assert Rest(server.rest_url).ask("GET", "/v1/queues/orders/messages", headers=LINES).status == 401
        assert server.stop() == 0
