"""All waiters of a queue: their maximum, and which of them is woken for a message."""

from __future__ import annotations

from functools import partial

import pytest

from queuelet.core.consumers import Claim
from queuelet.core.waiting import Taker
from queuelet.errors import TooMany
from support.drafts import draft
from support.queues import add, make_queue


def test_the_calls_that_wait_are_bounded() -> None:
    queue = make_queue(limit=1, waiting=2)
    add(queue, b"a")
    for _ in range(2):
        queue.wait_to_add([draft(b"b")], lambda: None, now=1)
    with pytest.raises(TooMany, match="--max-waiting"):
        queue.wait_to_add([draft(b"c")], lambda: None, now=1)
    with pytest.raises(TooMany):
        queue.waiters.wait_for_message(Taker(lambda: None))
    assert queue.waiters.refused == 2


def test_the_calls_of_one_address_that_wait_are_bounded_in_every_way_of_waiting() -> None:
    queue = make_queue(limit=1, waiting=10, waiting_per_peer=3)
    add(queue, b"a")
    claims = [Claim(lambda: None, is_exclusive=True, peer="greedy") for _ in range(2)]
    for claim in claims:
        queue.claims.add(claim)  # the first of them holds the queue and does not wait
    adding = queue.wait_to_add([draft(b"b")], lambda: None, 1, "greedy")
    taker = Taker(lambda: None, "greedy")
    queue.waiters.wait_for_message(taker)
    for wait in (
        lambda: queue.claims.add(Claim(lambda: None, is_exclusive=True, peer="greedy")),
        lambda: queue.wait_to_add([draft(b"c")], lambda: None, 1, "greedy"),
        lambda: queue.waiters.wait_for_message(Taker(lambda: None, "greedy")),
    ):
        with pytest.raises(TooMany, match=r"greedy.*--max-waiting-per-peer"):
            wait()
    assert len(queue.waiters) == queue.waiters.refused == 3
    for end_a_wait in (
        lambda: queue.waiters.stop_waiting(taker),
        lambda: queue.give_up_adding(adding, 1),
        lambda: queue.claims.drop(claims[1]),
    ):
        end_a_wait()
        queue.waiters.wait_for_message(Taker(lambda: None, "modest"))
        queue.waiters.wait_for_message(Taker(lambda: None, "greedy"))
    assert len(queue.waiters) == 6


def test_each_message_wakes_one_waiter() -> None:
    queue = make_queue()
    woken: list[int] = []
    for number in range(3):
        queue.waiters.wait_for_message(Taker(partial(woken.append, number)))
    add(queue, b"a", b"b")
    assert woken == [0, 1]


def test_a_woken_waiter_that_gives_up_passes_its_turn_on() -> None:
    queue = make_queue()
    woken: list[str] = []

    first = Taker(lambda: woken.append("first"))
    queue.waiters.wait_for_message(first)
    queue.waiters.wait_for_message(Taker(lambda: woken.append("second")))
    add(queue, b"a")
    queue.waiters.give_up_waiting(first)
    assert woken == ["first", "second"]
