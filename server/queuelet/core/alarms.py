"""Alarms: when something becomes due in a queue of itself: a lease ends, a delay is over, a message expires.

Nothing here waits. Whoever has a clock asks for `next_at`, and calls `ring` when that time has come.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from queuelet.core.deadlines import Deadlines
from queuelet.errors import QueueletError


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
        # Sleepers are not compared: no two that are kept here have the same id.
        self._heap: Deadlines[tuple[int, Sleeper]] = Deadlines(lambda at, key: at == key[1].next_event)
        self.on_earlier: Callable[[int], None] = lambda _: None
        """Called with `next_at` when it moves closer."""

    @property
    def next_at(self) -> int:
        """When `ring` has to be called next, in nanoseconds since 1970."""
        return self._heap.earliest

    def set(self, sleeper: Sleeper) -> None:
        """Wake somebody at its `next_event`, which has changed."""
        is_earlier = sleeper.next_event < self.next_at
        self._heap.add(sleeper.next_event, (id(sleeper), sleeper))
        if is_earlier:
            self.on_earlier(sleeper.next_event)

    def ring(self, now: int) -> None:
        """Wake one whose time has come; call again while `next_at` is not later than now."""
        if self._heap.next_at <= now:
            _, (_, sleeper) = self._heap.pop()
            # What has ended in the meantime has nothing to do.
            with suppress(QueueletError):
                sleeper.advance(now)
