"""The client for programs without an event loop: each call returns when it is done.

    with Client("localhost:10002") as client:
        with Producer(client, "orders") as producer:
            producer.put(b"an order")
        with Consumer(client, "orders") as orders:
            for order in orders:
                print(order.item)

A `Client` has one thread with an event loop, where `queuelet.client` does all the work. What is here hands calls over
to it, from any thread, and waits: whatever is not said here is as it is there. Leaving `with` ends the thread.

Your code runs in your own thread where you iterate over a consumer. A handler runs in a pool of as many threads as the
consumer's `concurrency`. Serializers, and what is called back of `Client.listen` and `Sent`, run in the thread of the
client: they must not block, and can call nothing here.

Calls of `queuelet.client.Client` that speak the wire's own words are not here: `call`, `stream`, `consume` and such.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial, wraps
from inspect import isawaitable, iscoroutine, iscoroutinefunction
from math import inf
from queue import Empty, SimpleQueue
from threading import RLock, Thread, current_thread, local
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack, cast, overload
from weakref import WeakSet

from queuelet import client as aio
from queuelet.client import forks
from queuelet.client.connection import DEFAULT
from queuelet.client.connection_state import StateListener
from queuelet.client.messages import Delivery
from queuelet.client.options import ConsumerOptions, ProducerOptions, PutOptions
from queuelet.client.serializers import Item
from queuelet.client.text import described
from queuelet.client.validation import Seconds, patience_of
from queuelet.errors import QueueletError
from queuelet.v1 import queue_pb2 as pb

if TYPE_CHECKING:
    from queuelet.client.lease_session import Lessee

__all__ = ["Client", "Consumer", "Handler", "Producer", "Sent"]

_log = logging.getLogger("queuelet.client")

_START = 30.0
"""How long a thread may take to start, in seconds."""

_END = 30.0
"""How long the thread of a client may take to end, in seconds."""

_THREAD_ENDED = "the client's thread has ended: open another client"

_AT_EXIT = 5.0
"""How long a program waits at its end for messages of producers that were not closed, in seconds."""

_PARKING = 1.0
"""How long a fork waits for a client to close its connection, in seconds."""

_LOOK_UP = 0.5
"""How often a thread that waits looks up, in seconds: a signal that comes just before it waits does not wake it."""

P = ParamSpec("P")
R = TypeVar("R")

Handler = Callable[[aio.Received[Item]], object]
"""Does the work of one message, in a thread of the consumer's pool."""


