"""An unchanged script for negz/q's gateway `qrest`: its nine routes, its JSON and its errors.

All of it against the server's own port and against `queuelet rest`. The numbers are those of the table in
docs/compatibility.md.
"""

from __future__ import annotations

import base64
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from queuelet.cli.rest import rest as rest_command
from support.gateway_process import GatewayProcess
from support.rest import Rest, events
from support.rpc import Rpc, eventually
from support.server_process import ServerProcess


@pytest.fixture(scope="module", params=["server --http", "rest"])
def rest(request: pytest.FixtureRequest, server: ServerProcess) -> Iterator[Rest]:
    """The gateway in the server's process, and one alone."""
    if request.param == "rest":
        with GatewayProcess(server.address) as gateway:
            yield Rest(gateway.url)
    else:
        yield Rest(server.rest_url)


@pytest.fixture
def queue(rest: Rest) -> Iterator[str]:
    """The path of a queue with a limit of two."""
    path = f"/v1/queues/{rest.new_queue(limit='2')['meta']['id']}"
    yield path
    rest.delete(path)


def test_q50_all_nine_routes_work(rest: Rest) -> None:
    made = rest.post("/v1/queues", {"store": "MEMORY", "limit": "10", "tags": [{"key": "a", "value": "b"}]})["queue"]
    path = f"/v1/queues/{made['meta']['id']}"
    assert made["meta"]["id"] in {each["meta"]["id"] for each in rest.get("/v1/queues")["queues"]}
    assert rest.get(path)["queue"]["meta"] == made["meta"]
    assert rest.post(f"{path}/tag", {"key": "c", "value": "d"}) == {}
    assert rest.get(path)["queue"]["meta"]["tags"] == [{"key": "a", "value": "b"}, {"key": "c", "value": "d"}]
    assert rest.delete(f"{path}/tag", {"key": "a", "value": "b"}) == {}
    added = rest.post(path, {"tags": [{"key": "k", "value": "v"}], "payload": base64.b64encode(b"hello").decode()})
    assert rest.get(f"{path}/peek") == added
    assert rest.get(f"{path}/pop") == added
    assert rest.delete(path) == {}
    assert rest.ask("GET", path).status == 404


def test_q51_json_has_the_names_of_the_proto_file_and_no_zero_fields(rest: Rest, queue: str) -> None:
    answer = rest.ask("GET", queue)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    found = answer.json["queue"]
    assert found["store"] == "MEMORY"
    assert found["limit"] == "2"
    assert found["delivery"]["lease_seconds"] == 30
    assert "tags" not in found["meta"]
    assert found["messages"] == {}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", found["meta"]["created"])
    added = rest.post(queue, {"payload": "/+8="})["message"]
    assert added["payload"] == "/+8="
    assert set(added) == {"meta", "payload"}
    assert set(rest.post(queue, {})["message"]) == {"meta"}


def test_q51_a_body_is_json_whatever_its_content_type_says(rest: Rest, queue: str) -> None:
    for kind in ("application/x-www-form-urlencoded", "text/plain", "nonsense"):
        answer = rest.ask("POST", f"{queue}/tag", b'{"key":"a","value":"b"}', headers={"Content-Type": kind})
        assert answer.status == 200


def refused(rest: Rest, method: str, path: str, body: object = None) -> tuple[int, int, str]:
    """Return the HTTP status, the code and the text of a refusal."""
    answer = rest.ask(method, path, body)
    assert set(answer.json) == {"error", "code", "reason", "facts"}
    return answer.status, answer.json["code"], answer.json["error"]


def test_q52_errors_have_negz_q_s_texts_and_codes(rest: Rest, queue: str) -> None:
    queue_id = queue.rpartition("/")[2]
    missing = str(uuid4())
    empty = f"cannot pop message from queue: queue {queue_id} is empty"
    assert refused(rest, "GET", f"{queue}/pop") == (404, 5, empty)
    assert refused(rest, "GET", f"{queue}/peek") == (404, 5, f"cannot peek into queue: queue {queue_id} is empty")
    unknown = f"cannot get queue {missing}: cannot find queue with id {missing}"
    for method, tail, body in (
        ("GET", "", None),
        ("GET", "/pop", None),
        ("GET", "/peek", None),
        ("POST", "", {}),
        ("POST", "/tag", {"key": "a"}),
        ("DELETE", "/tag", {"key": "a"}),
    ):
        assert refused(rest, method, f"/v1/queues/{missing}{tail}", body) == (404, 5, unknown)
    assert rest.delete(f"/v1/queues/{missing}") == {}
    status, code, text = refused(rest, "GET", "/v1/queues/nonsense")
    assert (status, code) == (400, 3)
    assert text.startswith("cannot parse ID: cannot parse ID nonsense as a UUID: ")
    rest.post(queue, {})
    rest.post(queue, {})
    full = f"cannot add message to queue: queue {queue_id} has reached limit of 2 messages"
    assert refused(rest, "POST", queue, {}) == (403, 8, full)


def test_the_other_routes_have_the_usual_codes(rest: Rest, queue: str) -> None:
    """Nothing of `queuelet.v1` is 403 because a bound is reached."""
    assert refused(rest, "POST", f"{queue}/messages:pop", {"wait": "-1s"})[:2] == (400, 3)
    assert refused(rest, "POST", f"{queue}/pop", {}) == (
        404,
        5,
        f"queue {queue.rpartition('/')[2]} has no message that is ready",
    )
    for _ in range(2):
        rest.post(queue, {})
    results = rest.post(f"{queue}/messages", {"messages": [{}]})["results"]
    assert results[0]["error"]["reason"] == "QUEUE_FULL"


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"3", b'"text"', b"null x", b"", b"\xff", b'{"limit": "many"}', b'{"nonsense": 1}', b"[" * 100_000],
)
def test_q52_bad_json_is_400(rest: Rest, body: bytes) -> None:
    answer = rest.ask("POST", "/v1/queues", body)
    assert (answer.status, answer.json["code"]) == (400, 3)


