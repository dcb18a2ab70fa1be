"""Whether the server runs or is about to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from queuelet.errors import ServerDraining

_MOMENT = 0.1
"""How long no call has to come for a stopping server to be left alone, in seconds."""


class Lifecycle:
    """True until `stop`, and whoever asked is told of it."""

    def __init__(self) -> None:
        """Begin running."""
        self.stopped = False
        self._last_refusal = 0.0
        self._callbacks: list[Callable[[], object]] = []

    def check(self) -> None:
        """Raise `ServerDraining` if the server is stopping."""
        if self.stopped:
            self._last_refusal = monotonic()
            raise ServerDraining

    def on_stop(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Have `callback` called at the stop; return what ends that."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def stop(self) -> None:
        """Stop."""
        self.stopped = True
        self._last_refusal = monotonic()
        for callback in list(self._callbacks):
            callback()

    async def quiet(self, seconds: float) -> None:
        """Return once no call has been refused for a moment, or after so many seconds."""
        end = monotonic() + seconds
        while (now := monotonic()) < min(end, self._last_refusal + _MOMENT):  # noqa: ASYNC110  # no event tells of silence
            await asyncio.sleep(min(end, self._last_refusal + _MOMENT) - now)