class _LoopThread:
    """An event loop in a thread of its own, and one more in each process that is forked off."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._left: list[object] = []
        """Loops of other processes. They are kept, because closing one here would end the other's."""
        # A call is handed over before the end or is refused. A signal handler may come in between, of this thread.
        self._handing_over = RLock()

    def start(self) -> None:
        """Start the thread. It ends with the program too, so that a client left open keeps none from ending."""
        _refuse_in_a_loop()
        if self._thread is not None:
            raise aio.Closed("the client was opened before: make a new one")
        self._start()

    def _start(self) -> asyncio.AbstractEventLoop:
        started = SimpleQueue[asyncio.AbstractEventLoop]()
        self._thread = Thread(target=_serve, args=[started], name="queuelet-client", daemon=True)
        self._thread.start()
        self._loop = started.get(timeout=_START)
        return self._loop

    def stop(self) -> None:
        """End the thread, and whatever still runs there."""
        with self._handing_over:
            loop, thread, self._loop = self._loop, self._thread, None
            if loop is None or thread is None or loop.is_closed():
                return
            with suppress(RuntimeError):  # it has just ended by itself
                loop.call_soon_threadsafe(loop.stop)
        thread.join(_END)
        if not loop.is_closed():
            _log.error("the thread of a client did not end within %g seconds, and is left to itself", _END)

    def run(self, call: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Have a coroutine run there; return what it does or raise what it raises. Ctrl-C here cancels it there.

        Raises:
            Closed: the client is not open, or the thread has ended.
            Forked: a client of the parent process was in use when this process was forked.
        """
        _refuse_in_a_loop()
        handed_over = _Call(call(*args, **kwargs))
        try:
            with self._handing_over:
                handed_over.begin(self._running())
            return handed_over.result()
        except asyncio.CancelledError:
            raise aio.Closed("the client was closed during the call") from None
        except BaseException:
            handed_over.cancel()
            raise

    def iterate(self, items: AsyncIterator[R]) -> Iterator[R]:
        """Yield what an iterator there yields."""
        nothing = object()
        turn = asyncio.Lock()  # a generator that is asked for the next item, until that is cancelled, cannot be closed

        async def next_item() -> R | object:
            async with turn:
                return await anext(items, nothing)

        async def close() -> None:
            async with turn:
                if isinstance(items, AsyncGenerator):
                    await items.aclose()

        try:
            while (item := self.run(next_item)) is not nothing:
                yield cast("R", item)
        finally:
            with suppress(aio.Closed):
                self.run(close)

    @property
    def is_here(self) -> bool:
        """Whether the thread is one of this process, and not its parent's."""
        return self._thread is not None or not self._left

    def call_soon(self, call: Callable[[], object]) -> None:
        """Have a function called there, and do not wait for that."""
        with self._handing_over:
            self._running().call_soon_threadsafe(call)

    def _running(self) -> asyncio.AbstractEventLoop:
        forks.check_usable()
        if self._left and self._loop is None and self._thread is None:
            self._start()
        if self._loop is None or self._thread is None:
            raise aio.Closed("the client is not open: use it in `with`")
        if self._loop.is_closed():
            raise aio.Closed(_THREAD_ENDED)
        return self._loop

    # Around a fork

    def hold(self, park: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Let no call begin until `release`, and have the client close its connection if it is idle.

        Return whether calls are held up. If anything takes too long, the child learns that it can use no client.
        """
        if not self._handing_over.acquire(timeout=_PARKING):
            return False
        if self._loop is not None and current_thread() is not self._thread:
            parking = _Call(park())
            with suppress(Exception, asyncio.CancelledError):
                parking.begin(self._loop)
                parking.result(_PARKING)
        return True

    def release(self) -> None:
        """Let calls begin again."""
        self._handing_over.release()

    def begin_child(self) -> None:
        """Leave the loop and the thread to the parent. The next call starts others."""
        self._handing_over = RLock()
        if self._loop is not None:
            self._left.append(self._loop)
            self._loop = self._thread = None


class _Call(Generic[R]):
    """A coroutine that runs in the event loop of another thread, and whose result this thread waits for.

    It is not a `concurrent.futures.Future`, because the lock of that one is taken in Python: Ctrl-C at the wrong moment
    leaves it locked, and then the event loop waits for it, and every call for the event loop.
    """

    def __init__(self, work: Coroutine[Any, Any, R]) -> None:
        self._work = work
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[R] | None = None
        self._has_begun = self._is_cancelled = False
        self._outcome = SimpleQueue[tuple[R, None] | tuple[None, BaseException]]()

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand the coroutine over. Raises `Closed` if the loop is closed."""
        self._loop = loop
        try:
            loop.call_soon_threadsafe(self._begin, loop)
        except RuntimeError:
            self._work.close()
            raise aio.Closed(_THREAD_ENDED) from None

    def result(self, seconds: float = inf) -> R:
        """Return what the coroutine returns, or raise what it raises, or `Closed` if the loop is closed.

        Raises TimeoutError after so many seconds. Whether the thread lives is not asked, because Ctrl-C in
        `Thread.is_alive` makes a thread that lives count as ended.
        """
        end = monotonic() + seconds
        while True:
            is_closed = self._loop is None or self._loop.is_closed()
            with suppress(Empty):
                left = 0.0 if is_closed else min(_LOOK_UP, max(0.0, end - monotonic()))
                value, error = self._outcome.get(timeout=left)
                if error is not None:
                    raise error
                return cast("R", value)
            if is_closed:
                if not self._has_begun:
                    self._work.close()
                raise aio.Closed(_THREAD_ENDED)
            if monotonic() >= end:
                raise TimeoutError

    def cancel(self) -> None:
        """Cancel it. One that has ended, or whose thread has, is left as it is."""
        if self._loop is None:
            self._work.close()
            return
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._cancel)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._is_cancelled:
            self._work.close()
            return
        self._has_begun = True
        self._task = loop.create_task(self._work)
        self._task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[R]) -> None:
        # The other thread gets no task, because freeing one runs code of Python, in which Ctrl-C goes unheard.
        self._task = None
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._outcome.put((None, error) if error is not None else (task.result(), None))

    def _cancel(self) -> None:
        self._is_cancelled = True
        if self._task is not None:
            self._task.cancel()


