"""asyncio tasks: the first of several that ends, and what a cancellation is meant for."""

from __future__ import annotations

import asyncio
from typing import Any


async def first_ended(*tasks: asyncio.Task[Any]) -> set[asyncio.Task[Any]]:
    """Wait until one of the tasks ends, then cancel the others and wait for them too.

    If the caller is cancelled, all tasks are cancelled and awaited before the cancellation goes on.

    Args:
        tasks: the tasks. The caller must not await them elsewhere.

    Returns:
        The tasks that ended first, usually one. Their errors are not raised; call `result` for that.
    """
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        # Gathered, because to suppress CancelledError of each would also swallow the cancellation of the caller.
        await asyncio.gather(*tasks, return_exceptions=True)
    return ended


def is_cancelled() -> bool:
    """Return whether this task is cancelled itself, and not something it awaits, such as a gRPC call."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
