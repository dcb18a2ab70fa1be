"""Idempotent calls: a retry with the same request ID gets the stored response."""

from __future__ import annotations

import pytest

from queuelet.core.request_ids import MAX_RESPONSES, RETENTION_NS
from queuelet.errors import TooManyResponses
from support.queues import budget_of, make_queue


def test_a_response_is_stored_for_a_minute() -> None:
    responses = make_queue().responses
    assert responses.lookup_or_admit(b"key", 5) is None
    responses.store(b"key", b"response", 5)
    assert responses.lookup_or_admit(b"key", 5 + RETENTION_NS - 1) == b"response"
    assert responses.lookup_or_admit(b"key", 5 + RETENTION_NS) is None


def test_responses_are_bounded_and_expired_ones_make_room() -> None:
    responses = make_queue().responses
    for number in range(MAX_RESPONSES):
        responses.store(b"%d" % number, b"response", 5 + number)
    with pytest.raises(TooManyResponses, match="orders"):
        responses.lookup_or_admit(b"another", 5 + MAX_RESPONSES)
    assert responses.lookup_or_admit(b"7", 5 + MAX_RESPONSES) == b"response"
    assert responses.lookup_or_admit(b"another", 5 + RETENTION_NS) is None


def test_responses_count_in_the_memory_budget_until_they_are_dropped() -> None:
    queue = make_queue()
    budget = budget_of(queue)
    before = budget.used
    queue.responses.store(b"key", b"response" * 100, 5)
    assert budget.used > before + 600
    queue.responses.lookup_or_admit(b"other", 5 + RETENTION_NS)
    assert budget.used == before
