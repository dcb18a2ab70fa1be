"""Waiting in an event loop for what no event tells of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def until(holds: Callable[[], Awaitable[object]]) -> None:
    """Return once something holds. The test's own timeout is the end of it."""
    while not await holds():  # noqa: ASYNC110  # it is for what has no event
        await asyncio.sleep(0.01)
