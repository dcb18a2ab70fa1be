"""A heap of times in which stale entries are skipped, and removed once most of them are stale."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

NEVER = 1 << 63
"""A time that does not come, in nanoseconds since 1970."""

SLACK = 64
"""How many entries may be stale before it is worth looking for them."""


class Deadlines(Generic[Key]):
    """Times by key. The owner knows which entries still count, so that a moved or dropped time costs nothing here.

    An entry counts as long as `is_live` says so of its time and its key. Equal entries are one. Keys are compared
    where times are equal.
    """

    __slots__ = ("_heap", "_is_live", "_most")

    def __init__(self, is_live: Callable[[int, Key], bool]) -> None:
        """Begin empty."""
        self._heap: list[tuple[int, Key]] = []
        self._is_live = is_live
        self._most = SLACK

    def __len__(self) -> int:
        """Return how many entries are kept, stale ones included."""
        return len(self._heap)

    def add(self, at: int, key: Key) -> None:
        """Note a time of a key."""
        heappush(self._heap, (at, key))
        if len(self._heap) > self._most:
            is_live = self._is_live
            self._heap = [entry for entry in set(self._heap) if is_live(*entry)]
            heapify(self._heap)
            self._most = 2 * len(self._heap) + SLACK

    @property
    def earliest(self) -> int:
        """The earliest time, which may be stale; `NEVER` if there is none."""
        return self._heap[0][0] if self._heap else NEVER

    @property
    def next_at(self) -> int:
        """The earliest time that counts; `NEVER` if there is none."""
        heap, is_live = self._heap, self._is_live
        while heap:
            entry = heap[0]
            if is_live(*entry):
                return entry[0]
            heappop(heap)
        return NEVER

    def pop(self) -> tuple[int, Key]:
        """Remove and return the earliest entry, which may be stale. There must be one."""
        return heappop(self._heap)

    def clear(self) -> None:
        """Remove all."""
        self._heap.clear()
        self._most = SLACK
