"""Turns: long work is done in slices, so that other calls do not wait for its end.

All long work of an event loop shares one line: in one pass of the loop only one piece of it has a slice, however
many there are. Otherwise 64 expensive calls would let short ones through only after 64 slices.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic

SLICE = 0.005
"""How long work goes on before others get their turn, in seconds. A call takes a tenth of that."""

_PAUSE = 0.001
"""How long the loop is left to short calls between two slices while several pieces of work wait, in seconds."""


class _Line:
    """Work that waits for its next slice, first come first served."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def wait(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._waiting.clear()
        turn = loop.create_future()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            loop.call_soon(self._next)
        await turn

    def _next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # it is if its call was cancelled
                turn.set_result(None)
                break
        if self._waiting and self._loop:
            self._loop.call_later(_PAUSE, self._next)


_line = _Line()


class Turns:
    """Counts the time of one piece of work, and lets others have their turn after each slice of it."""

    def __init__(self) -> None:
        """Begin a slice."""
        self._began = monotonic()

    @property
    def is_over(self) -> bool:
        """Whether it is the others' turn."""
        return monotonic() - self._began > SLICE

    async def give(self) -> None:
        """Let others have their turn if this slice is over."""
        if self.is_over:
            await _line.wait()
            self._began = monotonic()
