"""A call that has not ended, as its connection knows it."""

from __future__ import annotations

import asyncio

from queuelet.server.native.call import NativeCall
from queuelet.server.native.stream import Stream


class OpenCall:
    """A call that waits: for its request, for its handler, or for the end of its stream."""

    __slots__ = ("call", "is_unguarded", "stream", "task", "timer")

    def __init__(self, call: NativeCall) -> None:
        self.call = call
        self.stream: Stream | None = None
        """Its requests and responses, if it is a stream."""
        self.is_unguarded = False
        """Whether it is a stream that needs no token."""
        self.task: asyncio.Task[None] | None = None
        """Its handler."""
        self.timer: asyncio.TimerHandle | None = None
        """Ends it at its deadline."""

    def end(self) -> None:
        """Stop its timer and its handler."""
        if self.timer:
            self.timer.cancel()
        if self.stream:
            self.stream.end()
        if self.task:
            # Only after its first step, because before it the handler would neither run nor be counted as cancelled.
            self.task.get_loop().call_soon(self.task.cancel)
