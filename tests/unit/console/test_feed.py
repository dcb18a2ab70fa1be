"""The feed watches a server while anyone looks, and gives all readers the same frames."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from queuelet.console import feed as feeds
from queuelet.console.feed import BoardReset, Feed
from queuelet.console.source import Source, SourceLost
from queuelet.v1 import queue_pb2 as pb

Send = Callable[[bytes], Awaitable[None]]


class FakeSource:
    """A server that sends what a test puts into it."""

    def __init__(self) -> None:
        self.watches = 0
        self.has_stats = True
        self._sends: list[Send] = []
        self._ends: list[asyncio.Event] = []

    async def watch(self, send: Send) -> None:
        self.watches += 1
        await send(_queues("q1").SerializeToString())
        await send(pb.WatchQueuesResponse(snapshot_complete=True).SerializeToString())
        end = asyncio.Event()
        self._sends.append(send)
        self._ends.append(end)
        await end.wait()
        raise SourceLost("the server is gone")

    async def stats(self) -> pb.ServerStats:
        return pb.ServerStats(version="1")

    async def put(self, response: pb.WatchQueuesResponse) -> None:
        await self._sends[-1](response.SerializeToString())

    def end(self) -> None:
        self._ends[-1].set()


def _queues(*names: str) -> pb.WatchQueuesResponse:
    queues = [pb.Queue(meta=pb.Metadata(id=name), name=name, store=pb.Queue.MEMORY, limit=-1) for name in names]
    return pb.WatchQueuesResponse(queues=queues)


def _counts(queue_id: str, ready: int) -> pb.WatchQueuesResponse:
    return pb.WatchQueuesResponse(counts=[pb.QueueCounts(id=queue_id, messages=pb.MessageCounts(ready=ready))])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in these tests waits for real time."""
    for name in ("FRAME_EVERY", "HEARTBEAT", "SETTLE", "RETRY_AFTER"):
        monkeypatch.setattr(feeds, name, 0.001)
    monkeypatch.setattr(feeds, "LINGER", 0.02)


def _feed(source: FakeSource) -> Feed:
    return Feed(cast("Source", source))


async def _position(feed: Feed) -> tuple[str, int]:
    tag, _ = await feed.snapshot()
    board, number = tag.split("-")
    return board, int(number)


def test_nothing_is_watched_before_someone_looks() -> None:
    source = FakeSource()
    feed = _feed(source)
    assert (source.watches, feed.is_running) == (0, False)


async def test_the_watch_ends_after_the_last_reader_has_left() -> None:
    source = FakeSource()
    feed = _feed(source)
    await feed.snapshot()
    assert feed.is_running
    await feed.ended()
    await feed.snapshot()
    assert source.watches == 2
    await feed.close()


@pytest.mark.need(16)
async def test_many_readers_share_one_watch_and_the_same_bytes() -> None:
    source = FakeSource()
    feed = _feed(source)
    board, number = await _position(feed)
    readers = [feed.frames(board, number) for _ in range(50)]
    firsts = [asyncio.ensure_future(_next_with(reader, b'"counts"')) for reader in readers]
    await asyncio.sleep(0)
    await source.put(_counts("q1", 5))
    frames = await asyncio.gather(*firsts)
    assert source.watches == 1
    assert len(set(frames)) == 1
    for reader in readers:
        await reader.aclose()
    await feed.close()


async def _next_with(reader: Any, part: bytes) -> bytes:  # noqa: ANN401  # an async generator
    async for frame in reader:
        if part in frame:
            return bytes(frame)
    raise AssertionError("the stream ended")


async def test_a_quiet_server_is_heard_all_the_same() -> None:
    source = FakeSource()
    feed = _feed(source)
    board, number = await _position(feed)
    reader = feed.frames(board, number)
    assert b'"at"' in await anext(reader)
    assert b'"at"' in await anext(reader)
    await reader.aclose()
    await feed.close()


async def test_a_reader_of_another_board_has_to_begin_again() -> None:
    feed = _feed(FakeSource())
    await feed.snapshot()
    with pytest.raises(BoardReset):
        await anext(feed.frames("another", 0))
    await feed.close()


async def test_after_a_lost_watch_readers_begin_again_on_a_new_board() -> None:
    source = FakeSource()
    feed = _feed(source)
    board, number = await _position(feed)
    reader = feed.frames(board, number)
    await anext(reader)
    source.end()
    with pytest.raises(BoardReset):
        await _drain(reader)
    assert (await _position(feed))[0] != board
    assert source.watches == 2
    await feed.close()


async def test_a_server_that_sends_nothing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(FakeSource):
        async def watch(self, send: Send) -> None:
            raise SourceLost("the connection was refused")

    monkeypatch.setattr(feeds, "COMPLETE_WITHIN", 0.01)
    feed = _feed(Silent())
    with pytest.raises(SourceLost):
        await feed.snapshot()
    await feed.close()


async def test_closing_ends_all_streams() -> None:
    feed = _feed(FakeSource())
    board, number = await _position(feed)
    reader = feed.frames(board, number)
    await anext(reader)
    ending = asyncio.ensure_future(_drain(reader))
    await asyncio.sleep(0)
    await feed.close()
    await ending


async def _drain(reader: Any) -> None:  # noqa: ANN401  # an async generator
    async for _ in reader:
        pass
