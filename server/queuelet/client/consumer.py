"""The consumer: messages come under leases, and what becomes of them follows from how their work ends.

    async def handle(order: Received[bytes]) -> None:
        ...                                           # returning acknowledges, raising gives the message back

    await Consumer(client, "orders", handle, concurrency=8).run()

or, one message after the other:

    async with Consumer(client, "orders") as orders:
        async for order in orders:                    # asking for the next acknowledges this one
            ...

A lease is kept for as long as the work takes. When the server goes away the consumer waits until it is back; work that
goes on meanwhile is not begun a second time when its message comes again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, suppress
from inspect import isawaitable
from math import inf
from time import monotonic
from types import TracebackType
from typing import Any, Generic, Self, Unpack, overload

from queuelet.client.client import Client
from queuelet.client.errors import Closed
from queuelet.client.lease_session import Lessee, Terms, Work
from queuelet.client.messages import Delivery, nack_to_pb
from queuelet.client.options import ConsumerOptions, OnError
from queuelet.client.received_message import Received
from queuelet.client.serializers import BYTES, Item, Serializer
from queuelet.client.text import LONGEST_CONSUMER, check_text, described, sendable
from queuelet.client.validation import Seconds, check_at_least, patience_of, seconds_of
from queuelet.errors import QueueletError

_log = logging.getLogger("queuelet.client")

_LOOK = 0.25
"""How often to look whether the queue is empty, in seconds."""

_AHEAD = 0.25
"""For how long the messages that are fetched ahead are to last, in seconds."""

_FIRST_PREFETCH, MOST_PREFETCH = 10, 1_000
"""How many messages are fetched ahead before anything is known of their work, and at most."""

_WAIT = 1.0
"""How long a message that was fetched ahead waits for a slow handler, in seconds."""

_SHORTEST = 1e-6
"""How long any work takes at least, in seconds."""

_NEWS = 0.1
"""How much of what is thought of the pace is the last message's."""

_FAREWELL = 2.0
"""How long the server may take to answer what it was told last, in seconds."""

_TURN = 0.01
"""How long messages may be handled in a row before others have their turn, in seconds."""

Handler = Callable[[Received[Item]], Awaitable[object]]
"""Does the work of one message."""


