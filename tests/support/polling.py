"""Waiting in an event loop for conditions that no event reports."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def until(holds: Callable[[], Awaitable[object]]) -> None:
    """Return once a condition holds. The test's own timeout ends the wait."""
    while not await holds():  # noqa: ASYNC110  # for conditions without an event
        await asyncio.sleep(0.01)
