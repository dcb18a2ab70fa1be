"""Ends the connections when the server stops."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from queuelet.server.native.port import Port
from queuelet.wire.errors import Code, Status

_CUT = Status(Code.UNAVAILABLE, "the server stopped before the call ended; it may or may not have been executed")

_IDLE_SECONDS = 1.0
"""How long a client without calls may take to confirm that it starts no new ones."""

_END_SECONDS = 1.0
"""How long the last responses may take to leave, and handlers that were cancelled to end."""


async def drain(port: Port, grace: float) -> None:
    """Ask each client to start no new calls, wait up to `grace` seconds for those in flight, then end the rest."""
    port.is_draining = True
    if not port.connections:
        return
    for connection in list(port.connections):
        connection.drain()
    await _emptied(port, min(grace, _IDLE_SECONDS))
    for connection in list(port.connections):
        if not connection.open_calls:
            connection.close(_CUT)
    await _emptied(port, max(0.0, grace - _IDLE_SECONDS))
    tasks = [task for connection in list(port.connections) for task in connection.close(_CUT)]
    if tasks:
        await asyncio.wait(tasks, timeout=_END_SECONDS)
    await _emptied(port, _END_SECONDS)
    for connection in list(port.connections):
        connection.abort()


async def _emptied(port: Port, seconds: float) -> None:
    if port.connections and seconds:
        with suppress(TimeoutError):
            await asyncio.wait_for(port.emptied.wait(), seconds)
