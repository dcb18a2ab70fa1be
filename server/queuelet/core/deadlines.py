"""A heap of due times. Stale entries are skipped, and the heap is rebuilt once most entries are stale."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

NEVER = 1 << 63
"""A time that is never reached, in nanoseconds since 1970."""

SLACK = 64
"""The number of entries that may be stale before the heap is rebuilt without them."""


class Deadlines(Generic[Key]):
    """Due times by key. The owner knows which entries are still valid, so moving or dropping a time costs nothing here.

    An entry is live as long as `is_live(time, key)` is true; otherwise it is stale. Equal entries may be merged. Keys
    are compared if their times are equal.
    """

    __slots__ = ("_heap", "_is_live", "_most")

    def __init__(self, is_live: Callable[[int, Key], bool]) -> None:
        self._heap: list[tuple[int, Key]] = []
        self._is_live = is_live
        self._most = SLACK

    def __len__(self) -> int:
        """Return the number of entries, including stale ones."""
        return len(self._heap)

    def add(self, at: int, key: Key) -> None:
        """Add a time for a key. Earlier times of the key stay until they are stale."""
        heappush(self._heap, (at, key))
        if len(self._heap) > self._most:
            is_live = self._is_live
            self._heap = [entry for entry in set(self._heap) if is_live(*entry)]
            heapify(self._heap)
            self._most = 2 * len(self._heap) + SLACK

    def add_many(self, entries: Iterable[tuple[int, Key]]) -> None:
        """Add many live entries at once, which takes less time than one by one."""
        self._heap += entries
        heapify(self._heap)
        self._most = max(self._most, 2 * len(self._heap) + SLACK)

    @property
    def earliest(self) -> int:
        """The earliest time of any entry, live or stale; `NEVER` if there are no entries."""
        return self._heap[0][0] if self._heap else NEVER

    @property
    def next_at(self) -> int:
        """The earliest time of a live entry; `NEVER` if there is none."""
        heap, is_live = self._heap, self._is_live
        while heap:
            entry = heap[0]
            if is_live(*entry):
                return entry[0]
            heappop(heap)
        return NEVER

    def pop(self) -> tuple[int, Key]:
        """Remove and return the earliest entry, live or stale. There must be one."""
        return heappop(self._heap)

    def clear(self) -> None:
        """Remove all entries."""
        self._heap.clear()
        self._most = SLACK
