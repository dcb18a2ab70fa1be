"""Fills the board from a watch stream, but only while anyone looks.

The stream's responses are those of WatchQueues, so that a console works in the server's process and in another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from time import time_ns
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import structlog

from queuelet.console.board import Board, Definition, Numbers
from queuelet.console.object_watch import ObjectWatch
from queuelet.console.queue_objects import QueueObject
from queuelet.console.source import Source, SourceLost
from queuelet.v1 import queue_pb2 as pb

log = structlog.get_logger()

FRAME_EVERY = 1.0
"""The least seconds between two frames."""

HEARTBEAT = 2.0
"""Seconds after which a frame is sent even if nothing has changed. A browser shows that it has lost touch after 5."""

SETTLE = 0.05
"""Seconds between the first change and its frame, because changes come in groups."""

COMPLETE_WITHIN = 10.0
"""Seconds within which the board has to be complete."""

LINGER = 20.0
"""Seconds that the watch goes on after the last reader has left, because a page that is reloaded reads again."""

STATS_EVERY = 5.0
"""Seconds between two readings of the server's statistics."""

RETRY_AFTER = 1.0
"""Seconds after which a watch that failed is tried again."""


class BoardReset(Exception):  # it is no error: the reader has to begin again
    """The reader has another board, or is too far behind: it has to read the snapshot again."""


class Feed:
    """The board of a process, and its readers."""

    def __init__(
        self,
        source: Source,
        objects: ObjectWatch | None = None,
        facts: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Make the feed of a server. It reads nothing before the first reader comes.

        Args:
            source: reads the server.
            objects: reads the Queue objects of a cluster; None if there are none to show.
            facts: more facts of the server for browsers.
        """
        self._source = source
        self._objects = objects
        self._facts = facts
        self._board = _new_board()
        self._readers = 0
        self._task: asyncio.Task[None] | None = None
        self._complete = asyncio.Event()
        self._dirty = asyncio.Event()
        self._next: asyncio.Future[bytes] | None = None
        self._server: Mapping[str, Any] = {}
        self._is_closed = False
        self._snapshot: tuple[str, int, bytes] = ("", -1, b"")

    @property
    def is_running(self) -> bool:
        """Whether the board is being filled."""
        return self._task is not None and not self._task.done()

    async def snapshot(self) -> tuple[str, bytes]:
        """Return the tag of the board's present version, and its snapshot. Waits until the board is complete.

        Raises:
            SourceLost: it did not become complete.
        """
        self._begin()
        try:
            async with asyncio.timeout(COMPLETE_WITHIN):
                await self._complete.wait()
        except TimeoutError:
            raise SourceLost("the server does not send its queues") from None
        board = self._board
        if self._snapshot[:2] != (board.id, board.number):
            self._snapshot = (board.id, board.number, board.snapshot(_now_ms()))
        return f"{board.id}-{board.number}", self._snapshot[2]

    async def frames(self, board_id: str, after: int) -> AsyncGenerator[bytes]:
        """Yield the frames of a board after a number, as they come.

        A reader that is slow gets what it missed in one piece.

        Raises:
            BoardReset: the reader has to read the snapshot again.
        """
        self._readers += 1
        self._begin()
        try:
            await self._complete.wait()
            number = after
            while not self._is_closed:
                board = self._board
                if board.id != board_id:
                    raise BoardReset
                missed = board.frames_after(number)
                if missed is None:
                    raise BoardReset
                number = board.number
                if missed:
                    yield missed
                    continue
                beat = await asyncio.shield(self._following())
                if self._board is board and board.number == number:
                    yield beat
        finally:
            self._readers -= 1

    async def ended(self) -> None:
        """Return when the board is no longer being filled."""
        if self._task:
            await self._task

    async def close(self) -> None:
        """End the watch, and all streams of readers."""
        self._is_closed = True
        self._wake(b"")
        self._complete.set()
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _following(self) -> asyncio.Future[bytes]:
        """Return a future for the next frame, which all readers share."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        return self._next

    def _wake(self, frame: bytes) -> None:
        """Give all readers that wait a frame."""
        if self._next is not None:
            self._next.set_result(frame)
            self._next = None

    def _begin(self) -> None:
        if not self.is_running:
            self._complete.clear()
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        """Fill the board and publish frames, until no reader has looked for a while."""
        tasks = [asyncio.create_task(each) for each in (self._watch(), self._stats(), self._follow_objects())]
        try:
            await self._publish()
        finally:
            self._complete.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _publish(self) -> None:
        loop = asyncio.get_running_loop()
        last, looked = 0.0, loop.time()
        while self._readers or loop.time() - looked < LINGER:
            if self._readers:
                looked = loop.time()
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT):
                    await self._dirty.wait()
            await asyncio.sleep(max(SETTLE, last + FRAME_EVERY - loop.time()))
            self._dirty.clear()
            if not self._complete.is_set():
                continue
            last = loop.time()
            self._wake(self._board.frame(_now_ms()))

    async def _watch(self) -> None:
        """Watch the queues, again after each failure, on a new board each time."""
        while True:
            board = _new_board()
            try:
                await self._source.watch(_Filler(board, self._filled).take)
            except SourceLost as error:
                log.debug("console lost its watch", error=str(error))
            except Exception:  # whatever happens, the console goes on
                log.exception("console watch failed")
            self._complete.clear()
            await asyncio.sleep(RETRY_AFTER)

    def _filled(self, board: Board, *, is_complete: bool) -> None:
        """Note that the board has changed. A board that replaces another one counts once it is complete."""
        if is_complete and self._board is not board:
            board.set_server(self._server)
            if self._objects:
                board.set_kubernetes(self._objects.facts)
                for each in self._objects.objects:
                    board.set_object(each.queue_name, each)
            self._board = board
            self._wake(b"")  # readers of the old board have to begin again
            self._complete.set()
        if board is self._board:
            self._dirty.set()

    async def _follow_objects(self) -> None:
        """Follow the Queue objects, if the server reads any. Whatever happens, the queues are shown."""
        if self._objects:
            try:
                await self._objects.run(self._object_changed, self._objects_noted)
            except Exception:  # a defect of ours
                log.exception("console watch of queue objects failed")

    def _object_changed(self, queue_name: str, each: QueueObject | None) -> None:
        self._board.set_object(queue_name, each)
        self._dirty.set()

    def _objects_noted(self) -> None:
        if self._objects:
            self._board.set_kubernetes(self._objects.facts)
            self._dirty.set()

    async def _stats(self) -> None:
        while True:
            with suppress(SourceLost):
                stats = await self._source.stats()
                self._server = {
                    "version": stats.version,
                    "started": stats.started.ToMilliseconds(),
                    "memory": stats.memory_bytes,
                    "watermark": stats.memory_watermark_bytes,
                    **self._facts,
                }
                self._board.set_server(self._server)
                self._dirty.set()
            await asyncio.sleep(STATS_EVERY)


