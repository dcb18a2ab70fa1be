"""The messages and what their handler notes of them."""

from __future__ import annotations

import asyncio
from array import array
from struct import Struct
from time import monotonic_ns

SIZE = 1_024
"""Bytes a message."""

_HEAD = Struct("<qq")
_REST = b"x" * (SIZE - _HEAD.size)


def message(number: int, stamp: int) -> bytes:
    """Return a message that says which one it is and when it was put, in nanoseconds that all processes share."""
    return _HEAD.pack(stamp, number) + _REST


class Record:
    """Notes each message that is handled: how old it was, and that it came."""

    def __init__(self) -> None:
        self.remaining = 0
        """How many messages are still expected."""
        self.total = 0
        """How many messages there are to be from the very first on."""
        self.complete = asyncio.Event()
        """Set once the last of them was handled."""
        self._seen = bytearray()
        self._ages = array("q")

    def expect(self, count: int) -> None:
        """Begin anew, with so many messages to come."""
        self.remaining = count
        self.total += count
        self.complete.clear()
        self._seen = bytearray(count)
        self._ages = array("q")

    def handle(self, payload: bytes) -> None:
        """Do a message's work."""
        stamp, number = _HEAD.unpack_from(payload)
        self._ages.append(monotonic_ns() - stamp)
        self._seen[number] = 1
        self.remaining -= 1
        if not self.remaining:
            self.complete.set()

    @property
    def handled(self) -> int:
        """How many different messages were handled."""
        return self._seen.count(1)

    def age(self, share: float) -> float:
        """Return how old, in milliseconds, such a share of the messages was at most."""
        ages = sorted(self._ages)
        return ages[min(len(ages) - 1, int(len(ages) * share))] / 1e6
