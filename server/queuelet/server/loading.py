"""Repeats calls that have to wait until their store has loaded messages, because they are not in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from queuelet.core.storage import NotLoaded

T = TypeVar("T")


async def until_loaded(missing: NotLoaded) -> None:
    """Wait until messages are loaded. Raises `StoreFailed` if the store fails."""
    # A cancelled call must not cancel the read, because other calls may wait for it too.
    await asyncio.shield(asyncio.ensure_future(missing.loading))


async def loaded(work: Callable[[], T]) -> T:
    """Do some work on a queue, again and again until everything that it reads is in memory; return its result."""
    while True:
        try:
            return work()
        except NotLoaded as missing:
            await until_loaded(missing)