class _Filler:
    """Puts the responses of one watch stream on a board."""

    def __init__(self, board: Board, filled: Callable[..., None]) -> None:
        self._board = board
        self._filled = filled
        self._is_complete = False

    async def take(self, data: bytes) -> None:
        response = pb.WatchQueuesResponse.FromString(data)
        board = self._board
        if response.stores:
            board.set_stores(
                [
                    {
                        "store": pb.Queue.Store.Name(each.store),
                        "epoch": each.epoch,
                        "problem": each.problem,
                        # Empty if the server is too old to report it.
                        "durability": _DURABILITIES[each.durability],
                    }
                    for each in response.stores
                ]
            )
        for removed in response.removed:
            board.remove(removed.id)
        for queue in response.queues:
            board.define(_definition(queue))
            board.count(queue.meta.id, _counts_of(queue.messages, board.numbers(queue.meta.id)))
        for each in response.counts:
            board.count(each.id, _numbers(each))
        self._is_complete = self._is_complete or response.snapshot_complete
        if self._is_complete and board.is_sparse:
            raise SourceLost("many queues were deleted; the watch begins again with a smaller board")
        self._filled(board, is_complete=self._is_complete)


_DURABILITIES = {number: name.removeprefix("DURABILITY_") for name, number in pb.Durability.items()} | {0: ""}


def _definition(queue: pb.Queue) -> Definition:
    return Definition(
        id=queue.meta.id,
        name=queue.name,
        tags=tuple(f"{tag.key}={tag.value}" for tag in queue.meta.tags),
        store=pb.Queue.Store.Name(queue.store),
        limit=queue.limit,
        owner=queue.owner.name,
        draining=queue.draining,
        created=queue.meta.created.ToMilliseconds(),
    )


def _counts_of(counts: pb.MessageCounts, before: Numbers) -> Numbers:
    """Return the numbers of a queue that came without totals."""
    return before._replace(ready=counts.ready, delayed=counts.delayed, leased=counts.leased, dead=counts.dead)


def _numbers(counts: pb.QueueCounts) -> Numbers:
    of = counts.messages
    return Numbers(
        ready=of.ready,
        delayed=of.delayed,
        leased=of.leased,
        dead=of.dead,
        added=counts.enqueued,
        removed=counts.consumed + counts.acked,
        oldest=counts.oldest_ready.ToMilliseconds() if counts.HasField("oldest_ready") else 0,
    )


def _new_board() -> Board:
    return Board(uuid4().hex[:12])


def _now_ms() -> int:
    return time_ns() // 1_000_000
