"""An unchanged script for negz/q's gateway `qrest`: its nine routes, its JSON and its errors.

The numbers are those of the table in docs/compatibility.md.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from uuid import uuid4

import pytest

from support.rest import Rest
from support.server_process import ServerProcess


@pytest.fixture(scope="module")
def rest(server: ServerProcess) -> Rest:
    """The gateway in the server's process."""
    return Rest(server.rest_url)


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


def test_a_full_queue_is_429_on_the_other_routes(rest: Rest, queue: str) -> None:
    for _ in range(2):
        rest.post(queue, {})
    answer = rest.ask("POST", f"{queue}/messages:pop", {"wait": "-1s"})
    assert answer.status == 400
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
