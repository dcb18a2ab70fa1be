"""Parts of the native transport that need no connection."""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import closing

import pytest

pytest.importorskip("grpc_sansio", reason="grpc-sansio is not installed: the native transport needs it")

from queuelet.server.endpoint import ClientGone
from queuelet.server.native.listener import open_sockets
from queuelet.server.native.settings import WINDOW_BYTES
from queuelet.server.native.stream import Stream


class _Link:
    """A connection that only notes what a stream does."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.acknowledged = 0

    def consumed(self, _: int, size: int) -> None:
        self.acknowledged += size

    def send(self, _: int, message: bytes) -> None:
        self.sent.append(message)


# Streams


async def test_a_stream_sends_until_a_window_is_full_and_goes_on_when_there_is_room() -> None:
    link = _Link()
    stream = Stream(link, 1)
    half = bytes(WINDOW_BYTES // 2)
    await stream.send(half)
    await stream.send(half)
    blocked = asyncio.ensure_future(stream.send(b"one more"))
    await asyncio.sleep(0)
    assert not blocked.done()
    assert len(link.sent) == 3, "it is on its way, but no further one may follow"
    stream.sent(len(half))
    await blocked


async def test_a_request_is_acknowledged_once_it_is_read_and_an_empty_one_counts_too() -> None:
    link = _Link()
    stream = Stream(link, 1)
    stream.receive(b"four")
    stream.receive(b"")
    stream.half_close()
    assert link.acknowledged == 0
    assert [request async for request in stream] == [b"four", b""]
    assert link.acknowledged == 5


async def test_an_end_wakes_a_reader_and_a_sender() -> None:
    reading, sending = Stream(_Link(), 1), Stream(_Link(), 2)
    read = asyncio.ensure_future(anext(reading))
    sent = asyncio.ensure_future(sending.send(bytes(WINDOW_BYTES + 1)))
    await asyncio.sleep(0)
    for stream, task in ((reading, read), (sending, sent)):
        stream.end()
        with pytest.raises(ClientGone):
            await task
        with pytest.raises(ClientGone):
            await stream.send(b"late")


# The port


def test_all_addresses_of_a_host_get_the_same_port() -> None:
    opened = open_sockets("localhost:0")
    try:
        assert len({each.getsockname()[1] for each in opened}) == 1
        for each in opened:
            socket.create_connection(each.getsockname()[:2]).close()
    finally:
        for each in opened:
            each.close()


def test_any_address_is_that_of_both_families() -> None:
    opened = open_sockets("[::]:0")
    try:
        port = opened[0].getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()
    finally:
        for each in opened:
            each.close()


def test_a_port_in_use_is_an_error() -> None:
    (first,) = open_sockets("127.0.0.1:0")
    with closing(first), pytest.raises(OSError, match="in use") as caught:
        open_sockets(f"127.0.0.1:{first.getsockname()[1]}")
    assert caught.value.errno == errno.EADDRINUSE
