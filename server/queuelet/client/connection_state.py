"""The state of the connection to a server, and who is notified when it changes."""

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
    """The state of the connection to the server. The names are those of Apache Curator's `ConnectionState`."""

    CONNECTED = "connected"
    """The server was reached for the first time."""

    SUSPENDED = "suspended"
    """The connection broke, or the server went away. The client reconnects."""

    RECONNECTED = "reconnected"
    """The server was reached again."""

    LOST = "lost"
    """The outage has lasted so long that leases from before it have expired. The client still reconnects."""


StateListener = Callable[[ConnectionState], None]


class ConnectionWatch:
    """Watches one channel and notifies listeners of each state change, in order."""

    def __init__(self, channel: grpc.aio.Channel, lost_after: float) -> None:
        self._channel = channel
        self._lost_after = lost_after
        self._listeners: list[StateListener] = []
        self._task: asyncio.Task[None] | None = None
        self._was_reached = False
        self.state: ConnectionState | None = None
        """The latest state that listeners were notified of; None before the first."""

    def listen(self, listener: StateListener) -> Callable[[], None]:
        """Call a function at each change from now on, and return a function that stops that.

        The listener runs in the event loop, so it must not block. An exception that it raises is logged and does not
        affect other listeners. The first listener makes the client connect.
        """
        self._listeners.append(listener)
        if self._task is None:
            self._task = asyncio.create_task(self._watch())
            self._task.add_done_callback(_retrieve)

        def stop() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return stop

    @property
    def is_watching(self) -> bool:
        """Whether there was ever a listener."""
        return self._task is not None

    async def close(self) -> None:
        """Stop watching."""
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
                self._notify(ConnectionState.RECONNECTED if self._was_reached else ConnectionState.CONNECTED)
                self._was_reached = True
                timeout = None
            else:
                if self.state in {ConnectionState.CONNECTED, ConnectionState.RECONNECTED}:
                    away_since = monotonic()
                    self._notify(ConnectionState.SUSPENDED)
                timeout = max(0.0, away_since + self._lost_after - monotonic())
                if not timeout:
                    self._notify(ConnectionState.LOST)
                    timeout = None
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._channel.wait_for_state_change(found)

    def _notify(self, state: ConnectionState) -> None:
        reached = {ConnectionState.CONNECTED, ConnectionState.RECONNECTED}
        if state is self.state or (state in reached and self.state in reached):
            return
        self.state = state
        for listener in list(self._listeners):
            try:
                listener(state)
            except Exception:  # noqa: BLE001  # a listener is the program's code, and there may be others
                _log.exception("a connection listener raised an exception at %s", state.name)


def _retrieve(task: asyncio.Task[None]) -> None:
    """Retrieve and log the error of a watch, because asyncio otherwise logs it when the task is collected, at any time.

    What ends the whole event loop, such as SystemExit from a listener, is not logged, because its caller gets it.
    """
    if not task.cancelled() and isinstance(error := task.exception(), Exception):
        _log.error("watching the connection ended with an error", exc_info=error)
