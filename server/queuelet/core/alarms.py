"""Alarms: when each queue has to be advanced because a lease or a delay ends or a message expires.

Nothing here waits. The server's timer sleeps until `next_at` and then calls `ring`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from queuelet.core.deadlines import Deadlines
from queuelet.errors import QueueletError


class Sleeper(Protocol):
    """A queue, as far as alarms need to know it."""

    next_event: int
    """When to call `advance` next, in nanoseconds since 1970, or `NEVER`."""

    def advance(self, now: int) -> None:
        """Do all or part of the overdue work, then update `next_event` and set the alarm for it."""


class Alarms:
    """The alarms of all queues of a server."""

    def __init__(self) -> None:
        # `id` comes first, because sleepers themselves cannot be compared.
        self._heap: Deadlines[tuple[int, Sleeper]] = Deadlines(lambda at, key: at == key[1].next_event)
        self.on_earlier: Callable[[int], None] = lambda _: None
        """Called with the new `next_at` when it becomes earlier."""

    @property
    def next_at(self) -> int:
        """When to call `ring` next, in nanoseconds since 1970, or `NEVER`."""
        return self._heap.earliest

    def set(self, sleeper: Sleeper) -> None:
        """Set the alarm of a sleeper to its `next_event`, after that has changed."""
        is_earlier = sleeper.next_event < self.next_at
        self._heap.add(sleeper.next_event, (id(sleeper), sleeper))
        if is_earlier:
            self.on_earlier(sleeper.next_event)

    def ring(self, now: int) -> None:
        """Advance one sleeper whose alarm is due. Call it again while `next_at` is not later than `now`."""
        if self._heap.next_at <= now:
            _, (_, sleeper) = self._heap.pop()
            # A queue that was deleted or closed in the meantime raises, and has nothing to do.
            with suppress(QueueletError):
                sleeper.advance(now)
