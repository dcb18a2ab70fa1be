"""Calls of a client on the core to grpcio's server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest

import grpc_sansio as g
from echo_client import EchoClient

Context = grpc.aio.ServicerContext[bytes, bytes]


async def _unary(request: bytes, context: Context) -> bytes:
    if request == b"fail":
        context.set_trailing_metadata((("a", "1"), ("grpc-status-details-bin", b"\x08\x03")))
        await context.abort(grpc.StatusCode.NOT_FOUND, 'queue "ü" 100 %')
    await context.send_initial_metadata([(key, value) for key, value in context.invocation_metadata() or ()])
    return request


async def _deadline(_: bytes, context: Context) -> bytes:
    return b"%d" % context.time_remaining()


async def _hang(_: bytes, context: Context) -> bytes:
    try:
        await asyncio.Event().wait()
    finally:
        HUNG.set()
    return b""


async def _stream(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


HUNG = asyncio.Event()


@pytest.fixture
async def server() -> AsyncIterator[tuple[int, Any]]:
    """Start grpcio's server."""
    HUNG.clear()
    server = grpc.aio.server(options=[("grpc.max_concurrent_streams", 5)], compression=None)
    handlers: dict[str, Any] = {
        "Unary": grpc.unary_unary_rpc_method_handler(_unary),
        "Deadline": grpc.unary_unary_rpc_method_handler(_deadline),
        "Hang": grpc.unary_unary_rpc_method_handler(_hang),
        "Stream": grpc.stream_stream_rpc_method_handler(_stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port, server
    await server.stop(None)


@pytest.fixture
async def client(server: tuple[int, Any]) -> AsyncIterator[EchoClient]:
    """Connect to grpcio's server."""
    client = await EchoClient.connect(server[0])
    yield client
    client.transport.abort()


async def test_a_unary_call_returns_one_event_with_its_metadata(client: EchoClient) -> None:
    metadata: g.Metadata = [("a", "1"), ("b-bin", b"\0\xff")]
    assert await client.unary("/test.Echo/Unary", b"hello", metadata) == (g.UNARY, 1, 0, 0, b"hello")
    assert [pair for pair in client.headers[1] if pair in metadata] == metadata
    assert client.core.ready
    client.core.events()
    with pytest.raises(KeyError):
        client.core.trailers(1)


async def test_more_calls_than_the_server_allows_wait_and_are_all_answered(client: EchoClient) -> None:
    payloads = [b"%d" % number * (number * 7 % 3_000) for number in range(200)]
    ends = await asyncio.gather(*[client.unary("/test.Echo/Unary", payload) for payload in payloads])
    assert [end[4] for end in ends] == payloads
    assert client.core.concurrent_calls == 5
    assert client.core.open_calls == 0


async def test_a_refusal_has_code_text_details_and_trailers(client: EchoClient) -> None:
    assert await client.unary("/test.Echo/Unary", b"fail") == (g.STATUS, 1, 0, 5, 'queue "ü" 100 %'.encode())
    assert dict(client.trailers[1]) == {"a": "1", "grpc-status-details-bin": b"\x08\x03"}


async def test_a_timeout_is_said_to_the_server(client: EchoClient) -> None:
    call = client.core.unary("/test.Echo/Deadline", b"", (), 100_500)
    client.flush()
    assert (await client.end(call))[4] in {b"99", b"100"}


@pytest.mark.parametrize("size", [1, 65_535, 1_000_000, 4_000_000])
async def test_messages_larger_than_the_windows_pass_both_ways(client: EchoClient, size: int) -> None:
    payload = b"x" * size
    assert (await client.unary("/test.Echo/Unary", payload))[4] == payload
    call = client.core.stream("/test.Echo/Stream")
    for _ in range(3):
        client.core.send(call, payload)
    client.core.half_close(call)
    client.flush()
    assert (await client.end(call))[2:] == (0, 0, b"")
    assert client.messages(call) == [payload] * 3
    assert sum(event[3] for event in client.events if event[0] == g.SENT) == 3 * size


async def test_messages_that_are_not_consumed_stop_the_server(client: EchoClient) -> None:
    client.reads = False
    call = client.core.stream("/test.Echo/Stream")
    for _ in range(100):
        client.core.send(call, b"x" * 10_000)
    client.core.half_close(call)
    client.flush()
    await client.until(lambda _: len(client.messages(call)) == 7)
    await asyncio.sleep(0.05)
    assert len(client.messages(call)) == 7  # the window is 64 KiB
    client.reads = True
    client.core.consumed(call, 70_000)
    client.flush()
    client.handle(client.core.events())
    assert (await client.end(call))[3] == 0
    assert len(client.messages(call)) == 100


async def test_a_cancelled_call_ends_in_the_server_and_reports_nothing(client: EchoClient) -> None:
    call = client.core.unary("/test.Echo/Hang", b"")
    client.flush()
    assert (await client.unary("/test.Echo/Unary", b"x"))[0] == g.UNARY
    client.core.cancel(call)
    client.flush()
    await HUNG.wait()
    assert not [event for event in client.events if event[1] == call]


async def test_after_goaway_no_call_can_be_started_but_open_ones_end(
    client: EchoClient, server: tuple[int, Any]
) -> None:
    call = client.core.stream("/test.Echo/Stream")
    client.core.send(call, b"before")
    client.flush()
    await client.until(lambda event: event[0] == g.MESSAGE)
    stopping = asyncio.ensure_future(server[1].stop(5))
    await client.until(lambda event: event[0] == g.GOAWAY)
    assert client.core.draining
    with pytest.raises(g.ConnectionClosedError):
        client.core.unary("/test.Echo/Unary", b"")
    client.core.send(call, b"after")
    client.core.half_close(call)
    client.flush()
    assert (await client.end(call))[3] == 0
    assert client.messages(call) == [b"before", b"after"]
    await stopping
    await client.until(lambda event: event[0] == g.CLOSED)


async def test_a_lost_connection_ends_every_call_with_unavailable(client: EchoClient) -> None:
    call = client.core.unary("/test.Echo/Hang", b"")
    client.flush()
    while not client.core.ready:  # noqa: ASYNC110  # no event reports it
        await asyncio.sleep(0.001)
    client.transport.abort()
    end = await client.end(call)
    assert end[2:4] == (0, 14)
    assert client.core.closed


async def test_a_ping_is_acknowledged(client: EchoClient) -> None:
    assert client.core.ping()
    client.flush()
    await client.until(lambda event: event[0] == g.PONG)


async def test_a_server_of_http1_is_named(unused_tcp_port: int) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", unused_tcp_port):
        client = await EchoClient.connect(unused_tcp_port)
        closed = await client.until(lambda event: event[0] == g.CLOSED)
        assert closed[4] == b"the server speaks HTTP/1"
        client.transport.abort()
