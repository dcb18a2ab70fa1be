"""Endpoints without a transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType

from queuelet.server.endpoint import Call, Endpoint, Method, Send
from queuelet.server.latency import Latencies
from queuelet.server.lifecycle import Lifecycle
from queuelet.wire.errors import SERVICE, Status


class _Call:
    service, peer, peer_host, owner = SERVICE, "ipv4:127.0.0.1:1", "127.0.0.1", ""
    seconds_left = None
    metadata: Mapping[str, str] = MappingProxyType({})


async def _nothing() -> AsyncIterator[bytes]:
    requests: tuple[bytes, ...] = ()
    for request in requests:
        yield request


async def test_a_stream_that_sends_at_a_stop_ends_once_its_response_is_sent_whole() -> None:
    """After a cancelled write, gRPC cannot end the call, which would last until the end of the grace period."""
    begun, may_end, sent = asyncio.Event(), asyncio.Event(), []

    async def send(response: bytes) -> None:
        begun.set()
        await may_end.wait()
        sent.append(response)

    async def handle(_: AsyncIterator[bytes], send: Send, __: Call) -> None:
        while True:
            await send(b"response")

    lifecycle = Lifecycle()
    endpoint = Endpoint(
        SERVICE, Method(name="Consume", event="consume", stream=handle), lifecycle=lifecycle, latencies=Latencies()
    )
    ending = asyncio.create_task(endpoint.stream(_nothing(), send, _Call()))
    await begun.wait()
    lifecycle.stop()
    await asyncio.sleep(0)
    assert not ending.done()
    may_end.set()
    status = await ending
    assert sent == [b"response"]
    assert isinstance(status, Status)
    assert status.text == "The server is stopping."
