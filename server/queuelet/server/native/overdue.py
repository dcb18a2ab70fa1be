"""Ends calls whose request does not arrive completely in time."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from queuelet.server.native.open_call import OpenCall


class Overdue:
    """The calls that wait for their request, or for the first one of a stream."""

    def __init__(self, seconds: float) -> None:
        """Make it without calls; `seconds` is the time that a request may take."""
        self._seconds = seconds
        self._waiting: dict[OpenCall, tuple[float, Callable[[], None]]] = {}
        """The deadline of each call, oldest first, and what ends it."""

    def start(self, opened: OpenCall, end: Callable[[], None]) -> None:
        """Call `end` unless the call's request arrives in time."""
        self._waiting[opened] = monotonic() + self._seconds, end

    def done(self, opened: OpenCall) -> None:
        """Forget a call: its request has arrived, or it has ended."""
        self._waiting.pop(opened, None)

    def end_overdue(self) -> int:
        """End the calls whose request has not arrived in time; return how many."""
        now = monotonic()
        ended = 0
        while self._waiting:
            opened, (until, end) = next(iter(self._waiting.items()))
            if until > now:
                break
            del self._waiting[opened]
            end()
            ended += 1
        return ended