class Consumer(Generic[Item]):
    """Takes messages from one queue."""

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
        serializer: Serializer[Item],
        **options: Unpack[ConsumerOptions],
    ) -> None: ...

    def __init__(  # noqa: PLR0913  # each is a choice of its own, and all but three are named
        self,
        client: Client,
        queue: str,
        handler: Handler[Any] | None = None,
        *,
        serializer: Serializer[Item] = BYTES,  # type: ignore[assignment]  # the overloads say when
        concurrency: int = 1,
        prefetch: int | None = None,
        prefetch_bytes: int = 16 * 1024 * 1024,
        prefetch_seconds: Seconds | None = None,
        lease: Seconds = 0,
        exclusive: bool = False,
        name: str = "",
        on_error: OnError = OnError.REQUEUE,
        retry_delay: Seconds = 0,
        max_messages: int | None = None,
        until_empty: bool = False,
        close_timeout: Seconds | None = 30.0,
        reach_for: Seconds | None = None,
        missing_for: Seconds = 30.0,
        heartbeat: Seconds = 5.0,
    ) -> None:
        """Take where messages come from, and what to do with them.

        Args:
            client: an open client.
            queue: the queue's name or id.
            handler: does the work of a message; None to iterate over the messages instead.
            serializer: what makes items of bytes.
            concurrency: how many messages are handled at a time.
            prefetch: how many more may be here, so that none has to be waited for; 0 leaves them to other consumers.
                None for as many as are handled in a quarter of a second, as far as is known, and 1,000 at most.
            prefetch_bytes: how many bytes of messages may be here before no more are fetched ahead; 0 for any number.
                One message may go past that.
            prefetch_seconds: how long a message that was fetched ahead waits here, in seconds, 0.1 or more. Then it
                goes back to the queue, so that another consumer gets it. None for one second, or for any time if
                `prefetch` is given. An exclusive consumer hands nothing back.
            lease: how long leases last, in seconds, 1 or more; 0 for what the queue says. They are extended while work
                goes on.
            exclusive: whether to be the only one who takes messages from the queue, and to wait while another is.
            name: what to call yourself in the history of messages that fail; empty for the machine and the process.
            on_error: what becomes of a message whose handler raises.
            retry_delay: how long such a message stays away, in seconds.
            max_messages: end after so many messages; None for never.
            until_empty: whether to end when no message is ready, and none is leased to anybody.
            close_timeout: how long work may go on when the consumer is closed, in seconds; None for ever.
            reach_for: how long to try to reach a server that was never reached, in seconds; None for ever.
            missing_for: how long a queue that was there may be missing until `run` raises `QueueNotFound`, in seconds:
                it may be deleted to be declared again, or its server may have just come back without it. A queue that
                was never there is an error at once.
            heartbeat: for how long the stream to the server may be silent in either direction, in seconds, 0.1 or more;
                0 for any time. A server that is silent for three times as long counts as gone. So does this consumer
                for the server, which then gives its messages to others. It is at most a fifth of a lease.

        Raises:
            ValueError: a number is out of its range.
            TypeError: `on_error` is no `OnError`.
        """
        check_at_least(1, concurrency=concurrency, max_messages=max_messages)
        check_at_least(0, prefetch=prefetch, prefetch_bytes=prefetch_bytes)
        check_text("queue", queue)
        if not isinstance(on_error, OnError):
            raise TypeError(f"on_error: {on_error!r} is no OnError; use one of {', '.join(map(str, OnError))}")
        self._client = client
        self._queue = queue
        self._handler = handler
        self._serializer = serializer
        self._concurrency = concurrency
        self._prefetch = prefetch
        if prefetch_seconds is None:
            prefetch_seconds = _WAIT if prefetch is None else inf
        self._prefetch_seconds = seconds_of("prefetch_seconds", prefetch_seconds, least=0.1, most=inf)
        self._pace = _AHEAD / _FIRST_PREFETCH
        """About how long the work of a message takes, in seconds."""
        self._on_error = on_error
        self._retry_delay = seconds_of("retry_delay", retry_delay)
        self._max_messages = max_messages
        self._until_empty = until_empty
        self._close_timeout = patience_of("close_timeout", close_timeout)
        terms = Terms(
            queue=queue,
            consumer=sendable(name or f"{socket.gethostname()}:{os.getpid()}", LONGEST_CONSUMER),
            lease=seconds_of("lease", lease, least=1) if lease else 0,
            concurrency=concurrency,
            is_exclusive=exclusive,
            reach_for=patience_of("reach_for", reach_for),
            heartbeat=seconds_of("heartbeat", heartbeat, least=0.1, most=3_600) if heartbeat else 0,
            max_bytes=prefetch_bytes,
            missing_for=seconds_of("missing_for", missing_for, most=inf),
        )
        self._changed = asyncio.Event()
        work = Work(
            self._take,
            self._lose,
            self._disconnected,
            self._done,
            self._undone,
            self._changed.set,
            self._room,
            self._wanted,
        )
        self._lessee = Lessee(client, terms, work)
        self._here: deque[Received[Item]] = deque()
        self._hands_back = not exclusive and self._prefetch_seconds < inf
        self._waiting: asyncio.TimerHandle | None = None
        self._is_stalled = False
        """Whether messages were handed back, and none was asked for since."""
        self._arrived = asyncio.Event()
        self._running: set[Received[Item]] = set()
        self._was_cut = False
        self._begun = 0
        self._is_stopping = self._is_cutting_off = False
        self._connecting: asyncio.Task[None] | None = None
        self._handling: list[asyncio.Task[None]] = []
        self._looking: asyncio.Task[None] | None = None
        self.done = 0
        """Messages that were acknowledged, and are out of the queue as far as can be known.

        An acknowledgement that was not answered when a connection broke is told again on the next one. If the server
        knows nothing of its lease then, the message counts: most likely it heard the first. A server of Disk queues
        that crashed may have lost a lease of its last second instead, and that message comes again.
        """
        self.failed = 0
        """Messages whose work failed."""
        self.lost = 0
        """Messages that were done but may be delivered again, since their lease was over."""

    # Its life

    async def run(self) -> None:
        """Consume until `stop`, or what the consumer was told to end after. Raises what does not go by itself.

        Raises:
            Closed: the client is not open, or was closed under the consumer.
            QueueNotFound: there is no such queue, or it was deleted and did not come back within `missing_for`.
            QueueHeld: an exclusive consumer holds the queue, and this one is not exclusive.
        """
        if self._handler is None:
            raise TypeError("there is no handler to run: give one, or iterate over the consumer")
        async with self:
            await self.wait()

    async def __aenter__(self) -> Self:
        """Begin to consume."""
        if self._connecting is not None:
            raise Closed("the consumer was opened before: make a new one")
        self._connecting = asyncio.create_task(self._lessee.run())
        self._connecting.add_done_callback(lambda _: self._end_soon())
        if self._handler is not None:
            self._handling = [asyncio.create_task(self._handle_all(self._handler)) for _ in range(self._concurrency)]
            for task in self._handling:
                task.add_done_callback(lambda _: self._changed.set())
        if self._until_empty:
            self._looking = asyncio.create_task(self._look_for_end())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End as `close` does. The message at which a loop was left is acknowledged, unless it is settled.

        Where an error comes up, the message fails with that. Where work is cut off, by being cancelled for one, it goes
        back.
        """
        if self._handler is None:
            for received in list(self._running):
                if error is None or isinstance(error, Exception):
                    self._settle(received, error)
                else:
                    self._running.discard(received)  # the end of the stream gives it back
        await self.close(0 if kind is asyncio.CancelledError else self._close_timeout)

    def stop(self) -> None:
        """Take no more messages, and end when the work that goes on is done. It may be called in a signal handler."""
        self._is_stopping = True
        self._lessee.take_no_more()
        self._give_back_unused()
        self._end_soon()

    async def wait(self) -> None:
        """Wait until the consumer has ended. Raises what does not go by itself, as `run` does."""
        while not self._is_over:
            self._changed.clear()
            await self._changed.wait()
        self._raise_failure()

    async def close(self, timeout: Seconds | None = None) -> None:  # noqa: ASYNC109  # past it, work is cut off
        """Stop, let work go on for so many seconds (None for ever), and tell the server what became of it.

        Messages whose work is cut off go back.
        """
        patience = patience_of("timeout", timeout)
        if self._connecting is None:
            return
        self.stop()
        try:
            with suppress(TimeoutError, QueueletError):
                async with asyncio.timeout(patience):
                    await self.wait()
        finally:
            # Work ends first: its messages are given to others when the connection does.
            self._is_cutting_off = True
            if self._waiting is not None:
                self._waiting.cancel()
            await _cancel(self._handling)
            self._lessee.end()
            with suppress(TimeoutError, QueueletError):
                async with asyncio.timeout(_FAREWELL if self._lessee.is_connected else 0):
                    await asyncio.wait([self._connecting])
            await _cancel(task for task in (self._looking, self._connecting) if task is not None)
            # What was cut off will not end, and somebody else may wait for that.
            self._running.clear()
            self._changed.set()

    def __aiter__(self) -> AsyncIterator[Received[Item]]:
        """Iterate over the messages. Asking for the next one acknowledges the one before, unless it is settled.

        In `async with`, whoever asks may be cancelled, by a timeout for one, and ask again: no message is lost. The one
        at which you leave the loop is acknowledged when the block ends, unless an error ends it.

        Outside of `async with` the loop opens the consumer, and closes it when you leave it. The message at which you
        do goes back unless it is settled, for a `break` cannot be told from an error there. Being cancelled ends it.
        """
        if self._handler is not None:
            raise TypeError("the consumer has a handler, which gets the messages: iterate over one without")
        return self._messages() if self._connecting is not None else self._open_and_iterate()

    def _messages(self) -> _Messages[Item]:
        return _Messages(self._next_to_iterate, self._finish)

    async def _open_and_iterate(self) -> AsyncIterator[Received[Item]]:
        """Iterate, as a generator: only that hears that a loop is left."""
        async with AsyncExitStack() as stack:
            # It may have been opened since it was asked for this.
            if self._connecting is None:
                await stack.enter_async_context(self)
            async for each in self._messages():
                yield each

    @property
    def _is_over(self) -> bool:
        """Whether nothing is left to do, or nothing more can be done."""
        if self._has_hung_up or self._failure is not None:
            return True
        if self._running:
            return False
        if self._is_stopping:
            return not self._lessee.unsettled or not self._lessee.is_connected
        return self._has_enough and not self._lessee.unsettled

    @property
    def _has_hung_up(self) -> bool:
        """Whether the server is not talked to any more, and never will be again."""
        return self._connecting is not None and (self._connecting.done() or self._connecting.cancelling() > 0)

    @property
    def _has_enough(self) -> bool:
        """Whether no more messages are wanted."""
        return self._max_messages is not None and self._begun >= self._max_messages

    @property
    def _failure(self) -> BaseException | None:
        for task in (self._connecting, *self._handling, self._looking):
            if task is not None and task.done() and not task.cancelled() and task.exception() is not None:
                return task.exception()
        return None

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _end_soon(self) -> None:
        """Have whoever waits look whether it is over."""
        self._changed.set()
        self._lessee.look_again()
        self._arrived.set()

    async def _look_for_end(self) -> None:
        """Look whether the queue is empty. A message that is leased is not gone: it may come back."""
        while True:
            await asyncio.sleep(_LOOK)
            if self._running or self._here or self._lessee.unsettled:
                continue
            with suppress(QueueletError):
                counts = (await self._client.get_queue(self._queue)).messages
                if not counts.ready and not counts.leased:
                    self.stop()
                    return

    @property
    def was_connected(self) -> bool:
        """Whether the server was ever reached."""
        return self._lessee.was_connected

    @property
    def in_work(self) -> int:
        """How many messages are worked on."""
        return len(self._running)

    @property
    def unconfirmed(self) -> int:
        """Of how many messages the server has not confirmed yet what it was told."""
        return self._lessee.unsettled

    # Messages

    def _take(self, delivery: Delivery) -> None:
        """Take a message. One whose work goes on already only gets a new lease."""
        if self._running and (self._was_cut or delivery.count > 1):
            running = next((each for each in self._running if each.id == delivery.message.id), None)
            if running is not None and not running.is_settled:
                running._renew(delivery)  # noqa: SLF001  # who has it is not to renew it
                return
        if self._is_stopping:
            self._lessee.nack(nack_to_pb(delivery.token, unused=True))
            return
        try:
            item = self._serializer.load(delivery.payload)
        except Exception as error:  # noqa: BLE001  # whatever a serializer raises, the message is not for it
            self.failed += 1
            reason = described(error, "its payload cannot be read: ")
            self._lessee.nack(nack_to_pb(delivery.token, reason=reason, dead=True))
            _warn("message %s of queue %s is dead: %s", delivery.message.id, self._queue, reason)
            return
        self._here.append(Received(delivery, item, self._lessee))
        if self._hands_back and self._waiting is None:
            self._look_again_after(0)
        self._arrived.set()

    def _lose(self, token: int, error: QueueletError) -> None:
        """Hear that a message is somebody else's now, though its work goes on here."""
        for received in self._running:
            if received.token == token:
                received.is_leased = False
                _log.warning("message %s may be delivered to others: %s", received.id, error.message)

    def _disconnected(self) -> None:
        """Hear that the messages that are held went back, and may come again."""
        self._was_cut = True
        for received in self._running:
            received.is_leased = False
        self._here.clear()
        self._end_soon()

    def _done(self, count: int) -> None:
        """Count messages that were acknowledged."""
        self.done += count

    def _undone(self, error: QueueletError) -> None:
        """Count a message that was acknowledged too late."""
        self.lost += 1
        _log.warning("a message was done, but may be delivered again: %s", error)

    def _room(self) -> int:
        """Return how many messages may be here: those that are worked on, and enough to go on with."""
        if self._is_stalled:
            return 0
        seconds, most = (_AHEAD, MOST_PREFETCH) if self._prefetch is None else (inf, self._prefetch)
        by_pace = self._concurrency * min(seconds, self._prefetch_seconds) / max(self._pace, _SHORTEST)
        return self._concurrency + int(min(most, by_pace))

    def _wanted(self) -> int | None:
        """Return how many more messages may come at most; None for as many as can be held."""
        if self._is_stopping:
            return 0
        return None if self._max_messages is None else self._max_messages - self._begun - len(self._here)

    async def _next(self) -> Received[Item] | None:
        """Return the next message to work on, or None at the end."""
        while not self._is_stopping and not self._has_enough:
            if self._here:
                received = self._here.popleft()
                self._begun += 1
                self._running.add(received)
                return received
            if self._has_hung_up or self._failure is not None:
                break
            if self._is_stalled:
                self._is_stalled = False
                self._lessee.look_again()
            self._arrived.clear()
            await self._arrived.wait()
        return None

    async def _next_to_iterate(self) -> Received[Item]:
        """Return the next message. Raises what does not go by itself, and `StopAsyncIteration` at the end."""
        received = await self._next()
        if received is None:
            self._raise_failure()
            raise StopAsyncIteration
        return received

    async def _handle_all(self, handler: Handler[Item]) -> None:
        """Handle one message after the other."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # it runs in one
        turn = monotonic()
        while (received := await self._next()) is not None:
            began = monotonic()
            try:
                error = await self._work(handler, received, task)
            except GeneratorExit as raised:
                # asyncio throws it here if a future that the handler awaits has it for a result.
                if not _is_in_a_loop():
                    raise
                error = raised
            self._finish(received, began, error)
            if monotonic() > turn + _TURN:
                await asyncio.sleep(0)
                turn = monotonic()

    async def _work(
        self, handler: Handler[Item], received: Received[Item], task: asyncio.Task[Any]
    ) -> BaseException | None:
        """Have the handler do the work of a message in this task, and return what it raised."""
        try:
            work = handler(received)
            is_async = isawaitable(work)
            if is_async:
                await work
            if task.cancelling():
                await asyncio.sleep(0)  # a cancellation is told where something is awaited
        except asyncio.CancelledError as cancelled:
            if self._is_cutting_off or self._has_hung_up:
                raise
            # It has cancelled its own task, or something it waited for was cancelled.
            return cancelled
        except (SystemExit, KeyboardInterrupt) as ending:
            self._settle(received, ending)
            raise
        except BaseException as raised:  # noqa: BLE001  # whatever a handler raises, the next message is handled
            return raised
        finally:
            while task.cancelling():
                task.uncancel()  # so that it goes on
        if not is_async:
            raise TypeError(
                "the handler returned without anything to await: make it `async def`, or use "
                "queuelet.client.blocking.Consumer"
            )
        return None

    def _finish(self, received: Received[Item], began: float, error: BaseException | None) -> None:
        """Settle a message as its work ended, and note how long that took."""
        self._settle(received, error)
        self._pace += (monotonic() - began - self._pace) * _NEWS

    def _settle(self, received: Received[Item], error: BaseException | None) -> None:
        """Settle a message as its work ended, unless it is settled already."""
        self._running.discard(received)
        if error is not None:
            self.failed += 1
        if not received.is_settled:
            if error is None or self._on_error is OnError.DROP:
                received.ack()
            else:
                is_dead = self._on_error is OnError.DEAD_LETTER
                received.nack(delay=0 if is_dead else self._retry_delay, reason=described(error), dead=is_dead)
        if self._is_stopping or self._has_enough:
            self._end_soon()
        if error is not None:
            _warn("message %s of queue %s failed", received.id, self._queue, error=error)

    def _look_again_after(self, newest: int) -> None:
        """Look later whether messages have waited for long: those up to the newest that is here now, by token."""
        loop = asyncio.get_running_loop()
        self._waiting = loop.call_later(self._prefetch_seconds / 2, self._look_at_waiting, newest)

    def _look_at_waiting(self, newest: int) -> None:
        """Hand back what is here if the first of it was here at the last look: what is behind it waits longer still."""
        self._waiting = None
        if not self._here:
            return
        if self._here[0].token > newest:
            self._look_again_after(self._here[-1].token)
            return
        tokens = [received.token for received in self._here]
        self._here.clear()
        self._is_stalled = True
        self._pace = max(self._pace, self._prefetch_seconds)
        self._lessee.hand_back(tokens)
        _log.debug("handed back %d messages of queue %s that waited for a slow handler", len(tokens), self._queue)

    def _give_back_unused(self) -> None:
        while self._here:
            self._here.popleft().nack(unused=True)


class _Messages(AsyncIterator[Received[Item]]):
    """The messages of an open consumer, one after the other. Asking for the next one ends the work of the one before.

    Asking may be cancelled: once a message is taken, nothing is waited for.
    """

    def __init__(
        self,
        next_message: Callable[[], Awaitable[Received[Item]]],
        finish: Callable[[Received[Item], float, None], None],
    ) -> None:
        self._next_message = next_message
        self._finish = finish
        self._last: Received[Item] | None = None
        self._began = 0.0

    async def __anext__(self) -> Received[Item]:
        last, self._last = self._last, None
        if last is not None:
            self._finish(last, self._began, None)
        self._last = await self._next_message()
        self._began = monotonic()
        return self._last


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    cancelled = list(tasks)
    for task in cancelled:
        task.cancel()
    if cancelled:
        await asyncio.wait(cancelled)


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _warn(message: str, *facts: object, error: BaseException | None = None) -> None:
    """Log a warning. What a log handler of the program raises, for a strange exception for one, ends nothing here."""
    try:
        _log.warning(message, *facts, exc_info=error)
    except Exception:  # noqa: BLE001  # it is theirs
        with suppress(Exception):
            _log.warning(message, *facts)
