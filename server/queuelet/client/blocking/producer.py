"""The blocking producer, and its puts in flight."""

from __future__ import annotations

import asyncio
import atexit
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, Unpack, overload

from queuelet import client as aio
from queuelet.client import forks
from queuelet.client.blocking.client import Client
from queuelet.client.blocking.loop_thread import LoopThread
from queuelet.client.options import ProducerOptions, PutOptions
from queuelet.client.serializers import Item
from queuelet.client.validation import Seconds, timeout_of
from queuelet.errors import QueueletError

_log = logging.getLogger("queuelet.client")

_AT_EXIT = 5.0
"""How long a program waits at its end for messages of producers that were not closed, in seconds."""


class PendingPut:
    """A put that is in flight. Its `result` is `Added`, or the error that prevented it."""

    def __init__(self, sent: aio.PendingPut, thread: LoopThread) -> None:
        self._sent = sent
        self._thread = thread
        self._generation = forks.generation()

    def result(self, timeout: Seconds | None = None) -> aio.Added:
        """Wait for the outcome.

        Args:
            timeout: How long to wait, in seconds; None for unlimited.

        Returns:
            What was added.

        Raises:
            TimeoutError: There is no outcome yet. The put stays in flight.
            QueueletError: The error that prevented the put.
        """
        seconds = timeout_of("timeout", timeout)
        forks.check_made_here(self._generation, "the message was sent")

        async def outcome() -> aio.Added:
            async with asyncio.timeout(seconds):
                return await self._sent

        return self._thread.run(outcome)

    def done(self) -> bool:
        """Return whether there is an outcome."""
        return self._sent.done()

    def add_done_callback(self, call: Callable[[aio.Added | QueueletError], None]) -> None:
        """Call a function with the outcome once there is one.

        Args:
            call: Called in the client's thread with `Added` or an error. An exception that it raises is logged.
        """
        self._thread.call_soon(partial(self._sent.add_done_callback, call))


class Producer(Generic[Item]):
    """Puts messages into one queue, like `queuelet.client.Producer`. Use it in `with`."""

    @overload
    def __init__(self: Producer[bytes], client: Client, queue: str, **options: Unpack[ProducerOptions]) -> None: ...

    @overload
    def __init__(
        self, client: Client, queue: str, serializer: aio.Serializer[Item], **options: Unpack[ProducerOptions]
    ) -> None: ...

    def __init__(
        self,
        client: Client,
        queue: str,
        serializer: aio.Serializer[Any] = aio.BYTES,
        **options: Unpack[ProducerOptions],
    ) -> None:
        """Set up a producer. Nothing is sent until it is opened.

        Args:
            client: An open client.
            queue: The queue's name or ID.
            serializer: Converts items to bytes.
            **options: Settings, as for `queuelet.client.Producer`.

        Raises:
            ValueError: A number is out of range.
        """
        self._thread = client.thread

        def make() -> aio.Producer[Item]:
            return aio.Producer(client.inner, queue, serializer, **options)

        self._queue = queue
        self._make = make
        self._producer = make()
        self._generation = forks.generation()
        self._is_open = False

    def __enter__(self) -> Self:
        """Open the producer."""
        self._thread.run(self._producer.__aenter__)
        self._is_open = True
        _producers.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send the buffered messages, as `close` does.

        Raises:
            PutsFailed: Messages were not added, and the program never waited for their outcome.
        """
        self._is_open = False
        _producers.discard(self)
        if self._generation == forks.generation():
            self._thread.run(self._producer.__aexit__, kind, error, trace)

    def close(self) -> None:
        """Send the buffered messages, for at most `close_timeout` seconds, and accept no more. May be called again."""
        self._is_open = False
        _producers.discard(self)
        if self._generation == forks.generation():
            self._thread.run(self._producer.close)

    def put(self, item: Item, **options: Unpack[PutOptions]) -> aio.Added:
        """Put an item into the queue, and return once the server has committed it.

        Args:
            item: The item to put.
            **options: Settings of the message and the timeout, as for `queuelet.client.Producer.put`.

        Returns:
            What was added.

        Raises:
            QueueletError: The errors of `queuelet.client.Producer.put`.
        """
        return self._thread.run(self._ours().put, item, **options)

    def put_many(self, items: Iterable[Item]) -> list[aio.Added]:
        """Put items in their order, and return once the server has committed all of them.

        Args:
            items: The items to put.

        Returns:
            What was added, for each item.

        Raises:
            QueueletError: The error of the first item that failed.
        """
        return self._thread.run(self._ours().put_many, list(items))

    def send(self, item: Item, **options: Unpack[PutOptions]) -> PendingPut:
        """Put an item into the queue, and return before it is sent.

        Args:
            item: The item to put.
            **options: Settings of the message and the timeout, as for `queuelet.client.Producer.put`.

        Returns:
            The put in flight, whose `result` is its outcome.

        Raises:
            QueueletError: The errors of `queuelet.client.Producer.send`.
        """
        return PendingPut(self._thread.run(self._ours().send, item, **options), self._thread)

    def flush(self, timeout: Seconds | None = None) -> bool:
        """Wait until all puts so far have an outcome.

        Args:
            timeout: How long to wait, in seconds; None for unlimited.

        Returns:
            Whether all have one.
        """
        return self._thread.run(self._ours().flush, timeout)

    @property
    def unsettled(self) -> int:
        """The number of puts in flight."""
        return self._producer.unsettled if self._generation == forks.generation() else 0

    def _end_with_program(self) -> None:
        """Send the buffered messages for a few seconds, and log that the producer should have been closed."""
        if not self.unsettled or not self._is_open:
            return
        _log.warning(
            "a producer of queue %s was not closed; sending %d messages as the program ends; use it in `with`",
            self._queue,
            self.unsettled,
        )
        if not self.flush(_AT_EXIT):
            _log.error("%d messages of queue %s were not sent within %g s", self.unsettled, self._queue, _AT_EXIT)
        try:
            self._thread.run(self._producer.__aexit__, None, None, None)
        except QueueletError as error:
            _log.error("queue %s: %s", self._queue, error)

    def _ours(self) -> aio.Producer[Item]:
        """Return this process's producer. One from before a fork belongs to the parent, with its puts in flight."""
        if self._generation == forks.generation() or not self._is_open:
            return self._producer

        async def begin() -> None:
            # In the client's thread, so that two callers do not open two producers.
            if self._generation != forks.generation():
                producer = self._make()
                await producer.__aenter__()
                self._producer, self._generation = producer, forks.generation()

        self._thread.run(begin)
        return self._producer


_producers: set[Producer[Any]] = set()
"""Open producers. They are kept, so that their messages are sent even if the program has dropped them."""


@atexit.register
def _end_producers() -> None:
    for producer in list(_producers):
        with suppress(QueueletError):  # the client is closed, or this is a forked process
            producer._end_with_program()  # noqa: SLF001  # a method for this module only
