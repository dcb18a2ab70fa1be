"""Turns: long work is done in slices, so that other calls do not wait for its end."""

from __future__ import annotations

import asyncio
from time import monotonic

SLICE = 0.005
"""How long work goes on before others get their turn, in seconds. A call takes a tenth of that."""


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
            await asyncio.sleep(0)
            self._began = monotonic()
