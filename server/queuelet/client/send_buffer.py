"""The buffer of a producer: messages that wait to be sent, and callers that wait for room."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import suppress

from queuelet.client.errors import Closed, NotSent
from queuelet.client.pending_put import Outcome, PendingPut
from queuelet.client.put_failures import PutFailures
from queuelet.client.retries import UNAVAILABLE
from queuelet.errors import QueueletError

NEVER = float("inf")


class SendBuffer:
    """Buffered messages in FIFO order, and the number and bytes of all messages without an outcome."""

    def __init__(
        self, queue: str, *, batch_messages: int, batch_bytes: int, buffer_messages: int, buffer_bytes: int
    ) -> None:
        self._queue = queue
        self.batch_messages = batch_messages
        """The largest number of messages in a batch; lowered if the server refuses larger ones."""
        self.batch_bytes = batch_bytes
        """The largest number of bytes in a batch; lowered likewise."""
        self._max_messages = buffer_messages
        self._max_bytes = buffer_bytes
        self.is_open = False
        self.why_closed = "the producer is not open; use it in `async with`"
        self.last_error: QueueletError | None = None
        """Why the latest messages could not be added; None after a success."""
        self.failures = PutFailures()
        self.buffered: deque[PendingPut] = deque()
        self.unsettled = 0
        """The number of messages without an outcome: those here, and those in flight."""
        self._unsettled_bytes = 0
        self.callers: deque[object] = deque()
        """The calls that wait for room, in FIFO order. A new call waits behind them."""
        self._is_hurried = False
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()

    # Adding messages

    def is_full(self, size: int) -> bool:
        """Return whether there is no room for a message of this size."""
        count = self.unsettled
        return count >= self._max_messages or (count > 0 and self._unsettled_bytes + size > self._max_bytes)

    async def wait_for_room(self, size: int, deadline: float) -> None:
        """Wait for room for a message, in FIFO order, so that one busy task does not starve others.

        Raises:
            Closed: The producer was closed meanwhile.
            QueueletError: There was no room until the deadline.
        """
        self.hurry()
        place = object()
        self.callers.append(place)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(None if deadline == NEVER else deadline):
                    while self.is_open and (self.callers[0] is not place or self.is_full(size)):
                        self._settled.clear()
                        await self._settled.wait()
        finally:
            self.callers.remove(place)
            self._settled.set()
        if not self.is_open:
            raise Closed(self.why_closed)
        if self.is_full(size):
            raise self.timeout_error()

    def append(self, put: PendingPut) -> None:
        """Add a message."""
        self.buffered.append(put)
        self.unsettled += 1
        self._unsettled_bytes += put.size
        if len(self.buffered) in {1, self.batch_messages}:
            self.wake()

    # Taking batches

    def hurry(self) -> None:
        """Have the next batch sent without waiting for more messages."""
        self._is_hurried = True
        self.wake()

    def wake(self) -> None:
        """Wake the task that waits for a change."""
        self._changed.set()

    async def wait_for_change(self) -> None:
        """Wait until a message is added, or the buffer is hurried or woken."""
        self._is_hurried = self._is_hurried and bool(self.buffered)
        self._changed.clear()
        await self._changed.wait()

    async def gather_until(self, end: float) -> None:
        """Give other messages time to join the batch, unless a caller awaits one or the batch is full."""
        if self._is_gathered or end <= asyncio.get_running_loop().time():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout_at(end):
                while not self._is_gathered:
                    self._changed.clear()
                    await self._changed.wait()

    @property
    def _is_gathered(self) -> bool:
        return self._is_hurried or len(self.buffered) >= self.batch_messages

    def next_batch(self, now: float) -> list[PendingPut]:
        """Take the messages of the next batch. Those that have timed out are settled instead."""
        batch: list[PendingPut] = []
        size = 0
        while self.buffered and len(batch) < self.batch_messages:
            put = self.buffered[0]
            if batch and size + put.size > self.batch_bytes:
                break
            self.buffered.popleft()
            if put.deadline <= now or put.is_withdrawn:
                self.settle(put, self.timeout_error())
                continue
            batch.append(put)
            size += put.size
        return batch

    def put_back(self, batch: list[PendingPut]) -> None:
        """Return the messages of a batch to the front of the buffer."""
        self.buffered.extendleft(reversed(batch))

    # Outcomes

    def settle(self, put: PendingPut, outcome: Outcome) -> None:
        """Set the outcome of a message, unless it has one."""
        if put.outcome is not None:
            return
        put.settle(outcome)
        self.unsettled -= 1
        self._unsettled_bytes -= put.size
        self._settled.set()
        if isinstance(outcome, QueueletError) and not put.is_withdrawn:
            self.failures.note(put, outcome)

    def expire(self, put: PendingPut) -> None:
        """Fail a message that has timed out, unless it is in flight, because then the response decides."""
        if not put.done() and put in self.buffered:
            self.buffered.remove(put)
            self.settle(put, self.timeout_error())

    def timeout_error(self) -> QueueletError:
        """Return the outcome of a message that has timed out and is not in the queue."""
        if self.last_error is not None and not isinstance(self.last_error, (*UNAVAILABLE, NotSent)):
            return self.last_error
        reason = f" ({self.last_error.message})" if self.last_error else ""
        return NotSent(f"the message could not be sent in time and is not in queue {self._queue}{reason}")

    async def wait_until_settled(self, puts: Iterable[PendingPut]) -> None:
        """Wait until these messages have an outcome."""
        for put in puts:
            while not put.done():
                self._settled.clear()
                await self._settled.wait()

    def fail_all(self, why: QueueletError) -> None:
        """Fail all buffered messages, and wake all callers that wait."""
        for put in self.buffered:
            self.settle(put, why)
        self.buffered.clear()
        self._settled.set()