def _serve(started: SimpleQueue[asyncio.AbstractEventLoop]) -> None:
    """Run an event loop until it is stopped; cancel what still runs there then."""
    try:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            asyncio.set_event_loop(loop)
            loop.call_soon(started.put, loop)
            loop.run_forever()
    except BaseException:  # noqa: BLE001  # the end of a thread: no caller would get it
        # Such as SystemExit of a listener. Calls that wait for this thread raise Closed.
        _log.exception("the thread of a client has ended")


def _refuse_in_a_loop() -> None:
    """Raise where waiting would bring an event loop to a stand: what it waits for may be up to that loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "queuelet.client.blocking was called in an event loop, which would stand still meanwhile: "
        "await queuelet.client there, or call this in another thread with asyncio.to_thread"
    )


def _blocking(
    method: Callable[Concatenate[aio.Client, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Client, P], R]:
    """Return the method that waits for one of the async client."""

    @wraps(method)
    def call(client: Client, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return client.thread.run(method, client.inner, *args, **kwargs)

    return call


def _iterating(
    method: Callable[Concatenate[aio.Client, P], AsyncIterator[R]],
) -> Callable[Concatenate[Client, P], Iterator[R]]:
    """Return the method that yields what one of the async client does."""

    @wraps(method)
    def call(client: Client, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        return client.thread.iterate(method(client.inner, *args, **kwargs))

    return call


class Client:
    """A connection to a server, as `queuelet.client.Client` is one. Use it in `with`."""

    def __init__(self, connection: aio.Connection | str = DEFAULT) -> None:
        """Take how to reach the server, or just its address. Nothing is sent yet."""
        self.inner = aio.Client(connection)
        """The client that does the work, for use in `thread` only."""
        self.thread = _LoopThread()

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

    def listen(self, listener: StateListener) -> Callable[[], None]:
        """Have a function called in the client's thread at each change of the connection; return what ends that."""

        async def listen() -> Callable[[], None]:
            return self.inner.listen(listener)

        return partial(self.thread.call_soon, self.thread.run(listen))

    @property
    def connection(self) -> aio.Connection:
        """How the server is reached."""
        return self.inner.connection

    @property
    def state(self) -> aio.ConnectionState | None:
        """The latest state of the connection; None before there was one, and where nobody listens."""
        return self.inner.state


_clients: WeakSet[Client] = WeakSet()
"""Those that are open."""

_fork = local()
"""The clients that this thread holds up while it forks."""


def _before_fork() -> None:
    """Close the connections of all clients, if no other channel keeps gRPC alive: then the child can use it."""
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


class Sent:
    """A message on its way. Ask for its `result`: `Added`, or the error that kept it from that."""

    def __init__(self, sent: aio.Sent, thread: _LoopThread) -> None:
        """Take the message as the async producer has it. `Producer.send` makes these."""
        self._sent = sent
        self._thread = thread
        self._generation = forks.generation()

    def result(self, timeout: Seconds | None = None) -> aio.Added:
        """Wait for the outcome, for so many seconds. Raises `TimeoutError` after that; it stays on its way."""
        patience = patience_of("timeout", timeout)
        _check_made_here(self._generation, "the message was sent")

        async def outcome() -> aio.Added:
            async with asyncio.timeout(patience):
                return await self._sent

        return self._thread.run(outcome)

    def done(self) -> bool:
        """Tell whether there is an outcome."""
        return self._sent.done()

    def add_done_callback(self, call: Callable[[aio.Added | QueueletError], None]) -> None:
        """Have a function called with the outcome, in the client's thread."""
        self._thread.call_soon(partial(self._sent.add_done_callback, call))


