"""The backoff before each retry of something that keeps failing: it doubles from retry to retry, up to a bound."""

from __future__ import annotations

from random import uniform


def next_backoff(last: float, shortest: float, longest: float) -> float:
    """Return the backoff after another failure, in seconds.

    Args:
        last: the backoff after the failure before this one; 0 if this is the first in a row.
        shortest: the first backoff.
        longest: the bound.
    """
    return min(max(2 * last, shortest), longest)


def with_jitter(backoff: float) -> float:
    """Return how long to wait: between half and all of a backoff.

    It is random, so that callers that failed at the same moment do not retry at the same moment.
    """
    return backoff * uniform(0.5, 1)  # noqa: S311  # jitter needs no secure randomness


class Backoff:
    """The backoff of one caller, with jitter."""

    def __init__(self, shortest: float, longest: float) -> None:
        self._shortest = shortest
        self._longest = longest
        self._last = 0.0

    def next_delay(self) -> float:
        """Return how long to wait before the next retry, in seconds."""
        self._last = next_backoff(self._last, self._shortest, self._longest)
        return with_jitter(self._last)

    def reset(self) -> None:
        """Start again with the shortest backoff, after a success."""
        self._last = 0.0
