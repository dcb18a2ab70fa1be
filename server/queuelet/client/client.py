"""A client of a server: its calls as methods, and the state of its connection."""

from __future__ import annotations

from collections.abc import Callable

from queuelet.client.calls import PING
from queuelet.client.connection import DEFAULT, Connection
from queuelet.client.connection_state import ConnectionState, StateListener
from queuelet.client.lease_calls import LeaseCalls
from queuelet.client.message_calls import MessageCalls
from queuelet.client.queue_calls import QueueCalls
from queuelet.v1 import queue_pb2 as pb


class Client(QueueCalls, MessageCalls, LeaseCalls):
    """A connection to a server. Use it in `async with`.

    Every call raises the errors of `queuelet.errors`. `Unreachable` means that the server could not be reached or went
    away during the call, so the call may or may not have had an effect.

    The client retries an idempotent call for `Connection.retry_for` seconds before it raises `Unreachable`. Idempotent
    are calls that only read, Ack, Extend, calls with a request ID (the server repeats its first response), and an Add
    with a message ID (it adds nothing while the first message is queued).

    Args:
        connection: How to reach the server, or just its address. Nothing is sent until the client is used.

    Raises:
        InvalidArgument: A time in the connection is out of range.
    """

    def __init__(self, connection: Connection | str = DEFAULT) -> None:
        super().__init__(Connection(server=connection) if isinstance(connection, str) else connection)

    @property
    def connection(self) -> Connection:
        """How the client reaches the server."""
        return self._connection

    def listen(self, listener: StateListener) -> Callable[[], None]:
        """Call a function at each change of the connection's state.

        The client connects at once instead of with its first call.

        Args:
            listener: Called with each new state, in the event loop, so it must not block.

        Returns:
            A function that stops the notifications.

        Raises:
            Closed: The client is not open.
        """
        self._open_channel()
        assert self._watch  # noqa: S101  # set together with the channel
        return self._watch.listen(listener)

    @property
    def state(self) -> ConnectionState | None:
        """The latest state of the connection; None before the first change and without a listener."""
        return self._watch.state if self._watch else None

    async def ping(self) -> None:
        """Make a call that changes nothing, to find out whether the server responds.

        Raises:
            Unreachable: The server could not be reached, or went away during the call.
            DeadlineExceeded: The server did not respond within the timeout.
        """
        await self.call("ListQueues", PING, pb.ListQueuesResponse)