def test_q52_the_reason_is_in_the_body_too(rest: Rest, queue: str) -> None:
    assert rest.ask("GET", f"{queue}/pop").json["reason"] == "QUEUE_EMPTY"
    facts = rest.ask("GET", f"{queue}/pop").json["facts"]
    assert facts == {"queue": queue.rpartition("/")[2]}


# The gateway alone


def test_q41_it_logs_the_start_and_each_request_with_negz_q_s_keys(server: ServerProcess) -> None:
    with GatewayProcess(server.address, env={"QREST_DEBUG": "true"}) as gateway:
        (started,) = gateway.log("gateway initialised")
        assert (started["listen"], started["server"]) == ("127.0.0.1:0", server.address)
        Rest(gateway.url, {"User-Agent": "a script"}).get("/v1/queues?x=1")
        request = gateway.wait_for_log("request")
        assert request["host"] == f"127.0.0.1:{gateway.port}"
        assert (request["method"], request["url"], request["agent"]) == ("GET", "/v1/queues?x=1", "a script")
        assert request["remote"] == "127.0.0.1"
        assert gateway.wait_for_log("forwarded response")["level"] == "debug"
        assert gateway.stop() == 0


def test_q41_variables_of_negz_q_set_its_flags(server: ServerProcess) -> None:
    env = {"QREST_CLOSE_AFTER": "3s", "QREST_KILL_AFTER": "4s"}
    with GatewayProcess(server.address, env=env) as gateway:
        gateway.signal(signal.SIGTERM)
        draining = gateway.wait_for_log("draining")
        assert (draining["close_after"], draining["kill_after"]) == (3, 4)
        assert gateway.wait() == 0


def test_q41_it_listens_on_port_80_by_default() -> None:
    listen = next(option for option in rest_command.params if option.name == "listen")
    assert listen.default == ":80"
    assert isinstance(listen.envvar, list)
    assert "QREST_LISTEN" in listen.envvar


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_q41_metrics_and_quitquitquit_are_on_the_same_port(server: ServerProcess, method: str) -> None:
    with GatewayProcess(server.address) as gateway:
        rest = Rest(gateway.url)
        rest.get("/v1/queues")
        metrics = rest.ask("GET", "/metrics")
        assert metrics.headers["Content-Type"].startswith("text/plain; version=1.0.0")
        assert b'queuelet_gateway_request_seconds_count{method="GET",status="200"} 1.0' in metrics.body
        assert b"process_resident_memory_bytes" in metrics.body
        assert rest.ask(method, "/quitquitquit").status == 200
        assert gateway.wait() == 0
        assert gateway.log("shutdown requested")[0]["remote"] == "127.0.0.1"


def test_a_stop_from_elsewhere_is_refused(server: ServerProcess) -> None:
    with GatewayProcess(server.address) as gateway:
        answer = Rest(gateway.url).ask("GET", "/quitquitquit", headers={"Host": "gateway"})
        assert answer.status == 403
        assert "--quit-from-anywhere" in answer.json["error"]
        assert gateway.stop() == 0


def test_a_server_that_is_away_is_503_until_it_is_back() -> None:
    with ServerProcess() as server:
        port = server.port
        with GatewayProcess(server.address) as gateway:
            rest = Rest(gateway.url)
            rest.get("/v1/queues")
            assert server.stop() == 0
            answer = rest.ask("GET", "/v1/queues")
            assert (answer.status, answer.json["code"], answer.json["reason"]) == (503, 14, "UNREACHABLE")
            assert "cannot reach the server" in answer.json["error"]
            with ServerProcess("--listen", f"127.0.0.1:{port}"):
                eventually(lambda: rest.ask("GET", "/v1/queues").status == 200, "the gateway reaches the new server")
            assert gateway.stop() == 0


def test_a_stop_lets_a_long_poll_end_and_ends_streams(server: ServerProcess, rpc: Rpc, name: str) -> None:
    with GatewayProcess(server.address) as gateway, ThreadPoolExecutor(1) as threads:
        rest = Rest(gateway.url)
        with rest.open("GET", "/v1/queues:watch") as watch:
            following = events(watch)
            next(event for event in following if event.data.get("snapshot_complete"))
            pop = threads.submit(rest.post, f"/v1/queues/{name}/messages:pop", {"wait": "60s"})
            eventually(lambda: rpc.stats(name).waiting_calls == 1, "the call waits")
            gateway.signal(signal.SIGTERM)
            gateway.wait_for_log("draining")
            last = list(following)[-1]
            assert (last.name, last.data["reason"]) == ("error", "SERVER_DRAINING")
            rpc.add(name, b"x")
            assert pop.result()["message"]["payload"] == "eA=="
        assert gateway.wait() == 0


def test_q50_the_list_of_queues_has_pages_if_the_request_asks_for_them(rest: Rest, queue: str) -> None:
    """negz/q's list has none, so that its scripts get all queues at once."""
    rest.new_queue()
    first = rest.get("/v1/queues?page_size=1")
    assert len(first["queues"]) == 1
    rest_of_them = rest.get(f"/v1/queues?page_token={first['next_page_token']}")
    everything = rest.get("/v1/queues")
    assert "next_page_token" not in everything
    assert [each["meta"]["id"] for each in first["queues"] + rest_of_them["queues"]] == [
        each["meta"]["id"] for each in everything["queues"]
    ]
