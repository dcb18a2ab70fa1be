"""Whether the server is reached, and who is told when that changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from time import monotonic

import grpc

_log = logging.getLogger("queuelet.client")


class ConnectionState(Enum):
    """How the connection to the server stands. The names are those of Apache Curator's `ConnectionState`."""

    CONNECTED = "connected"
    """The server was reached for the first time."""

    SUSPENDED = "suspended"
    """The connection broke, or the server went away: nothing is heard of it until it is reached again."""

    RECONNECTED = "reconnected"
    """The server was reached again."""

    LOST = "lost"
    """The server has been away for so long that leases from before must be taken for ended. It is still tried."""


StateListener = Callable[[ConnectionState], None]


class ConnectionWatch:
    """Watches one channel, and tells each change to those who listen, in the order in which they happened."""

    def __init__(self, channel: grpc.aio.Channel, lost_after: float) -> None:
        """Take the channel, and how long the server may be away before it counts as lost, in seconds."""
        self._channel = channel
        self._lost_after = lost_after
        self._listeners: list[StateListener] = []
        self._task: asyncio.Task[None] | None = None
        self._was_reached = False
        self.state: ConnectionState | None = None
        """The latest that was told; None before anything was."""

    def listen(self, listener: StateListener) -> Callable[[], None]:
        """Have a function called at each change from now on; return what ends that.

        It is called in the event loop, so it must not block. What it raises is logged, and keeps nobody else from
        hearing. The first to listen makes the client connect.
        """
        self._listeners.append(listener)
        if self._task is None:
            self._task = asyncio.create_task(self._watch())

        def leave() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return leave

    @property
    def is_watching(self) -> bool:
        """Whether anything has listened."""
        return self._task is not None

    async def close(self) -> None:
        """Watch no more."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _watch(self) -> None:
        away_since = monotonic()
        while True:
            found = self._channel.get_state(try_to_connect=True)
            if found is grpc.ChannelConnectivity.SHUTDOWN:
                return
            if found is grpc.ChannelConnectivity.READY:
                self._tell(ConnectionState.RECONNECTED if self._was_reached else ConnectionState.CONNECTED)
                self._was_reached = True
                patience = None
            else:
                if self.state in {ConnectionState.CONNECTED, ConnectionState.RECONNECTED}:
                    away_since = monotonic()
                    self._tell(ConnectionState.SUSPENDED)
                patience = max(0.0, away_since + self._lost_after - monotonic())
                if not patience:
                    self._tell(ConnectionState.LOST)
                    patience = None
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._channel.wait_for_state_change(found)

    def _tell(self, state: ConnectionState) -> None:
        is_reached = {ConnectionState.CONNECTED, ConnectionState.RECONNECTED}
        if state is self.state or (state in is_reached and self.state in is_reached):
            return
        self.state = state
        for listener in list(self._listeners):
            try:
                listener(state)
            except Exception:  # noqa: BLE001  # it is theirs, and others listen too
                _log.exception("a listener of the connection failed at %s", state.name)
