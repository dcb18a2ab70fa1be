"""The requests and responses of one stream, with flow control in bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol, Self

from queuelet.server.endpoint import ClientGone
from queuelet.server.native.settings import WINDOW_BYTES


class Link(Protocol):
    """What a stream needs of its connection."""

    def consumed(self, number: int, size: int) -> None:
        """Let the client send as many bytes more on a call."""

    def send(self, number: int, message: bytes) -> None:
        """Send a response of a call."""


def cost(message: bytes) -> int:
    """Return what a message counts for in flow control, in bytes. An empty one counts, too."""
    return len(message) or 1


class Stream:
    """An iterator of requests, and a `send` that waits while the client does not read."""

    __slots__ = ("_arrived", "_is_gone", "_is_half_closed", "_link", "_number", "_room", "_unsent", "_waiter")

    def __init__(self, link: Link, number: int) -> None:
        self._link = link
        self._number = number
        self._arrived: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._room = asyncio.Event()
        self._unsent = 0
        self._is_half_closed = False
        self._is_gone = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._arrived:
            if self._is_gone:
                raise ClientGone
            if self._is_half_closed:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        message = self._arrived.popleft()
        self._link.consumed(self._number, cost(message))
        return message

    async def send(self, message: bytes) -> None:
        """Send a response; return once another one may be sent.

        Raises:
            ClientGone: the client has disconnected.
        """
        if self._is_gone:
            raise ClientGone
        self._unsent += cost(message)
        self._link.send(self._number, message)
        while self._unsent > WINDOW_BYTES:
            self._room.clear()
            await self._room.wait()
            if self._is_gone:
                raise ClientGone

    def receive(self, message: bytes) -> None:
        """Take a request from the client."""
        self._arrived.append(message)
        self._wake()

    def half_close(self) -> None:
        """Note that the client sends no more requests."""
        self._is_half_closed = True
        self._wake()

    def sent(self, size: int) -> None:
        """Note that bytes of responses have been sent."""
        self._unsent -= size
        if self._unsent <= WINDOW_BYTES:
            self._room.set()

    def end(self) -> None:
        """Raise `ClientGone` in whatever waits for the client from now on."""
        self._is_gone = True
        self._wake()
        self._room.set()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)
