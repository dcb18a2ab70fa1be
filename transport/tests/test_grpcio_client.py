"""Calls of grpcio's client to a server on the core."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Sized
from functools import partial
from typing import Any

import grpc.aio
import pytest

import grpc_sansio as g
from conftest import Serve
from echo_server import LATER, SINK

Until = Callable[[Callable[[], object]], Awaitable[None]]


async def test_a_unary_call_arrives_as_one_event(serve: Serve) -> None:
    server, channel = await serve()
    assert await channel.unary_unary("/test.Echo/Unary")(b"hello") == b"hello"
    assert [event[0] for event in server.events] == [g.UNARY]


async def test_an_empty_message_is_a_message(serve: Serve) -> None:
    _, channel = await serve()
    assert await channel.unary_unary("/test.Echo/Unary")(b"") == b""


async def test_many_calls_at_once_are_all_answered(serve: Serve) -> None:
    _, channel = await serve(concurrent_calls=10)
    echo = channel.unary_unary("/test.Echo/Unary")
    payloads = [b"%d" % number * (number * 7 % 3_000) for number in range(500)]
    assert await asyncio.gather(*[echo(payload) for payload in payloads]) == payloads


@pytest.mark.parametrize("size", [16_000, 65_535, 65_536, 1_000_000, 4_000_000])
async def test_a_message_larger_than_the_windows_passes_both_ways(serve: Serve, size: int) -> None:
    _, channel = await serve(window_bytes=65_535, connection_window_bytes=65_535)
    payload = bytes(range(256)) * (size // 256)
    assert await channel.unary_unary("/test.Echo/Unary")(payload) == payload
    stream = channel.stream_stream("/test.Echo/Stream")(iter([payload, payload]))
    assert [message async for message in stream] == [payload, payload]


async def test_a_request_that_comes_in_parts_is_announced_by_its_headers(serve: Serve) -> None:
    server, channel = await serve()
    payload = b"x" * 500_000
    assert await channel.unary_unary("/test.Echo/Unary")(payload, timeout=50) == payload
    assert [event[:2] for event in server.events] == [(g.CALL, 1), (g.UNARY, 1)]
    assert all(45_000 < event[3] <= 50_000 for event in server.events)


async def test_a_guarded_call_is_refused_before_its_request_is_read(serve: Serve) -> None:
    server, channel = await serve()
    guarded = channel.unary_unary("/test.Echo/Guarded")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await guarded(b"x" * 1_000_000)
    assert (refused.value.code(), refused.value.details()) == (
        grpc.StatusCode.UNAUTHENTICATED,
        "token: missing; send one",
    )
    assert not server.of(g.UNARY)
    assert await guarded(b"x", metadata=[("token", "secret")]) == b"x"


async def test_status_text_details_and_trailers_arrive(serve: Serve) -> None:
    _, channel = await serve()
    text = 'queue "größe": 100 % full\nretry'
    request = {"code": 9, "text": text, "details": "0803", "metadata": [("a", "b")]}
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await channel.unary_unary("/test.Echo/Fail")(json.dumps(request).encode())
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert refused.value.details() == text
    # A refusal without a message is one frame, which gRPC reads as trailers.
    assert dict(refused.value.trailing_metadata() or ()) == {"grpc-status-details-bin": b"\x08\x03", "a": "b"}


async def test_metadata_arrives_without_headers_of_grpc(serve: Serve, until: Until) -> None:
    server, channel = await serve()
    call = channel.unary_unary("/test.Echo/Later")(b"x", metadata=[("a", "1"), ("b-bin", b"\0\xff"), ("a", "2")])
    await until(lambda: server.later)
    connection, number, _ = server.later[0]
    pairs = connection.core.metadata(number)
    assert [pair for pair in pairs if pair[0] != "user-agent"] == [("a", "1"), ("a", "2"), ("b-bin", b"\0\xff")]
    assert connection.core.authority(number).startswith("127.0.0.1:")
    connection.core.reply(number, b"y")
    with pytest.raises(KeyError):
        connection.core.metadata(number)
    connection.flush()
    assert await call == b"y"


async def test_a_cancelled_call_is_reset(serve: Serve, until: Until) -> None:
    server, channel = await serve()
    call = channel.unary_unary("/test.Echo/Later")(b"x")
    await until(lambda: server.later)
    call.cancel()
    await until(lambda: server.of(g.RESET))
    assert server.of(g.RESET) == [(g.RESET, 1, LATER, 8, b"")]
    connection, number, _ = server.later[0]
    connection.core.reply(number, b"late")
    assert connection.core.open_calls == 0


async def test_a_message_over_the_limit_is_refused_with_the_text_of_the_settings(serve: Serve) -> None:
    _, channel = await serve(message_bytes=100, message_refusal="request: {size} bytes; send at most {limit}")
    echo = channel.unary_unary("/test.Echo/Unary")
    assert await echo(b"x" * 100) == b"x" * 100
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await echo(b"x" * 101)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.value.details() == "request: 101 bytes; send at most 100"


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_requests_are_inflated_up_to_the_limit(serve: Serve, compression: grpc.Compression) -> None:
    _, channel = await serve(message_bytes=100_000)
    echo = channel.unary_unary("/test.Echo/Unary")
    assert await echo(b"x" * 100_000, compression=compression) == b"x" * 100_000
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await echo(b"x" * 100_001, compression=compression)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_unknown_method_is_unimplemented(serve: Serve) -> None:
    _, channel = await serve()
    for call in (channel.unary_unary("/test.Echo/No")(b""), channel.unary_unary("/")(b"")):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert refused.value.details() == "unknown method /"


async def test_too_much_metadata_is_refused_with_a_status(serve: Serve) -> None:
    _, channel = await serve(header_bytes=2_000)
    echo = channel.unary_unary("/test.Echo/Unary")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await echo(b"", metadata=[("a", "x" * 2_000)])
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.value.details() == "metadata: more than 2000 bytes"
    assert await echo(b"still served") == b"still served"


async def test_a_slow_reader_stops_the_sender(serve: Serve, until: Until) -> None:
    server, channel = await serve()
    call = channel.unary_stream("/test.Echo/Source")(json.dumps([1_000, 10_000]).encode())
    assert await call.read() == b"\0" * 10_000
    (connection,) = server.connections
    await until(lambda: 1 in connection.sources)
    waiting = len(connection.sources[1])
    assert waiting > 300
    assert connection.core.call_unsent_bytes(1) <= 80_000
    count = 1
    while await call.read() is not grpc.aio.EOF:
        count += 1
    assert count == 1_000
    assert await call.code() == grpc.StatusCode.OK


async def test_a_slow_consumer_stops_the_client(serve: Serve, until: Until) -> None:
    server, channel = await serve()
    call = channel.stream_unary("/test.Echo/Sink")()
    sending = asyncio.ensure_future(_send(call, [b"x" * 10_000] * 100))
    await until(lambda: len(server.sunk) >= 7)
    await asyncio.sleep(0.1)
    assert len(server.sunk) == 7  # the window is 64 KiB
    (connection,) = server.connections
    assert connection.core.held_bytes <= 150_000
    done = 0
    while done < 100:
        await until(partial(_has_more_than, server.sunk, done))
        connection.core.consumed(1, sum(len(data) for _, _, data in server.sunk[done:]))
        done = len(server.sunk)
        connection.flush()
    await sending
    assert dict(await call.trailing_metadata())["messages"] == "100"
    assert {event[2] for event in server.of(g.MESSAGE)} == {SINK}


def _has_more_than(items: Sized, count: int) -> bool:
    return len(items) > count


async def _send(call: grpc.aio.StreamUnaryCall[Any, Any], messages: list[bytes]) -> None:
    for message in messages:
        await call.write(message)
    await call.done_writing()


async def test_draining_lets_open_calls_end_and_then_closes(serve: Serve, until: Until) -> None:
    server, channel = await serve()
    call = channel.unary_unary("/test.Echo/Later")(b"x")
    await until(lambda: server.later)
    connection, number, _ = server.later[0]
    connection.core.drain()
    connection.flush()
    assert connection.core.draining
    await asyncio.sleep(0.05)
    assert not connection.core.closed
    connection.core.reply(number, b"y")
    connection.flush()
    assert await call == b"y"
    await until(lambda: server.of(g.CLOSED))
    assert server.of(g.CLOSED) == [(g.CLOSED, 0, 0, 0, b"drained")]
    # The channel connects again.
    assert await channel.unary_unary("/test.Echo/Unary")(b"z") == b"z"


async def test_a_ping_is_acknowledged(serve: Serve, until: Until) -> None:
    server, channel = await serve()
    await channel.unary_unary("/test.Echo/Unary")(b"x")
    (connection,) = server.connections
    assert connection.core.ping()
    assert not connection.core.ping()
    connection.flush()
    await until(lambda: server.of(g.PONG))
    assert connection.core.ping()


async def test_http1_gets_an_answer_that_it_understands(serve: Serve) -> None:
    server, _ = await serve()
    port = server.server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    response = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert response.startswith(b"HTTP/1.1 505 ")
    assert response.endswith(b"\r\n\r\nthis port serves gRPC over HTTP/2; HTTP/1 is not supported\n")
    assert server.of(g.CLOSED)[0][4] == b"the client speaks HTTP/1"


@pytest.mark.parametrize(("opening", "reason"), [(b"\x16\x03\x01", b"TLS"), (b"\0\0", b"does not speak HTTP/2")])
async def test_what_is_not_http_is_closed(serve: Serve, opening: bytes, reason: bytes) -> None:
    server, _ = await serve()
    with socket.create_connection(server.server.sockets[0].getsockname()) as raw:
        raw.settimeout(0)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(raw, opening)
        assert await loop.sock_recv(raw, 100) == b""
    assert reason in server.of(g.CLOSED)[0][4]
