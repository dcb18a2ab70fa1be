"""The server's lifecycle: running, then stopping."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from queuelet.errors import ServerDraining

_QUIET_SECONDS = 0.1
"""If no call arrives for this long, callers have noticed that the server is stopping."""


class Lifecycle:
    """Runs until `stop`, which calls the callbacks registered by `on_stop`."""

    def __init__(self) -> None:
        self.stopped = False
        self._last_refusal = 0.0
        self._callbacks: list[Callable[[], object]] = []

    def check(self) -> None:
        """Raise `ServerDraining` if the server is stopping."""
        if self.stopped:
            self._last_refusal = monotonic()
            raise ServerDraining

    def on_stop(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Register a callback for the stop; return a function that removes it."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def stop(self) -> None:
        """Refuse calls from now on, and call the callbacks."""
        self.stopped = True
        self._last_refusal = monotonic()
        for callback in list(self._callbacks):
            callback()

    async def quiet(self, seconds: float) -> None:
        """Return once no call has been refused for a moment, or after at most `seconds`."""
        end = monotonic() + seconds
        while (now := monotonic()) < min(end, self._last_refusal + _QUIET_SECONDS):  # noqa: ASYNC110  # silence is no event
            await asyncio.sleep(min(end, self._last_refusal + _QUIET_SECONDS) - now)
