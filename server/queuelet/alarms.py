"""Alarms: when something becomes due in a queue of itself: a lease ends, a delay is over, a message expires.

Nothing here waits. Whoever has a clock asks for `next_at`, and calls `ring` when that time has come.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Protocol

from queuelet.errors import QueueletError
from queuelet.leases import NEVER

_SLACK = 64
"""How many alarms may be set before it is worth looking which of them were moved."""


class Sleeper(Protocol):
    """What can be woken."""

    next_event: int
    """When it wants to be woken next, in nanoseconds since 1970; `NEVER` for not at all."""

    def advance(self, now: int) -> None:
        """Do what is due, or some of it, set `next_event`, and the alarm for it."""


class Alarms:
    """Who is to be woken when."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._heap: list[tuple[int, int, Sleeper]] = []
        self._most = _SLACK
        self._numbers = count()
        self.on_earlier: Callable[[int], None] = lambda _: None
        """Called with `next_at` when it moves closer."""

    @property
    def next_at(self) -> int:
        """When `ring` has to be called next, in nanoseconds since 1970."""
        return self._heap[0][0] if self._heap else NEVER

    def set(self, sleeper: Sleeper) -> None:
        """Wake somebody at its `next_event`, which has changed."""
        is_earlier = sleeper.next_event < self.next_at
        heappush(self._heap, (sleeper.next_event, next(self._numbers), sleeper))
        if len(self._heap) > self._most:
            # Those that were moved keep what they would wake in memory, for weeks where a time to live is long.
            self._heap = [entry for entry in self._heap if entry[0] == entry[2].next_event]
            heapify(self._heap)
            self._most = 2 * len(self._heap) + _SLACK
        if is_earlier:
            self.on_earlier(sleeper.next_event)

    def ring(self, now: int) -> None:
        """Wake one whose time has come; call again while `next_at` is not later than now."""
        while self._heap and self._heap[0][0] <= now:
            at, _, sleeper = heappop(self._heap)
            # An alarm that was moved is still here at its old time.
            if at == sleeper.next_event:
                # What has ended in the meantime has nothing to do.
                with suppress(QueueletError):
                    sleeper.advance(now)
                return
