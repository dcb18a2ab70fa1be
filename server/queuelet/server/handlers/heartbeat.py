"""The heartbeat of one stream: when to send a sign of life, and when the peer counts as gone.

One timer serves both directions. It is not moved when something is sent or heard, which happens often, but looks at the
times when it fires.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

MISSED = 3
"""A peer that is silent for so many heartbeats is gone."""


class Heartbeat:
    """Calls `beat` when nothing was sent for a while, and `silent` when nothing was heard for three times that."""

    def __init__(self, seconds: float, beat: Callable[[], None], silent: Callable[[], None]) -> None:
        """Begin, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._beat = beat
        self._silent = silent
        self._is_stopped = False
        self._sent = self._heard = self._loop.time()
        self._due = self._sent + seconds
        self._timer = self._loop.call_at(self._due, self._look)

    def note_sent(self) -> None:
        """Note that something was sent."""
        self._sent = self._loop.time()

    def note_heard(self) -> None:
        """Note that something was heard."""
        self._heard = self._loop.time()

    def stop(self) -> None:
        """End, and call nothing any more."""
        self._is_stopped = True
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        if now > self._due + self._seconds / 2:
            # This process was held up itself: what the peer sent meanwhile is still to be read.
            self._heard = now
        if now >= self._heard + MISSED * self._seconds:
            self._heard = now
            self._silent()
        if now >= self._sent + self._seconds:
            self._sent = now
            self._beat()
        if self._is_stopped:
            return
        self._due = min(self._sent + self._seconds, self._heard + MISSED * self._seconds)
        self._timer = self._loop.call_at(self._due, self._look)
