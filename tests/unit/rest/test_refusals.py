"""Errors have one shape, and the HTTP status that their code has on the route."""

from __future__ import annotations

import json

import pytest

from queuelet.errors import QueueFull
from queuelet.rest.refusals import HTTP_STATUS, NEGZ_HTTP_STATUS, no_such_path, refusal_of, refusal_of_error, wrong_verb
from queuelet.wire.errors import Code, Status, negz_status_of


@pytest.mark.parametrize("code", Code, ids=lambda code: code.name)
def test_every_code_has_an_http_status_on_every_route(code: Code) -> None:
    for table in (HTTP_STATUS, NEGZ_HTTP_STATUS):
        assert 400 <= table[code] < 600
    refusal = refusal_of(Status(code, "text"))
    assert json.loads(refusal.to_json()) == {"error": "text", "code": int(code), "reason": code.name, "facts": {}}


def test_q52_negz_q_s_codes_have_the_http_status_of_its_gateway() -> None:
    expected = {3: 400, 5: 404, 8: 403, 2: 500, 14: 503}
    assert {code: NEGZ_HTTP_STATUS[code] for code in expected} == expected


def test_a_full_queue_is_403_for_negz_q_and_429_for_others() -> None:
    error = QueueFull("full", queue="orders", limit=3)
    assert refusal_of_error(error).http_status == 429
    refusal = refusal_of(negz_status_of(error, "Add"), negz=True)
    assert refusal.http_status == 403
    assert json.loads(refusal.to_json()) == {
        "error": "cannot add message to queue: queue orders has reached limit of 3 messages",
        "code": 8,
        "reason": "QUEUE_FULL",
        "facts": {"queue": "orders", "limit": "3"},
    }


def test_details_of_others_are_not_taken_for_ours() -> None:
    assert refusal_of(Status(Code.NOT_FOUND, "text", b"\xff garbage")).reason == "NOT_FOUND"


def test_the_router_s_own_errors_have_the_same_shape() -> None:
    for refusal in (no_such_path("/x"), wrong_verb("PUT", "GET, POST")):
        assert set(json.loads(refusal.to_json())) == {"error", "code", "reason", "facts"}
