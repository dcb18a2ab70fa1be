"""What is worth trying again, and how long to wait before it is."""

from __future__ import annotations

import random

from queuelet.errors import (
    ClientSilent,
    DeadlineExceeded,
    MemoryExhausted,
    QueueFull,
    ServerDraining,
    StoreFailed,
    StoreFull,
    TooMany,
    Unreachable,
)

AWAY = (Unreachable, DeadlineExceeded, ServerDraining, StoreFailed, ClientSilent)
"""The server is away, just starts, or opens its store anew: it will be back. What became of the call is not known."""

CROWDED = (QueueFull, MemoryExhausted, StoreFull, TooMany)
"""There is no room now. The call did nothing, and the same call may do later."""


class Backoff:
    """How long to wait before the next try: twice as long each time, and a part of it left to chance.

    Chance keeps clients that lost their server at the same moment from coming back at the same moment.
    """

    def __init__(self, soonest: float = 0.1, latest: float = 5.0) -> None:
        """Take the shortest and the longest wait, in seconds."""
        self._soonest = soonest
        self._latest = latest
        self._next = soonest

    def next_delay(self) -> float:
        """Return how long to wait now, in seconds: between half and all of what it has come to."""
        delay, self._next = self._next, min(self._latest, 2 * self._next)
        return delay * random.uniform(0.5, 1)  # noqa: S311  # it guards nothing

    def reset(self) -> None:
        """Begin again with the shortest wait: a try went well."""
        self._next = self._soonest
