"""How many messages a consumer fetches ahead, by the pace of its work."""

from __future__ import annotations

from math import inf

from queuelet.client.validation import Seconds, seconds_of

_AHEAD = 0.25
"""How many seconds of work to prefetch."""

_FIRST_PREFETCH, MAX_PREFETCH = 10, 1_000
"""How many messages to prefetch before the pace of the work is known, and at most."""

_WAIT = 1.0
"""How long a prefetched message waits for a slow handler, in seconds."""

_MIN_SECONDS = 1e-6
"""The shortest assumed time for the work of a message, in seconds."""

_WEIGHT = 0.1
"""The weight of the latest message in the moving average of the pace."""


class Prefetch:
    """The settings and the measured pace that determine a consumer's window."""

    def __init__(self, concurrency: int, messages: int | None, seconds: Seconds | None) -> None:
        if seconds is None:
            seconds = _WAIT if messages is None else inf
        self._concurrency = concurrency
        self.longest_wait = seconds_of("prefetch_seconds", seconds, least=0.1, most=inf)
        """How long a prefetched message waits for a slow handler, in seconds."""
        self._ahead = min(_AHEAD if messages is None else inf, self.longest_wait)
        self._most = MAX_PREFETCH if messages is None else messages
        self._pace = _AHEAD / _FIRST_PREFETCH
        """About how long the work of a message takes, in seconds."""
        self.is_stalled = False
        """Whether messages were handed back, and none was requested since."""

    def window(self) -> int:
        """Return how many messages may be here: those in work, and those prefetched."""
        if self.is_stalled:
            return 0
        by_pace = self._concurrency * self._ahead / max(self._pace, _MIN_SECONDS)
        return self._concurrency + int(min(self._most, by_pace))

    def measure(self, seconds: float) -> None:
        """Take the work of a message into account."""
        self._pace += (seconds - self._pace) * _WEIGHT

    def stall(self) -> None:
        """Request nothing until a handler waits, and assume slow work from then on."""
        self.is_stalled = True
        self._pace = max(self._pace, self.longest_wait)
