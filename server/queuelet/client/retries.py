"""Which errors are worth a retry, and how long to back off."""

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

UNAVAILABLE = (Unreachable, DeadlineExceeded, ServerDraining, StoreFailed, ClientSilent)
"""The server is unreachable, starting, draining or reopening its store, or it ended the stream of a silent client.

A call that is not a stream had no effect if it ended with `ServerDraining`. After `Unreachable`, `DeadlineExceeded` and
`StoreFailed` it may have had one. Requests on a stream may have had one whichever error ended the stream.
"""

FULL = (QueueFull, MemoryExhausted, StoreFull, TooMany)
"""There is no room now. The call had no effect, and a retry may succeed later."""


class Backoff:
    """The delay before each retry: it doubles each time, with jitter.

    The jitter keeps clients that lost their server at the same moment from reconnecting at the same moment.
    """

    def __init__(self, shortest: float = 0.1, longest: float = 5.0) -> None:
        self._shortest = shortest
        self._longest = longest
        self._next = shortest

    def next_delay(self) -> float:
        """Return the delay before the next retry, in seconds: between half and all of the current backoff."""
        delay, self._next = self._next, min(self._longest, 2 * self._next)
        return delay * random.uniform(0.5, 1)  # noqa: S311  # jitter needs no secure randomness

    def reset(self) -> None:
        """Start again with the shortest delay, after a success."""
        self._next = self._shortest
