"""The messages, and what their handler records."""

from __future__ import annotations

import asyncio
from array import array
from struct import Struct
from time import monotonic_ns

SIZE = 1_024
"""Bytes per message."""

_HEAD = Struct("<qq")
_REST = b"x" * (SIZE - _HEAD.size)


def message(number: int, stamp: int) -> bytes:
    """Return a message with its number and its time of put, in nanoseconds on the clock that all processes share."""
    return _HEAD.pack(stamp, number) + _REST


class Record:
    """Records each handled message: its number and its age."""

    def __init__(self) -> None:
        self.remaining = 0
        """How many messages are still expected."""
        self.total = 0
        """Total number of messages since the first."""
        self.complete = asyncio.Event()
        """Set once the last of them was handled."""
        self._seen = bytearray()
        self._ages = array("q")

    def expect(self, count: int) -> None:
        """Reset, and expect this many messages."""
        self.remaining = count
        self.total += count
        self.complete.clear()
        self._seen = bytearray(count)
        self._ages = array("q")

    def handle(self, payload: bytes) -> None:
        """Handle a message."""
        stamp, number = _HEAD.unpack_from(payload)
        self._ages.append(monotonic_ns() - stamp)
        self._seen[number] = 1
        self.remaining -= 1
        if not self.remaining:
            self.complete.set()

    @property
    def handled(self) -> int:
        """How many distinct messages were handled."""
        return self._seen.count(1)

    def age(self, share: float) -> float:
        """Return the age in milliseconds that this share of the messages did not exceed."""
        ages = sorted(self._ages)
        return ages[min(len(ages) - 1, int(len(ages) * share))] / 1e6
