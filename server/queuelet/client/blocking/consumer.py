"""The blocking consumer: a handler in threads of its own, or a loop in the caller's thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from inspect import isawaitable, iscoroutine, iscoroutinefunction
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, Unpack, cast, overload

from queuelet import client as aio
from queuelet.client import forks
from queuelet.client.blocking.client import Client
from queuelet.client.blocking.loop_thread import LoopThread
from queuelet.client.messages import Delivery
from queuelet.client.options import ConsumerOptions
from queuelet.client.serializers import Item
from queuelet.client.text import described
from queuelet.client.validation import Seconds
from queuelet.v1 import queue_pb2 as pb

if TYPE_CHECKING:
    from queuelet.client.lease_session import LeaseSession

Handler = Callable[[aio.Received[Item]], object]
"""Does the work of one message, in a thread of the consumer's pool."""


class Consumer(Generic[Item]):
    """Consumes messages from one queue, like `queuelet.client.Consumer`, with a handler or in a loop.

    A thread cannot be cancelled. So closing waits until each handler returns, but after `close_timeout` its message
    returns to the queue.
    """

    @overload
    def __init__(
        self: Consumer[bytes],
        client: Client,
        queue: str,
        handler: Handler[bytes] | None = ...,
        **options: Unpack[ConsumerOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        client: Client,
        queue: str,
        handler: Handler[Item] | None = ...,
        *,
        serializer: aio.Serializer[Item],
        **options: Unpack[ConsumerOptions],
    ) -> None: ...

    def __init__(
        self,
        client: Client,
        queue: str,
        handler: Handler[Any] | None = None,
        *,
        serializer: aio.Serializer[Any] = aio.BYTES,
        **options: Unpack[ConsumerOptions],
    ) -> None:
        """Set up a consumer. Nothing is sent until it is opened.

        Args:
            client: An open client.
            queue: The queue's name or ID.
            handler: A plain function that does the work of a message; None to loop over the messages.
            serializer: Converts bytes to items.
            **options: Settings, as for `queuelet.client.Consumer`.

        Raises:
            ValueError: A number is out of range.
            TypeError: The handler is a coroutine function, or a setting has the wrong type.
        """
        if iscoroutinefunction(handler):
            raise TypeError("handler: it is a coroutine function; use a plain function, or queuelet.client.Consumer")
        self._thread = client.thread
        self._handler = handler
        self._consumer: aio.Consumer[Item] = aio.Consumer(
            client.inner, queue, None if handler is None else self._handle, serializer=serializer, **options
        )
        self._pool = ThreadPoolExecutor(options.get("concurrency", 1), "queuelet-handler")
        self._is_open = False
        self._generation = forks.generation()
        self._failure: BaseException | None = None

    # Lifecycle

    def run(self) -> None:
        """Consume until `stop` is called or a limit of the consumer is reached. Ctrl-C closes the consumer first.

        Raises:
            QueueletError: The errors of `queuelet.client.Consumer.run`.
            TypeError: The consumer has no handler.
        """
        if self._handler is None:
            raise TypeError("the consumer has no handler; give it one, or iterate over it")
        with self:
            self.wait()

    def __enter__(self) -> Self:
        """Start to consume."""
        self._thread.run(self._consumer.__aenter__)
        self._is_open = True
        self._generation = forks.generation()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the consumer. If an error left the block, the message of a loop fails with it."""
        if self._generation != forks.generation():
            return
        try:
            self._thread.run(self._consumer.__aexit__, kind, error, trace)
        finally:
            self._pool.shutdown()

    def stop(self) -> None:
        """Take no more messages, and end once the current work is done. Any thread or handler may call it."""
        self._check_opened_here()
        self._thread.call_soon(self._consumer.stop)

    def wait(self) -> None:
        """Wait until the consumer has ended.

        Raises:
            QueueletError: The errors of `queuelet.client.Consumer.run`.
            SystemExit: A handler raised it.
        """
        self._check_opened_here()
        self._thread.run(self._consumer.wait)
        if self._failure is not None:
            raise self._failure

    def close(self, timeout: Seconds | None = None) -> None:
        """Stop, let the current work go on for some time, and report all outcomes to the server.

        Args:
            timeout: How long work may go on, in seconds; None for unlimited.
        """
        if self._generation != forks.generation():
            return
        try:
            self._thread.run(self._consumer.close, timeout)
        finally:
            self._pool.shutdown()

    def __iter__(self) -> Iterator[aio.Received[Item]]:
        """Iterate over the messages. Taking the next one acknowledges the previous one, unless it is settled.

        Returns:
            An iterator over the messages.

        Raises:
            Forked: The consumer was opened in the parent process.
        """
        self._check_opened_here()
        return self._iterate(aiter(self._consumer))

    @property
    def done(self) -> int:
        """The number of acknowledged messages that left the queue."""
        return self._consumer.done

    @property
    def failed(self) -> int:
        """The number of messages whose work failed."""
        return self._consumer.failed

    @property
    def lost(self) -> int:
        """The number of messages that were done but may be redelivered, because their lease had expired."""
        return self._consumer.lost

    # Internals

    def _check_opened_here(self) -> None:
        if self._is_open:
            forks.check_made_here(self._generation, "the consumer was opened")

    def _iterate(self, messages: AsyncIterator[aio.Received[Item]]) -> Iterator[aio.Received[Item]]:
        if not self._is_open:
            with self:
                yield from self._iterate(messages)
            return
        for received in self._thread.iterate(messages):
            yield self._lend(received)

    def _lend(self, received: aio.Received[Item]) -> aio.Received[Item]:
        """Return a message for use in another thread: settling it is passed to the client's thread."""
        settler = _Settler(received._session, self._thread)  # noqa: SLF001  # both classes belong to the client
        received._session = cast("LeaseSession", settler)  # noqa: SLF001  # no other code has it yet
        return received

    async def _handle(self, received: aio.Received[Item]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._pool, self._work, self._lend(received))

    def _work(self, received: aio.Received[Item]) -> None:
        """Do the work of a message, in a thread of the pool."""
        assert self._handler is not None  # noqa: S101  # only called with a handler
        try:
            result: object = self._handler(received)
            if isawaitable(result):
                if iscoroutine(result):
                    result.close()
                # The work was not done, because nothing here awaits it.
                self._failure = TypeError("handler: it returned an awaitable; use queuelet.client.Consumer")
                self.stop()
                raise self._failure  # noqa: TRY301  # so that the message counts as failed
        except (SystemExit, KeyboardInterrupt) as error:
            # Raise it in the caller of `run`, because it would end the client's thread here. The message has failed.
            self._failure = error
            self.stop()
            raise RuntimeError(f"the handler ended the consumer: {described(error)}") from error
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, StopIteration):
                raise
            # A future cannot hold a StopIteration, and asyncio takes a GeneratorExit for the end of a coroutine.
            raise RuntimeError(described(error, "the handler raised ")) from error


class _Settler:
    """Settles messages from any thread; a `LeaseSession` may only be used in its own."""

    def __init__(self, session: LeaseSession, thread: LoopThread) -> None:
        self._session = session
        self._thread = thread

    def ack(self, delivery: Delivery) -> None:
        self._thread.call_soon(partial(self._session.ack, delivery))

    def nack(self, nack: pb.ConsumeNack) -> None:
        self._thread.call_soon(partial(self._session.nack, nack))
