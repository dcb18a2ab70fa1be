"""The client for programs without an event loop: each call returns when it is done.

    with Client("localhost:10002") as client:
        with Producer(client, "orders") as producer:
            producer.put(b"an order")
        with Consumer(client, "orders") as orders:
            for order in orders:
                print(order.item)

A `Client` has one thread with an event loop, in which `queuelet.client` does all the work. The classes here pass calls
from any thread to it and wait for the result. Unless documented otherwise, they behave like those of `queuelet.client`.
Leaving `with` ends the thread.

A loop over a consumer runs in your own thread. A handler runs in a pool of as many threads as the consumer's
`concurrency`. Serializers and the callbacks of `Client.listen` and `PendingPut` run in the client's thread, so they
must not block and cannot call anything of this module.

The methods of `queuelet.client.Client` that take or return generated classes or encoded requests are not here: `call`,
`call_once`, `stream`, `consume`.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial, wraps
from inspect import isawaitable, iscoroutine, iscoroutinefunction
from threading import local
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack, cast, overload
from weakref import WeakSet

from queuelet import client as aio
from queuelet.client import forks
from queuelet.client.connection import DEFAULT
from queuelet.client.connection_state import StateListener
from queuelet.client.loop_thread import LoopThread
from queuelet.client.messages import Delivery
from queuelet.client.options import ConsumerOptions, ProducerOptions, PutOptions
from queuelet.client.serializers import Item
from queuelet.client.text import described
from queuelet.client.validation import Seconds, timeout_of
from queuelet.errors import QueueletError
from queuelet.v1 import queue_pb2 as pb

if TYPE_CHECKING:
    from queuelet.client.lease_session import LeaseSession

__all__ = ["Client", "Consumer", "Handler", "PendingPut", "Producer"]

_log = logging.getLogger("queuelet.client")

_AT_EXIT = 5.0
"""How long a program waits at its end for messages of producers that were not closed, in seconds."""

P = ParamSpec("P")
R = TypeVar("R")

Handler = Callable[[aio.Received[Item]], object]
"""Does the work of one message, in a thread of the consumer's pool."""


def _blocking(
    method: Callable[Concatenate[aio.Client, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Client, P], R]:
    """Return a blocking version of a method of the async client."""

    @wraps(method)
    def call(client: Client, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return client.thread.run(method, client.inner, *args, **kwargs)

    return call


def _iterating(
    method: Callable[Concatenate[aio.Client, P], AsyncIterator[R]],
) -> Callable[Concatenate[Client, P], Iterator[R]]:
    """Return a blocking version of an async generator method of the async client."""

    @wraps(method)
    def call(client: Client, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        return client.thread.iterate(method(client.inner, *args, **kwargs))

    return call


class Client:
    """A connection to a server, like `queuelet.client.Client`. Use it in `with`.

    Args:
        connection: How to reach the server, or just its address. Nothing is sent until the client is used.

    Raises:
        InvalidArgument: A time in the connection is out of range.
    """

    def __init__(self, connection: aio.Connection | str = DEFAULT) -> None:
        self.inner = aio.Client(connection)
        """The async client, for use in `thread` only."""
        self.thread = LoopThread()

    def __enter__(self) -> Self:
        """Start the thread and open the connection."""
        forks.check_usable()
        self.thread.start()
        try:
            self.thread.run(self.inner.__aenter__)
        except BaseException:
            self.thread.stop()
            raise
        _clients.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection and end the thread."""
        try:
            if self.thread.is_here:
                self.thread.run(self.inner.__aexit__, kind, error, trace)
        finally:
            self.thread.stop()
            _clients.discard(self)

    ping = _blocking(aio.Client.ping)
    list_queues = _blocking(aio.Client.list_queues)
    new_queue = _blocking(aio.Client.new_queue)
    get_queue = _blocking(aio.Client.get_queue)
    delete_queue = _blocking(aio.Client.delete_queue)
    tag_queue = _blocking(aio.Client.tag_queue)
    untag_queue = _blocking(aio.Client.untag_queue)
    declare_queues = _blocking(aio.Client.declare_queues)
    remove_queues = _blocking(aio.Client.remove_queues)
    watch_queues = _iterating(aio.Client.watch_queues)
    stats = _blocking(aio.Client.stats)
    history = _blocking(aio.Client.history)
    list_consumers = _blocking(aio.Client.list_consumers)
    server_stats = _blocking(aio.Client.server_stats)
    add = _blocking(aio.Client.add)
    add_batch = _blocking(aio.Client.add_batch)
    pop = _blocking(aio.Client.pop)
    pop_batch = _blocking(aio.Client.pop_batch)
    peek = _blocking(aio.Client.peek)
    peek_batch = _blocking(aio.Client.peek_batch)
    browse = _iterating(aio.Client.browse)
    purge = _blocking(aio.Client.purge)
    receive = _blocking(aio.Client.receive)
    ack = _blocking(aio.Client.ack)
    nack = _blocking(aio.Client.nack)
    extend = _blocking(aio.Client.extend)
    redrive = _iterating(aio.Client.redrive)
    tail = _iterating(aio.Client.tail)

    def listen(self, listener: StateListener) -> Callable[[], None]:
        """Call a function at each change of the connection's state.

        Args:
            listener: Called with each new state, in the client's thread, so it must not block.

        Returns:
            A function that stops the notifications.

        Raises:
            Closed: The client is not open.
        """

        async def listen() -> Callable[[], None]:
            return self.inner.listen(listener)

        return partial(self.thread.call_soon, self.thread.run(listen))

    @property
    def connection(self) -> aio.Connection:
        """How the client reaches the server."""
        return self.inner.connection

    @property
    def state(self) -> aio.ConnectionState | None:
        """The latest state of the connection; None before the first change and without a listener."""
        return self.inner.state


_clients: WeakSet[Client] = WeakSet()
"""Clients that are open."""

_fork = local()
"""The clients that this thread holds up while it forks."""


def _before_fork() -> None:
    """Close the connections of all idle clients. If no channel is left, gRPC works in the child."""
    _fork.held = [client.thread for client in list(_clients) if client.thread.hold(client.inner.park)]
    if _fork.held:
        forks.quiesce()


def _after_fork() -> None:
    for thread in _fork.held:
        thread.release()


def _begin_child() -> None:
    for client in list(_clients):
        client.thread.begin_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_begin_child)


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
        _check_made_here(self._generation, "the message was sent")

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


def _check_made_here(generation: int, what: str) -> None:
    """Raise `Forked` if something was started by the parent process, because its outcome is only known there."""
    if generation != forks.generation():
        raise aio.Forked(f"{what} by the parent of this process; its outcome is known there")


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
            _check_made_here(self._generation, "the consumer was opened")

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
