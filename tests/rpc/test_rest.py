"""The REST API of a real server, beyond the nine routes of negz/q."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from queuelet.rest.routes import queue_routes
from support.gateway_process import GatewayProcess
from support.pages import samples
from support.patience import patient
from support.rest import Event, Rest, events, queue_path
from support.rpc import Rpc, eventually, unique_name
from support.server_process import ServerProcess


@pytest.fixture(scope="module")
def rest(server: ServerProcess) -> Rest:
    """The API of the shared server."""
    return Rest(server.rest_url)


@pytest.fixture
def path(name: str) -> str:
    """The path of a new queue without a limit."""
    return queue_path(name)


def payload(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def payloads(messages: list[Any]) -> list[str]:
    return [base64.b64decode(each["payload"]).decode() for each in messages]


# Calls


def test_messages_go_through_a_queue_in_batches(rest: Rest, path: str) -> None:
    added = rest.post(f"{path}/messages", {"messages": [{"payload": payload(text)} for text in "abcd"]})
    assert [set(each) for each in added["results"]] == [{"id"}] * 4
    assert added["durability"] == "DURABILITY_MEMORY"
    assert payloads(rest.get(f"{path}/messages:peek?max=2")["messages"]) == ["a", "b"]
    assert payloads(rest.post(f"{path}/messages:popBatch", {"max": 2})["messages"]) == ["a", "b"]
    assert rest.post(f"{path}/messages:pop", {})["message"]["payload"] == payload("c")
    assert rest.post(f"{path}/pop")["message"]["payload"] == payload("d")
    assert rest.post(f"{path}/messages:popBatch") == {}


def test_leases_are_acknowledged_returned_and_extended(rest: Rest, path: str) -> None:
    rest.post(f"{path}/messages", {"messages": [{"payload": payload(text)} for text in "abc"]})
    received = rest.post(f"{path}/messages:receive", {"max": 3, "lease": "60s", "consumer": "curl"})["deliveries"]
    tokens = [each["token"] for each in received]
    assert all(isinstance(token, str) for token in tokens)
    assert rest.post(f"{path}/messages:ack", {"tokens": tokens[:1]})["results"] == [{}]
    assert rest.post(f"{path}/messages:extend", {"tokens": tokens[1:2], "lease": "90s"})["results"] == [{}]
    assert rest.post(f"{path}/messages:nack", {"tokens": tokens[2:], "dead": True, "reason": "bad"})["results"] == [{}]
    (dead,) = rest.get(f"{path}/messages?states=MESSAGE_STATE_DEAD")["messages"]
    assert (dead["reason"], dead["tries"][0]["reason"]) == ("DEATH_REASON_REJECTED", "bad")
    lost = rest.post(f"{path}/messages:ack", {"tokens": tokens[:1]})["results"][0]["error"]
    assert (lost["code"], lost["reason"]) == (5, "MESSAGE_NOT_FOUND")


def test_browse_and_purge_take_their_fields_from_query_and_body(rest: Rest, path: str) -> None:
    rest.post(f"{path}/messages", {"messages": [{"tags": [{"key": "n", "value": str(n)}]} for n in range(4)]})
    first = rest.get(f"{path}/messages?page_size=3&selector=n%20in%20(0,1,2,3)")
    assert len(first["messages"]) == 3
    rest_of_it = rest.get(f"{path}/messages?pageSize=3&pageToken={first['next_page_token']}")
    assert len(rest_of_it["messages"]) == 1
    assert rest.post(f"{path}/messages:purge", {"selector": "n=1"}) == {"purged": "1"}
    assert rest.post(f"{path}/messages:purge", {"all": True}) == {"purged": "3"}


def test_queues_are_declared_and_removed(rest: Rest) -> None:
    name = unique_name()
    declared = {"queues": [{"name": name, "store": "MEMORY", "limit": "5"}]}
    assert rest.post("/v1/queues:declare", declared)["results"][0]["outcome"] == "OUTCOME_CREATED"
    assert rest.get(queue_path(name))["queue"]["limit"] == "5"
    removed = rest.post("/v1/queues:remove", {"queues": [{"queue_id": name}]})
    assert removed["results"][0]["outcome"] == "OUTCOME_REMOVED"


def test_a_durable_queue_is_on_disk_by_either_name(tmp_path: Path) -> None:
    with ServerProcess("--data-dir", str(tmp_path / "data")) as server:
        rest = Rest(server.rest_url)
        for store in ("DISK", "BOLTDB", 2):
            assert rest.new_queue(store=store)["store"] == "DISK"
        assert server.stop() == 0


def test_statistics_are_those_of_the_server_or_of_a_queue(rest: Rest, path: str) -> None:
    rest.post(path, {})
    assert rest.get(f"{path}/stats")["queue"]["enqueued"] == "1"
    assert "version" in rest.get("/v1/stats")["server"]


def test_every_route_leads_to_a_method_of_the_server(rest: Rest) -> None:
    """Whatever the request lacks, it is neither an unknown path nor an unknown method."""
    for route in queue_routes():
        if route.streams or route.method in {"Tail", "ListConsumers", "GetHistory"}:
            continue
        path = route.template.replace("{queue_id}", "missing").replace("{ids}", "missing")
        answer = rest.ask(route.verb, path, b"{}" if route.body else None)
        assert answer.status in {200, 400, 404}, route
        assert answer.json.get("reason") not in {"NO_ROUTE", "METHOD_NOT_ALLOWED", "UNIMPLEMENTED"}, route


def test_a_retried_call_with_a_request_id_gets_the_same_message(rest: Rest, path: str) -> None:
    rest.post(f"{path}/messages", {"messages": [{"payload": payload("a")}, {"payload": payload("b")}]})
    request = {"request_id": "one"}
    assert rest.post(f"{path}/messages:pop", request) == rest.post(f"{path}/messages:pop", request)
    assert rest.get(path)["queue"]["messages"]["ready"] == "1"


def test_many_requests_share_a_connection(server: ServerProcess, path: str) -> None:
    connection = HTTPConnection("127.0.0.1", server.http_port, timeout=patient(60))
    for number in range(20):
        connection.request("POST", path, json.dumps({"payload": payload(str(number))}))
        assert connection.getresponse().read()
    connection.request("GET", path)
    assert json.loads(connection.getresponse().read())["queue"]["messages"]["ready"] == "20"
    connection.close()


def test_a_large_page_arrives_whole(rest: Rest, path: str) -> None:
    body = payload("x" * 500_000)
    for _ in range(4):
        rest.post(path, {"payload": body})
    assert [each["message"]["payload"] for each in rest.get(f"{path}/messages")["messages"]] == [body] * 4


# Refusals


def refusal(rest: Rest, method: str, path: str, body: object = None) -> tuple[int, str, str]:
    """Return the HTTP status, the reason and the text of a refusal."""
    answer = rest.ask(method, path, body)
    assert answer.headers["Content-Type"] == "application/json"
    assert set(answer.json) == {"error", "code", "reason", "facts"}
    return answer.status, answer.json["reason"], answer.json["error"]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT", "PATCH"])
@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v2/queues", "/v1/queues/", "/v1/queues/a/b", "/favicon.ico"])
def test_a_path_that_there_is_not_is_404_in_the_same_shape(rest: Rest, method: str, path: str) -> None:
    assert refusal(rest, method, path)[:2] == (404, "NO_ROUTE")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "DELETE"])
def test_a_method_that_a_path_does_not_have_is_405_with_those_it_has(rest: Rest, method: str) -> None:
    answer = rest.ask(method, "/v1/queues")
    assert (answer.status, answer.json["reason"]) == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["Allow"] == "GET, POST"


@pytest.mark.parametrize(
    "request_line",
    [b"BREW /v1/queues HTTP/1.1", b"nonsense", b"GET /" + b"a" * 10_000 + b" HTTP/1.1"],
    ids=["unknown method", "nonsense", "too long"],
)
def test_what_is_not_http_is_refused_in_the_same_shape(server: ServerProcess, request_line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=patient(60)) as connection:
        connection.sendall(request_line + b"\r\nHost: localhost\r\n\r\n")
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.split()[1] == b"400"
    assert b"X-Content-Type-Options: nosniff" in head
    assert json.loads(body)["reason"] == "INVALID_ARGUMENT"


def test_a_head_takes_no_message(rest: Rest, path: str) -> None:
    rest.post(path, {})
    assert rest.ask("HEAD", f"{path}/pop").status == 405
    assert rest.get(path)["queue"]["messages"]["ready"] == "1"


def test_a_wrong_field_is_400_and_named(rest: Rest, path: str) -> None:
    expected = {
        ("POST", f"{path}/messages:pop", '{"wait": 5}'): "wait",
        ("POST", f"{path}/messages:ack", '{"tokens": ["x"]}'): "tokens[0]",
        ("POST", f"{path}/messages", '{"messages": [{"tags": [{"key": ""}]}]}'): "messages[0].tags",
        ("POST", f"{path}/messages:pop", '{"queue_id": "other"}'): "queue_id",
        ("POST", f"{path}/messages:pop?wait=1s", "{}"): "wait",
        ("GET", f"{path}/messages?states=NONE", ""): "states",
        ("GET", f"{path}/messages?nonsense=1", ""): "nonsense",
        ("GET", f"{path}/messages?page_size=-1", ""): "page_size",
        ("GET", f"{path}/messages", "{}"): "body",
    }
    for (method, where, body), field in expected.items():
        answer = rest.ask(method, where, body.encode() or None)
        assert (answer.status, answer.json["facts"].get("field")) == (400, field), (where, answer.json)


def test_reasons_and_facts_are_those_of_the_server(rest: Rest, path: str) -> None:
    assert refusal(rest, "GET", queue_path("missing", "stats"))[:2] == (404, "QUEUE_NOT_FOUND")
    queue = rest.get(path)["queue"]["name"]
    declared = {"queues": [{"name": queue, "store": "MEMORY", "limit": "-1", "draining": True}]}
    assert rest.post("/v1/queues:declare", declared)["results"][0]["outcome"] == "OUTCOME_UPDATED"
    (result,) = rest.post(f"{path}/messages", {"messages": [{}]})["results"]
    assert result["error"]["reason"] == "QUEUE_DRAINING"
    existing = {"store": "MEMORY", "limit": "-1", "name": queue}
    assert refusal(rest, "POST", "/v1/queues", existing)[:2] == (409, "QUEUE_EXISTS")
    disk = {"store": "DISK", "limit": "-1"}
    assert refusal(rest, "POST", "/v1/queues", disk)[:2] == (412, "STORE_UNAVAILABLE")


def test_a_compressed_body_is_refused(rest: Rest, path: str) -> None:
    answer = rest.ask("POST", path, b"{}", headers={"Content-Encoding": "gzip"})
    assert (answer.status, answer.json["facts"]["field"]) == (400, "Content-Encoding")


def test_a_body_may_be_as_large_as_a_message_and_no_larger() -> None:
    with ServerProcess("--max-message-bytes", "1Mi") as server:
        rest = Rest(server.rest_url)
        path = f"/v1/queues/{rest.new_queue()['meta']['id']}"
        fits = payload("x" * ((1 << 20) - 200))
        assert rest.post(path, {"payload": fits})["message"]["payload"] == fits
        too_large = rest.ask("POST", path, {"payload": payload("x" * (1 << 20))})
        assert (too_large.status, too_large.json["reason"]) == (400, "MESSAGE_TOO_LARGE")
        with rest.open("POST", path, b" " * (1 << 21)) as response:
            assert response.status == 400
            assert json.loads(response.read())["reason"] == "MESSAGE_TOO_LARGE"
        assert rest.get(path)["queue"]["messages"] == {"ready": "1"}
        assert server.stop() == 0


def test_a_body_has_to_arrive_in_time() -> None:
    with ServerProcess("--request-timeout", "0.3") as server:
        with socket.create_connection(("127.0.0.1", server.http_port), timeout=patient(60)) as connection:
            connection.sendall(b"POST /v1/queues HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"--request-timeout" in answer
        assert server.stop() == 0


# Streams


def watch(rest: Rest, query: str = "") -> Iterator[Event]:
    """Yield the events of a watch."""
    with rest.open("GET", f"/v1/queues:watch{query}") as response:
        assert response.status == 200
        assert response.getheader("Content-Type") == "text/event-stream"
        assert response.getheader("Cache-Control") == "no-store"
        assert response.getheader("X-Accel-Buffering") == "no"
        yield from events(response)


def test_a_watch_sends_a_snapshot_and_then_changes(rest: Rest, path: str) -> None:
    name = path.rpartition("/")[2]
    following = watch(rest)
    snapshot = []
    for event in following:
        assert event.name == "snapshot"
        snapshot.append(event)
        if event.data.get("snapshot_complete"):
            break
    assert name in {queue.get("name") for event in snapshot for queue in event.data.get("queues", [])}
    rest.post(f"{path}/tag", {"key": "a", "value": "b"})
    changed = next(
        event
        for event in following
        for queue in event.data.get("queues", [])
        if queue.get("name") == name and "tags" in queue["meta"]
    )
    assert changed.name == "change"
    assert int(changed.number) > len(snapshot)
    assert [event.number for event in snapshot] == [str(number) for number in range(1, len(snapshot) + 1)]


def test_a_stream_that_is_refused_is_an_error_and_no_stream(rest: Rest) -> None:
    assert refusal(rest, "GET", "/v1/queues:watch?selector=((")[:2] == (400, "INVALID_ARGUMENT")
    assert refusal(rest, "POST", queue_path("missing", "messages:redrive"), {"all": True})[:2] == (
        404,
        "QUEUE_NOT_FOUND",
    )


def test_a_stream_ends_with_an_error_when_the_server_stops() -> None:
    with ServerProcess() as server:
        following = watch(Rest(server.rest_url))
        next(event for event in following if event.data.get("snapshot_complete"))
        assert server.stop() == 0
        last = list(following)[-1]
        assert (last.name, last.data["code"], last.data["reason"]) == ("error", 14, "SERVER_DRAINING")


@pytest.fixture
def dead(rest: Rest, rpc: Rpc, name: str) -> str:
    """The path of a queue with 30 dead messages."""
    rpc.add_batch(name, [b"x"] * 30)
    deliveries = rest.post(queue_path(name, "messages:receive"), {"max": 30})["deliveries"]
    tokens = [each["token"] for each in deliveries]
    rest.post(queue_path(name, "messages:nack"), {"tokens": tokens, "dead": True})
    return queue_path(name)


def test_a_redrive_reports_its_progress_and_its_result(rest: Rest, dead: str) -> None:
    with rest.open("POST", f"{dead}/messages:redrive", {"all": True, "rate": 20}) as response:
        seen = list(events(response))
    assert [event.name for event in seen] == ["change"] * (len(seen) - 1) + ["end"]
    assert len(seen) > 2
    assert seen[-1].data == {"redriven": "30"}
    assert rest.get(dead)["queue"]["messages"] == {"ready": "30"}


def test_a_redrive_is_one_response_for_a_client_that_accepts_json(rest: Rest, dead: str) -> None:
    how = {"headers": {"Accept": "application/json"}}
    dry = rest.ask("POST", f"{dead}/messages:redrive", {"all": True, "dry_run": True}, **how)
    assert (dry.status, dry.json) == (200, {"redriven": "30"})
    assert rest.ask("POST", f"{dead}/messages:redrive", {"all": True}, **how).json == {"redriven": "30"}
    refused = rest.ask("POST", f"{dead}/messages:redrive", {}, **how)
    assert (refused.status, refused.json["facts"]) == (400, {"field": "ids"})


def test_an_endless_stream_is_no_single_response(rest: Rest) -> None:
    answer = rest.ask("GET", "/v1/queues:watch", headers={"Accept": "application/json"})
    assert (answer.status, answer.json["facts"]) == (400, {"field": "Accept"})


@pytest.mark.need(31)
def test_a_redrive_stops_when_its_client_leaves(rest: Rest, dead: str) -> None:
    with rest.open("POST", f"{dead}/messages:redrive", {"all": True, "rate": 2}) as response:
        next(events(response))
        response.close()
    counts = rest.get(dead)["queue"]["messages"]
    assert int(counts["dead"]) > 0
    eventually(lambda: rest.ask("GET", "/v1/queues").status == 200, "the server goes on")


# Waiting


def test_a_long_poll_gets_a_message_as_soon_as_there_is_one(rest: Rest, rpc: Rpc, path: str) -> None:
    with ThreadPoolExecutor(1) as threads:
        received = threads.submit(rest.post, f"{path}/messages:receive", {"wait": "60s", "max": 1})
        eventually(lambda: rpc.stats(path.rpartition("/")[2]).waiting_calls == 1, "the call waits")
        rest.post(path, {"payload": payload("a")})
        assert len(received.result()["deliveries"]) == 1


@pytest.mark.parametrize("method", ["receive", "pop", "popBatch"])
def test_a_client_that_leaves_takes_no_message(server: ServerProcess, rpc: Rpc, path: str, method: str) -> None:
    rest, name = Rest(server.rest_url), path.rpartition("/")[2]
    connection = HTTPConnection("127.0.0.1", server.http_port, timeout=patient(60))
    connection.request("POST", f"{path}/messages:{method}", b'{"wait": "60s"}')
    eventually(lambda: rpc.stats(name).waiting_calls == 1, "the call waits")
    connection.close()
    eventually(lambda: rpc.stats(name).waiting_calls == 0, "the call is cancelled")
    rest.post(path, {"payload": payload("a")})
    assert rest.get(path)["queue"]["messages"] == {"ready": "1"}
    rpc_name = {"receive": "Receive", "pop": "Pop", "popBatch": "PopBatch"}[method]
    cancelled = samples(f"{server.metrics_url}/metrics", "queuelet_rpc_calls_total")
    assert any(rpc_name in labels and "CANCELLED" in labels for labels in cancelled)


def test_grpc_timeout_is_the_deadline_of_a_call(rest: Rest, path: str) -> None:
    answer = rest.ask("POST", f"{path}/messages:receive", {"wait": "60s"}, headers={"Grpc-Timeout": "300m"})
    assert (answer.status, answer.json) == (200, {})
    for wrong in ("1", "S", "1.5S", "-1S", "123456789S", "1s"):
        answer = rest.ask("GET", "/v1/queues", headers={"Grpc-Timeout": wrong})
        assert (answer.status, answer.json["facts"]) == (400, {"field": "Grpc-Timeout"})


def test_a_drain_ends_long_polls_with_503(name: str) -> None:
    with ServerProcess() as server, ThreadPoolExecutor(1) as threads:
        rest, rpc = Rest(server.rest_url), Rpc(server.address)
        queue = rest.new_queue(name=name)["name"]
        waiting = threads.submit(rest.ask, "POST", queue_path(queue, "messages:pop"), {"wait": "60s"})
        eventually(lambda: rpc.stats(queue).waiting_calls == 1, "the call waits")
        assert server.stop() == 0
        answer = waiting.result()
        assert (answer.status, answer.json["reason"]) == (503, "SERVER_DRAINING")
        rpc.close()


# Web pages


FOREIGN = {
    "a page by fetch": {"Origin": "https://evil.example"},
    "a page without an origin": {"Origin": "null"},
    "a picture of another site": {"Sec-Fetch-Site": "cross-site"},
    "a rebound name": {"Host": "evil.example:8080"},
}


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
def test_requests_of_foreign_pages_do_nothing(rest: Rest, path: str, headers: dict[str, str]) -> None:
    rest.post(path, {})
    for method, where in (("GET", f"{path}/pop"), ("POST", path), ("DELETE", path), ("GET", "/nothing")):
        answer = rest.ask(method, where, b"{}" if method == "POST" else None, headers=headers)
        assert (answer.status, answer.json["reason"]) == (403, "FOREIGN_PAGE")
    assert rest.get(path)["queue"]["messages"] == {"ready": "1"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "image"},
        {"Sec-Purpose": "prefetch;prerender"},
        {"Purpose": "prefetch"},
    ],
)
def test_opening_the_address_of_pop_takes_no_message(rest: Rest, path: str, headers: dict[str, str]) -> None:
    rest.post(path, {})
    answer = rest.ask("GET", f"{path}/pop", headers=headers)
    assert (answer.status, answer.json["reason"]) == (403, "FOREIGN_PAGE")
    assert "use POST" in answer.json["error"]
    assert rest.ask("GET", f"{path}/peek", headers=headers).status == 200
    own = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "empty"}
    assert rest.ask("GET", f"{path}/pop", headers=own).status == 200


def test_every_response_has_the_headers_of_security(rest: Rest, path: str) -> None:
    for answer in (
        rest.ask("GET", path),
        rest.ask("GET", "/nothing"),
        rest.ask("PUT", path),
        rest.ask("GET", path, headers={"Origin": "https://evil.example"}),
        rest.ask("POST", "/v1/queues", b"{"),
    ):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert answer.headers["Server"] == "queuelet"


def test_pages_of_an_origin_that_is_allowed_may_use_it() -> None:
    friend = {"Origin": "https://admin.example.com", "Sec-Fetch-Site": "cross-site"}
    with ServerProcess("--cors", "https://admin.example.com") as server:
        rest = Rest(server.rest_url)
        asked = {**friend, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        preflight = rest.ask("OPTIONS", "/v1/queues", headers=asked)
        assert preflight.status == 204
        assert preflight.headers["Access-Control-Allow-Origin"] == "https://admin.example.com"
        assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
        answer = rest.ask("GET", "/v1/queues", headers=friend)
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, "https://admin.example.com")
        assert answer.headers["Vary"] == "Origin"
        for stranger in ("https://admin.example.com.evil.example", "http://admin.example.com"):
            assert rest.ask("OPTIONS", "/v1/queues", headers={**asked, "Origin": stranger}).status == 403
        assert server.stop() == 0


# Ports and tokens


@pytest.mark.need(47)
def test_the_token_is_needed_on_every_route(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    with ServerProcess("--token-file", str(token)) as server:
        rest = Rest(server.rest_url)
        for route in queue_routes():
            path = route.template.replace("{queue_id}", "q").replace("{ids}", "q")
            for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer s\xe9cret"}):
                answer = rest.ask(route.verb, path, b"{}" if route.body else None, headers=header)
                assert (answer.status, answer.json["reason"]) == (401, "UNAUTHENTICATED"), route
                assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert Rest(server.rest_url, {"Authorization": "Bearer secret"}).get("/v1/queues") == {}
        assert server.stop() == 0


def test_http_can_be_turned_off() -> None:
    with ServerProcess("--http", "") as server:
        assert server.http_port == 0
        assert server.stop() == 0


def test_a_taken_port_is_an_error_only_if_it_was_asked_for() -> None:
    """By default a server starts even if another one has the usual port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(RuntimeError, match=f"--http {address}: Address already in use; give another address"):
            ServerProcess("--http", address).start()
        with pytest.raises(RuntimeError, match=f"--listen {address}: Address already in use; give another address"):
            GatewayProcess(":1", "--listen", address).start()
    free = ("--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
    with ServerProcess(*free, free_ports=False) as first, ServerProcess(*free, free_ports=False) as second:
        assert second.http_port == 0
        (warning,) = second.log(
            "serving without REST, because its usual port cannot be opened; give another one with --http, "
            "or --http '' for none"
        )
        assert (warning["level"], warning["http"]) == ("warning", "127.0.0.1:8080")
        assert (first.stop(), second.stop()) == (0, 0)


def test_calls_over_rest_are_in_the_log_and_the_metrics_like_others() -> None:
    with ServerProcess("--debug") as server:
        rest = Rest(server.rest_url)
        path = f"/v1/queues/{rest.new_queue()['meta']['id']}"
        added = rest.post(path, {"payload": payload("a")})
        line = server.wait_for_log("add")
        assert line["message"] == added["message"]["meta"]["id"]
        counted = samples(f"{server.metrics_url}/metrics", "queuelet_rpc_calls_total")
        assert any('method="Add"' in labels and 'service="proto.Q"' in labels for labels in counted)
        assert server.stop() == 0
