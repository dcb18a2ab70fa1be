"""The clock that rings the alarms of queues: one timer for all of them, and none while nothing is due."""

from __future__ import annotations

import asyncio

from queuelet.clock import now_ns
from queuelet.core.alarms import Alarms
from queuelet.core.deadlines import NEVER

_LONGEST = 3600.0
"""How long the timer is set for at most, in seconds: it pauses while the machine sleeps, and the clock does not."""


class AlarmClock:
    """Rings alarms when their time has come, in the running event loop."""

    def __init__(self, alarms: Alarms) -> None:
        """Take the alarms. Nothing rings before `start`."""
        self._alarms = alarms
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to ring."""
        self._alarms.on_earlier = self._set
        self._set(self._alarms.next_at)

    def stop(self) -> None:
        """Ring no more."""
        self._alarms.on_earlier = lambda _: None
        if self._timer:
            self._timer.cancel()

    def _set(self, at: int) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if at == NEVER:
            return
        seconds = min(_LONGEST, max(0.0, (at - now_ns()) / 1e9))
        self._timer = asyncio.get_running_loop().call_later(seconds, self._ring)

    def _ring(self) -> None:
        """Wake one queue; others that are due are woken when calls had their turn."""
        try:
            self._alarms.ring(now_ns())
        finally:
            self._set(self._alarms.next_at)
