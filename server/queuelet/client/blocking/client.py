"""The blocking client: the methods of the async one, called in its thread."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial, wraps
from threading import local
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar
from weakref import WeakSet

from queuelet import client as aio
from queuelet.client import forks
from queuelet.client.blocking.loop_thread import LoopThread
from queuelet.client.connection import DEFAULT
from queuelet.client.connection_state import StateListener

P = ParamSpec("P")
R = TypeVar("R")


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
