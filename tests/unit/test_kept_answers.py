"""Kept answers: a call repeated with its request id gets what it got before."""

from __future__ import annotations

import pytest

from queuelet.core.request_ids import KEPT, MOST
from queuelet.errors import TooManyAnswers
from support.queues import make_queue


def test_an_answer_is_found_again_for_a_minute() -> None:
    answers = make_queue().answers
    assert answers.lookup_or_admit(b"key", 5) is None
    answers.keep(b"key", b"answer", 5)
    assert answers.lookup_or_admit(b"key", 5 + KEPT - 1) == b"answer"
    assert answers.lookup_or_admit(b"key", 5 + KEPT) is None


def test_answers_are_bounded_and_the_old_make_room() -> None:
    answers = make_queue().answers
    for number in range(MOST):
        answers.keep(b"%d" % number, b"answer", 5 + number)
    with pytest.raises(TooManyAnswers, match="orders"):
        answers.lookup_or_admit(b"another", 5 + MOST)
    assert answers.lookup_or_admit(b"7", 5 + MOST) == b"answer"
    assert answers.lookup_or_admit(b"another", 5 + KEPT) is None


def test_answers_count_to_the_memory_budget_until_they_are_dropped() -> None:
    queue = make_queue()
    budget = queue._budget  # noqa: SLF001  # the budget is what is tested
    before = budget.used
    queue.answers.keep(b"key", b"answer" * 100, 5)
    assert budget.used > before + 600
    queue.answers.lookup_or_admit(b"other", 5 + KEPT)
    assert budget.used == before