def _check_made_here(generation: int, what: str) -> None:
    """Raise `Forked` if something was begun by the parent of this process: it ends there, and is not heard of here."""
    if generation != forks.generation():
        raise aio.Forked(f"{what} by the process that this one was forked from; ask there")


class Producer(Generic[Item]):
    """Puts messages into one queue, as `queuelet.client.Producer` does. Use it in `with`."""

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
        """Take where the messages go, and the options of `queuelet.client.Producer`."""
        self._thread = client.thread

        def make() -> aio.Producer[Item]:
            return aio.Producer(client.inner, queue, serializer, **options)

        self._queue = queue
        self._make = make
        self._producer = make()
        self._generation = forks.generation()
        self._is_open = False

    def __enter__(self) -> Self:
        """Begin: messages may be put."""
        self._thread.run(self._producer.__aenter__)
        self._is_open = True
        _producers.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what is still here. Raises `PutsFailed` for messages that were not put, if nobody waited for them."""
        self._is_open = False
        _producers.discard(self)
        if self._generation == forks.generation():
            self._thread.run(self._producer.__aexit__, kind, error, trace)

    def close(self) -> None:
        """Send what is still here, for `close_timeout` seconds at most, and take no more. Twice is once."""
        self._is_open = False
        _producers.discard(self)
        if self._generation == forks.generation():
            self._thread.run(self._producer.close)

    def put(self, item: Item, **options: Unpack[PutOptions]) -> aio.Added:
        """Put an item into the queue, and return when it is kept there."""
        return self._thread.run(self._ours().put, item, **options)

    def put_many(self, items: Iterable[Item]) -> list[aio.Added]:
        """Put items in their order, and return when all are kept. Raises what kept the first of them from that."""
        return self._thread.run(self._ours().put_many, list(items))

    def send(self, item: Item, **options: Unpack[PutOptions]) -> Sent:
        """Take an item to be put, and return before it is."""
        return Sent(self._thread.run(self._ours().send, item, **options), self._thread)

    def flush(self, timeout: Seconds | None = None) -> bool:
        """Wait until all that was put so far has an outcome; return whether it has, within so many seconds."""
        return self._thread.run(self._ours().flush, timeout)

    @property
    def unsettled(self) -> int:
        """How many messages are on their way."""
        return self._producer.unsettled if self._generation == forks.generation() else 0

    def _end_with_program(self) -> None:
        """Send what is still here, for a few seconds, and log that it should have been closed."""
        if not self.unsettled or not self._is_open:
            return
        _log.warning(
            "a producer of queue %s was not closed: %d messages are sent as the program ends; use it in `with`",
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
        """Return the producer of this process. One from before a fork is its parent's, with what it has under way."""
        if self._generation == forks.generation() or not self._is_open:
            return self._producer

        async def begin() -> None:
            # In the client's thread, so that two callers do not begin twice.
            if self._generation != forks.generation():
                producer = self._make()
                await producer.__aenter__()
                self._producer, self._generation = producer, forks.generation()

        self._thread.run(begin)
        return self._producer


_producers: set[Producer[Any]] = set()
"""Those that are open. They are kept, so that what one holds is sent even where the program has dropped it."""


@atexit.register
def _end_producers() -> None:
    for producer in list(_producers):
        with suppress(QueueletError):  # the client was closed, or the process was forked off
            producer._end_with_program()  # noqa: SLF001  # of this module


