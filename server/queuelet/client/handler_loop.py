"""Handles the messages of a consumer in one task, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from time import monotonic
from typing import Any, Generic

from queuelet.client.received_message import Received
from queuelet.client.serializers import Item
from queuelet.client.settlement import Settlement

_TURN = 0.01
"""How long to handle messages in a row before other tasks get their turn, in seconds."""

Handler = Callable[[Received[Item]], Awaitable[object]]
"""Does the work of one message."""


class HandlerLoop(Generic[Item]):
    """Runs a handler for each message. A consumer has as many of these loops as its `concurrency`."""

    def __init__(
        self,
        handler: Handler[Item],
        next_message: Callable[[], Awaitable[Received[Item] | None]],
        settlement: Settlement[Item],
        is_cancelled: Callable[[], bool],
    ) -> None:
        """Set it up.

        Args:
            handler: does the work of a message.
            next_message: waits for the next message; None at the end.
            settlement: settles a message whose work has ended.
            is_cancelled: returns whether the consumer itself cancels the work.
        """
        self._handler = handler
        self._next_message = next_message
        self._settlement = settlement
        self._is_cancelled = is_cancelled

    async def run(self) -> None:
        """Handle messages until the end of the consumer."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # this coroutine runs in a task
        turn = monotonic()
        while (received := await self._next_message()) is not None:
            began = monotonic()
            try:
                error = await self._work(received, task)
            except GeneratorExit as raised:
                # asyncio throws it here if a future that the handler awaits has it as its exception.
                if not _is_in_a_loop():
                    raise
                error = raised
            self._settlement.finish(received, began, error)
            if monotonic() > turn + _TURN:
                await asyncio.sleep(0)
                turn = monotonic()

    async def _work(self, received: Received[Item], task: asyncio.Task[Any]) -> BaseException | None:
        """Run the handler for a message in this task, and return what it raised."""
        try:
            work = self._handler(received)
            is_async = isawaitable(work)
            if is_async:
                await work
            if task.cancelling():
                await asyncio.sleep(0)  # a cancellation is only raised at an await
        except asyncio.CancelledError as cancelled:
            if self._is_cancelled():
                raise
            # The handler cancelled its own task, or something that it awaited was cancelled.
            return cancelled
        except (SystemExit, KeyboardInterrupt) as ending:
            self._settlement.settle(received, ending)
            raise
        except BaseException as raised:  # noqa: BLE001  # a handler may raise anything
            return raised
        finally:
            while task.cancelling():
                task.uncancel()  # so that the next message is handled
        if not is_async:
            raise TypeError(
                "handler: it returned nothing to await; make it `async def`, or use queuelet.client.blocking.Consumer"
            )
        return None


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
