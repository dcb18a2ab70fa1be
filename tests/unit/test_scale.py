"""Operations stay cheap however many messages stand: counted in look-ups, which no machine's noise changes."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from queuelet.stores.memory import MemoryMessages

STANDING = 1_000_000 if os.environ.get("QUEUELET_SOAK") == "1" else 100_000
ROUNDS = 1_000
MOST_LOOKUPS = 40
"""Amortised, an operation: the logarithm of a million is 20."""


class CountedMessages(dict[int, bytes]):
    """The index of messages, counting how often it is asked."""

    lookups = 0

    def __contains__(self, key: object) -> bool:
        type(self).lookups += 1
        return super().__contains__(key)

    def get(self, key: int, default: bytes | None = None) -> bytes | None:  # type: ignore[override]  # one signature is enough
        type(self).lookups += 1
        return super().get(key, default)


def standing() -> MemoryMessages:
    """Return many messages with a large gap in the middle and another at the head."""
    messages = MemoryMessages()
    for seq in range(1, STANDING + 1):
        messages.append(seq, b"x")
    for seq in range(STANDING // 3, STANDING // 2):
        messages.discard(seq)
    for seq in range(1, STANDING // 10):
        messages.discard(seq)
    messages._bodies = CountedMessages(messages._bodies)  # noqa: SLF001  # the probe goes inside
    return messages


OPERATIONS: dict[str, Callable[[MemoryMessages, int], object]] = {
    "append": lambda messages, n: messages.append(STANDING + n + 1, b"x"),
    "take": lambda messages, _: messages.take(),
    "take many": lambda messages, _: messages.take_many(10, 1_000),
    "peek": lambda messages, _: messages.head(1, 0),
    "peek across a gap": lambda messages, _: messages.after(STANDING // 3 - 2, 5),
    "browse": lambda messages, n: messages.after(STANDING // 2 + n, 10),
    "get": lambda messages, n: messages.get(STANDING - n),
    "discard": lambda messages, n: messages.discard(STANDING - 2 * n),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_an_operation_looks_at_few_messages(operation: Callable[[MemoryMessages, int], object]) -> None:
    messages = standing()
    operation(messages, 0)  # the first may walk a gap, once
    CountedMessages.lookups = 0
    for n in range(1, ROUNDS):
        operation(messages, n)
    assert CountedMessages.lookups <= ROUNDS * MOST_LOOKUPS