class Consumer(Generic[Item]):
    """Takes messages from one queue, as `queuelet.client.Consumer` does: to a handler, or one after the other.

    A thread cannot be cut off. Closing waits for each handler to return, though after `close_timeout` its message goes
    back to the queue.
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
        """Take where messages come from, what to do with them, and the options of `queuelet.client.Consumer`."""
        if iscoroutinefunction(handler):
            raise TypeError("the handler is a coroutine function: give a plain one, or use queuelet.client.Consumer")
        self._thread = client.thread
        self._handler = handler
        self._consumer: aio.Consumer[Item] = aio.Consumer(
            client.inner, queue, None if handler is None else self._handle, serializer=serializer, **options
        )
        self._pool = ThreadPoolExecutor(options.get("concurrency", 1), "queuelet-handler")
        self._is_open = False
        self._generation = forks.generation()
        self._failure: BaseException | None = None

    # Its life

    def run(self) -> None:
        """Consume until `stop`, or what the consumer was told to end after. Raises what does not go by itself.

        Ctrl-C closes it, and is raised when that is done.
        """
        if self._handler is None:
            raise TypeError("there is no handler to run: give one, or iterate over the consumer")
        with self:
            self.wait()

    def __enter__(self) -> Self:
        """Begin to consume."""
        self._thread.run(self._consumer.__aenter__)
        self._is_open = True
        self._generation = forks.generation()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End as `close` does. A message that was iterated over when an error came up fails with that."""
        if self._generation != forks.generation():
            return
        try:
            self._thread.run(self._consumer.__aexit__, kind, error, trace)
        finally:
            self._pool.shutdown()

    def stop(self) -> None:
        """Take no more messages, and end when the work that goes on is done. Any thread or handler may call it."""
        self._check_opened_here()
        self._thread.call_soon(self._consumer.stop)

    def wait(self) -> None:
        """Wait until the consumer has ended. Raises what does not go by itself, and `SystemExit` of a handler."""
        self._check_opened_here()
        self._thread.run(self._consumer.wait)
        if self._failure is not None:
            raise self._failure

    def close(self, timeout: Seconds | None = None) -> None:
        """Stop, let work go on for so many seconds (None for ever), and tell the server what became of it."""
        if self._generation != forks.generation():
            return
        try:
            self._thread.run(self._consumer.close, timeout)
        finally:
            self._pool.shutdown()

    def __iter__(self) -> Iterator[aio.Received[Item]]:
        """Iterate over the messages. Asking for the next one acknowledges the one before, unless it is settled."""
        self._check_opened_here()
        return self._iterate(aiter(self._consumer))

    @property
    def done(self) -> int:
        """Messages that were acknowledged, and are out of the queue."""
        return self._consumer.done

    @property
    def failed(self) -> int:
        """Messages whose work failed."""
        return self._consumer.failed

    @property
    def lost(self) -> int:
        """Messages that were done but may be delivered again, since their lease was over."""
        return self._consumer.lost

    # Inside

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
        """Return a message for use in another thread: what becomes of it is said in the client's."""
        settler = _Settler(received._lessee, self._thread)  # noqa: SLF001  # both are the client's
        received._lessee = cast("Lessee", settler)  # noqa: SLF001  # nobody else has it yet
        return received

    async def _handle(self, received: aio.Received[Item]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._pool, self._work, self._lend(received))

    def _work(self, received: aio.Received[Item]) -> None:
        """Do the work of a message, in a thread of the pool."""
        assert self._handler is not None  # noqa: S101  # nothing comes here otherwise
        try:
            result: object = self._handler(received)
            if isawaitable(result):
                if iscoroutine(result):
                    result.close()
                # Its work was not done: nobody here awaits it.
                self._failure = TypeError("the handler returned something to await: use queuelet.client.Consumer")
                self.stop()
                raise self._failure  # noqa: TRY301  # so that the message counts as failed
        except (SystemExit, KeyboardInterrupt) as error:
            # It would end the client's thread. It is for the caller of `run`, and the message failed.
            self._failure = error
            self.stop()
            raise RuntimeError(f"the handler ended the consumer: {described(error)}") from error
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, StopIteration):
                raise
            # A future does not take a StopIteration, and asyncio takes a GeneratorExit for the end of a coroutine.
            raise RuntimeError(described(error, "the handler raised ")) from error


class _Settler:
    """Takes the word on a message from any thread. A lessee is for one."""

    def __init__(self, lessee: Lessee, thread: _LoopThread) -> None:
        self._lessee = lessee
        self._thread = thread

    def ack(self, delivery: Delivery) -> None:
        self._thread.call_soon(partial(self._lessee.ack, delivery))

    def nack(self, nack: pb.ConsumeNack) -> None:
        self._thread.call_soon(partial(self._lessee.nack, nack))
