"""An echo server on a free port, and channels of grpcio to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc.aio
import pytest

from echo_server import EchoServer

NO_PROBE = ("grpc.http2.bdp_probe", 0)
"""Otherwise grpcio's windows grow to megabytes."""

Serve = Callable[..., Awaitable[tuple[EchoServer, Any]]]
"""The channel is Any, because the stubs of grpcio cannot know the types of methods without serializers."""


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a server with limits, and return it with a channel to it."""
    async with AsyncExitStack() as stack:

        async def start(**limits: int | str) -> tuple[EchoServer, Any]:
            server = EchoServer(**limits)
            port = await server.start()
            stack.push_async_callback(server.stop)
            options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1), NO_PROBE]
            return server, await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}", options))

        yield start


async def until(is_true: Callable[[], object]) -> None:
    """Let the event loop run until something is true."""
    while not is_true():  # noqa: ASYNC110  # what it waits for has no event
        await asyncio.sleep(0.001)


@pytest.fixture(name="until")
def until_() -> Callable[[Callable[[], object]], Awaitable[None]]:
    """Return `until`."""
    return until
