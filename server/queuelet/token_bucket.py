"""A token bucket: allows a burst, and then a rate. Times are in ns, by any clock."""

from __future__ import annotations

from queuelet.limits import SECOND_NS


class TokenBucket:
    """Holds `size` tokens at first and at most, and gains `rate` of them every `seconds`.

    It counts in whole numbers, so that no rounding adds up, however often it is looked at.
    """

    __slots__ = ("_at", "_fraction", "_full", "_rate", "_tokens")

    def __init__(self, size: int, rate: int, now: int, *, seconds: int = 1) -> None:
        self._rate = rate
        self._fraction = seconds * SECOND_NS
        """A token, in units of which `rate` are gained each ns."""
        self._full = size * self._fraction
        self._tokens = self._full
        self._at = now

    def available(self, now: int) -> int:
        """Return how many whole tokens there are. A clock that goes back takes none away."""
        if now > self._at:
            self._tokens = min(self._full, self._tokens + (now - self._at) * self._rate)
            self._at = now
        return self._tokens // self._fraction

    def take(self, count: int) -> None:
        """Remove tokens, at most as many as were available."""
        self._tokens -= count * self._fraction

    def is_full(self, now: int) -> bool:
        """Return whether it holds all its tokens."""
        self.available(now)
        return self._tokens == self._full

    def wait(self, now: int) -> int:
        """Return in how many ns there is a token; 0 if there is one."""
        missing = 0 if self.available(now) else self._fraction - self._tokens
        return -(-missing // self._rate)
