"""Operations stay cheap with very many messages. Lookups are counted instead of time, because time is noisy."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import pytest

from queuelet.core.budget import MemoryBudget
from queuelet.core.message import Terms
from queuelet.core.queue import Queue
from queuelet.stores.memory import MemoryMessages
from support.drafts import draft
from support.queues import make_queue

STANDING = 1_000_000 if os.environ.get("QUEUELET_SOAK") == "1" else 100_000
ROUNDS = 1_000
T = TypeVar("T")
MAX_LOOKUPS = 40
"""Amortised lookups per operation: the logarithm of a million is 20."""


class CountedMessages(dict[int, T]):
    """An index by sequence number that counts the lookups in all indexes of its class."""

    lookups = 0

    def __contains__(self, key: object) -> bool:
        CountedMessages.lookups += 1
        return super().__contains__(key)

    def __getitem__(self, key: int) -> T:
        CountedMessages.lookups += 1
        return super().__getitem__(key)

    def get(self, key: int, default: T | None = None) -> T | None:  # type: ignore[override]  # one signature is enough
        CountedMessages.lookups += 1
        return super().get(key, default)


def standing() -> MemoryMessages:
    """Return many messages with a large gap in the middle and another one at the start."""
    messages = MemoryMessages(MemoryBudget(1 << 50))
    for seq in range(1, STANDING + 1):
        messages.append(seq, b"x")
    for seq in range(STANDING // 3, STANDING // 2):
        messages.discard(seq)
    for seq in range(1, STANDING // 10):
        messages.discard(seq)
    messages._bodies = CountedMessages(messages._bodies)  # noqa: SLF001  # the test counts lookups inside
    return messages


OPERATIONS: dict[str, Callable[[MemoryMessages, int], object]] = {
    "append": lambda messages, n: messages.append(STANDING + n + 1, b"x"),
    "take": lambda messages, _: messages.take(),
    "take many": lambda messages, _: messages.take_many(10, 1_000),
    "peek": lambda messages, _: messages.first_many(1, 0),
    "peek across a gap": lambda messages, _: messages.after(STANDING // 3 - 2, 5, 1 << 40),
    "lift": lambda messages, _: messages.checkout_many(10, 1_000),
    "put back": lambda messages, _: messages.return_to_line(messages.checkout_many(1, 0)[0][0]),
    "browse": lambda messages, n: messages.after(STANDING // 2 + n, 10, 1 << 40),
    "browse backwards": lambda messages, n: messages.before(STANDING - n, 10, 1 << 40),
    "browse backwards across a gap": lambda messages, _: messages.before(STANDING // 2 + 3, 5, 1 << 40),
    "get": lambda messages, n: messages.get(STANDING - n),
    "discard": lambda messages, n: messages.discard(STANDING - 2 * n),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_an_operation_looks_at_few_messages(operation: Callable[[MemoryMessages, int], object]) -> None:
    messages = standing()
    operation(messages, 0)  # the first one may walk through a gap
    CountedMessages.lookups = 0
    for n in range(1, ROUNDS):
        operation(messages, n)
    assert CountedMessages.lookups <= ROUNDS * MAX_LOOKUPS


SECOND = 1_000_000_000
NOW = 1_000 * SECOND


@cache
def busy_queue() -> Queue:
    """Return a queue with many messages: leased, delayed, ready with a rank, and in line."""
    queue = make_queue(now=NOW)
    for _ in range(STANDING):
        queue.add(draft(b"x"), NOW)
    for _ in range(STANDING // 1_000):
        queue.receive(1_000, 1 << 30, NOW, lease=1_000 * SECOND)
    for terms in (Terms(delay=1_000 * SECOND), Terms(priority=1, ttl=1_000 * SECOND), None):
        for _ in range(STANDING):
            queue.add(draft(b"x", terms=terms), NOW)
    messages = queue._messages  # noqa: SLF001  # the test counts lookups inside
    assert isinstance(messages, MemoryMessages)
    messages._bodies = CountedMessages(messages._bodies)  # noqa: SLF001  # the test counts lookups inside
    messages.ranks = CountedMessages(messages.ranks)
    messages.deliveries = CountedMessages(messages.deliveries)
    return queue


def lease_and(queue: Queue, settle: Callable[[list[int]], object]) -> None:
    """Lease a message and do something with its token."""
    settle([queue.receive(1, 1 << 20, NOW).first_token])


BUSY: dict[str, Callable[[Queue, int], object]] = {
    "add": lambda queue, _: queue.add(draft(b"x"), NOW),
    "add ranked": lambda queue, n: queue.add(draft(b"x", terms=Terms(priority=n % 7, ttl=SECOND)), NOW),
    "pop": lambda queue, _: queue.pop(NOW),
    "peek": lambda queue, _: queue.peek(NOW),
    "receive and ack": lambda queue, _: lease_and(queue, lambda tokens: queue.ack(tokens, NOW)),
    "receive and nack": lambda queue, _: lease_and(queue, lambda tokens: queue.nack(tokens, NOW, delay=SECOND)),
    "receive and extend": lambda queue, _: lease_and(queue, lambda tokens: queue.extend(tokens, NOW)),
    "purge": lambda queue, n: queue.purge([STANDING + 2 * n], NOW),
    "browse": lambda queue, n: queue.browse(3 * n, 3, now=NOW),
    "browse backwards": lambda queue, n: queue.browse(STANDING + 3 * n, 3, now=NOW, descending=True),
    "nothing due": lambda queue, n: queue.advance(NOW + n),
}


@pytest.mark.parametrize("operation", BUSY.values(), ids=BUSY.keys())
def test_an_operation_of_a_busy_queue_looks_at_few_messages(operation: Callable[[Queue, int], object]) -> None:
    queue = busy_queue()
    operation(queue, 0)  # the first one may walk through a gap
    CountedMessages.lookups = 0
    for n in range(1, ROUNDS):
        operation(queue, n)
    assert CountedMessages.lookups <= ROUNDS * MAX_LOOKUPS


def test_messages_outside_the_line_are_not_walked_through_each_time() -> None:
    messages = MemoryMessages(MemoryBudget(1 << 50))
    messages.append(1, b"x")
    for seq in range(2, STANDING):
        messages.keep(seq, b"x", Terms(priority=1).rank(1))
    messages.first_many(2, 1_000)
    messages._bodies = CountedMessages(messages._bodies)  # noqa: SLF001  # the test counts lookups inside
    CountedMessages.lookups = 0
    for seq in range(STANDING, STANDING + ROUNDS):
        messages.keep(seq, b"x", Terms(priority=1).rank(1))
        assert messages.first_many(2, 1_000)[0] == [1]
    assert CountedMessages.lookups <= ROUNDS * MAX_LOOKUPS
