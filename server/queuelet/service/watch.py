"""The watch stream: what queues there are, then what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator

from queuelet.definition import Counts
from queuelet.errors import InvalidArgument
from queuelet.manager import Manager
from queuelet.queue import Queue
from queuelet.rpc import Call, Send
from queuelet.running import Running
from queuelet.selector import Selector, parse_selector
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire import queue_to_pb, store_epochs

COUNTS_EVERY = 1.0
"""How often a queue's counts are told at most, in seconds. Its definition is told at once."""

_BESIDE = 64
"""The most bytes that stand beside a queue in a batch, or beside the name of one that is gone."""

BATCH = 200
"""The most queues in one batch, and how many are looked at before calls get their turn."""


class WatchRpcs:
    """The handler."""

    def __init__(self, manager: Manager, running: Running) -> None:
        """Take the queues, and whether the server runs."""
        self._manager = manager
        self._running = running

    async def watch_queues(self, requests: AsyncIterator[bytes], send: Send, call: Call) -> None:
        """Answer a snapshot of the queues, then their changes, until the client ends it or the server stops."""
        request = await anext(requests, None)
        if request is None:
            raise InvalidArgument(
                "request: send one WatchQueuesRequest; an empty one watches all queues", field="request"
            )
        asked = pb.WatchQueuesRequest.FromString(request)
        watcher = _Watcher(self._manager, parse_selector(asked.selector), send)
        unsubscribe = self._manager.subscribe(watcher.changed)
        forget = self._running.on_stop(watcher.wake)
        try:
            await watcher.snapshot()
            while True:
                self._running.check()
                await watcher.changes()
        finally:
            forget()
            unsubscribe()


class _Watcher:
    """One stream. It remembers what it told, so that each batch holds only what is news."""

    def __init__(self, manager: Manager, selects: Selector, send: Send) -> None:
        self._manager = manager
        self._selects = selects
        self._send = send
        self._told: dict[str, Counts] = {}
        self._changed: dict[str, Queue] = {}
        self._woken = asyncio.Event()
        self._next_counts = 0.0

    def changed(self, queue: Queue) -> None:
        """Note a queue that was made, redefined or deleted."""
        self._changed[queue.id] = queue
        self._woken.set()

    def wake(self) -> None:
        """Have `changes` return."""
        self._woken.set()

    async def snapshot(self) -> None:
        """Tell the stores and all queues."""
        await self._send(pb.WatchQueuesResponse(stores=store_epochs(self._manager)).SerializeToString())
        for queues in _batches(self._manager):
            await self._tell(queues)
        await self._send(pb.WatchQueuesResponse(snapshot_complete=True).SerializeToString())

    async def changes(self) -> None:
        """Wait for news and tell it: definitions at once, counts every so often."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(self._next_counts):
                await self._woken.wait()
        except TimeoutError:
            self._next_counts = loop.time() + COUNTS_EVERY
            for queues in _batches(self._manager):
                await self._tell([queue for queue in queues if self._told.get(queue.id) != queue.counts])
                await asyncio.sleep(0)
        self._woken.clear()
        changed, self._changed = self._changed, {}
        for queues in _batches(changed.values()):
            await self._tell(queues)

    async def _tell(self, queues: Iterable[Queue]) -> None:
        """Send what is news of some queues, in as many messages as it takes."""
        batch = pb.WatchQueuesResponse()
        room = self._manager.bounds.message_bytes
        for queue in queues:
            if not queue.deleted and self._selects(queue.definition.tags):
                message = queue_to_pb(queue)
                room -= message.ByteSize() + _BESIDE
                if room < 0:
                    await self._send(batch.SerializeToString())
                    batch = pb.WatchQueuesResponse()
                    room = self._manager.bounds.message_bytes - message.ByteSize() - _BESIDE
                batch.queues.append(message)
                self._told[queue.id] = queue.counts
            elif self._told.pop(queue.id, None) is not None:
                batch.removed.add(id=queue.id, name=queue.definition.name)
                room -= len(queue.definition.name) + _BESIDE
        if batch.queues or batch.removed:
            await self._send(batch.SerializeToString())


def _batches(queues: Iterable[Queue]) -> Iterator[list[Queue]]:
    batch: list[Queue] = []
    for queue in queues:
        batch.append(queue)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
