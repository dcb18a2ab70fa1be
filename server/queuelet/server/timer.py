"""Rings the alarms of queues, with one event-loop timer for all of them, and none if no alarm is set."""

from __future__ import annotations

import asyncio

from queuelet.clock import now_ns
from queuelet.core.alarms import Alarms
from queuelet.core.deadlines import NEVER

_MAX_SECONDS = 3600.0
"""The longest time of the timer in seconds. It pauses while the machine sleeps; the alarms' clock does not."""


class AlarmTimer:
    """Rings alarms at their due time, in the running event loop."""

    def __init__(self, alarms: Alarms) -> None:
        self._alarms = alarms
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Ring alarms from now on."""
        self._alarms.on_earlier = self._set
        self._set(self._alarms.next_at)

    def stop(self) -> None:
        """Stop ringing."""
        self._alarms.on_earlier = lambda _: None
        if self._timer:
            self._timer.cancel()

    def _set(self, at: int) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if at == NEVER:
            return
        seconds = min(_MAX_SECONDS, max(0.0, (at - now_ns()) / 1e9))
        self._timer = asyncio.get_running_loop().call_later(seconds, self._ring)

    def _ring(self) -> None:
        """Wake one queue; other overdue queues are woken after pending calls have run."""
        try:
            self._alarms.ring(now_ns())
        finally:
            self._set(self._alarms.next_at)
