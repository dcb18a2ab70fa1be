"""The heartbeat of one stream: when to send a beat, and when the peer counts as gone.

One timer serves both directions. It is not rescheduled each time something is sent or received, because that happens
often; instead it checks the times when it fires.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

MISSED = 3
"""A peer that sends nothing for this many heartbeats is gone."""


class Heartbeat:
    """Calls `beat` if nothing was sent for `seconds`, and `silent` if nothing was received for `MISSED` times that."""

    def __init__(self, seconds: float, beat: Callable[[], None], silent: Callable[[], None]) -> None:
        """Start the timer in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._beat = beat
        self._silent = silent
        self._is_stopped = False
        self._sent = self._heard = self._loop.time()
        self._due = self._sent + seconds
        self._timer = self._loop.call_at(self._due, self._check)

    def note_sent(self) -> None:
        """Note that something was sent."""
        self._sent = self._loop.time()

    def note_heard(self) -> None:
        """Note that something was received."""
        self._heard = self._loop.time()

    def stop(self) -> None:
        """Stop the timer; nothing is called any more."""
        self._is_stopped = True
        self._timer.cancel()

    def _check(self) -> None:
        now = self._loop.time()
        if now > self._due + self._seconds / 2:
            # This process was blocked itself, so requests that the peer sent meanwhile are still unread.
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
        self._timer = self._loop.call_at(self._due, self._check)
