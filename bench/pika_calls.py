"""Awaitable calls of pika, which reports everything by callbacks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pika import ConnectionParameters  # type: ignore[import-untyped]
from pika.adapters.asyncio_connection import AsyncioConnection  # type: ignore[import-untyped]
from pika.channel import Channel  # type: ignore[import-untyped]
from pika.frame import Method  # type: ignore[import-untyped]

from bench.system import Failed


async def connected(address: str) -> AsyncioConnection:
    """Return an open connection to `host:port`. Raises `Failed` if there is no server."""
    host, port = address.split(":")
    opened: asyncio.Future[AsyncioConnection] = asyncio.get_running_loop().create_future()
    AsyncioConnection(
        ConnectionParameters(host, int(port), heartbeat=0),
        on_open_callback=opened.set_result,
        on_open_error_callback=lambda _, error: opened.set_exception(Failed(f"RabbitMQ cannot be reached: {error}")),
        custom_ioloop=asyncio.get_running_loop(),
    )
    return await opened


async def open_channel(connection: AsyncioConnection) -> Channel:
    """Return an open channel."""
    opened: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()
    connection.channel(on_open_callback=opened.set_result)
    return await opened


async def called(method: Callable[..., object], *arguments: object, **named: object) -> Method:
    """Call a method that responds by a callback, and return the response."""
    done: asyncio.Future[Method] = asyncio.get_running_loop().create_future()
    method(*arguments, callback=done.set_result, **named)
    return await done
