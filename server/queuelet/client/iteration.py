"""A loop over the messages of a consumer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic

from queuelet.client.received_message import Received
from queuelet.client.serializers import Item
from queuelet.client.settlement import Settlement


class Iteration(AsyncIterator[Received[Item]]):
    """The messages of an open consumer, one after the other. Taking the next one ends the work of the previous one.

    Taking may be cancelled, because nothing is awaited after a message was taken.
    """

    def __init__(self, next_message: Callable[[], Awaitable[Received[Item]]], settlement: Settlement[Item]) -> None:
        self._next_message = next_message
        self._settlement = settlement
        self._last: Received[Item] | None = None
        self._began = 0.0

    async def __anext__(self) -> Received[Item]:
        last, self._last = self._last, None
        if last is not None:
            self._settlement.finish(last, self._began, None)
        self._last = await self._next_message()
        self._began = monotonic()
        return self._last
