"""The watch stream: what queues there are, then what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import NamedTuple

from queuelet.core.manager import Manager
from queuelet.core.queue import Queue
from queuelet.errors import InvalidArgument
from queuelet.fairness import TimeSlice
from queuelet.selector import Selector, parse_selector
from queuelet.server.endpoint import Call, Send
from queuelet.server.replies import queue_to_pb, store_epochs
from queuelet.v1 import queue_pb2 as pb

COUNTS_EVERY = 1.0
"""How often a queue's counts are told at most, in seconds. Its definition is told at once."""

_BESIDE = 64
"""The most bytes that stand beside a queue in a batch, or beside the name of one that is gone."""


class WatchRpcs:
    """The handler."""

    def __init__(self, manager: Manager) -> None:
        """Take the queues."""
        self._manager = manager

    async def watch_queues(self, requests: AsyncIterator[bytes], send: Send, call: Call) -> None:
        """Answer a snapshot of the queues, then their changes, until the client ends it or the server stops."""
        request = await anext(requests, None)
        if request is None:
            raise InvalidArgument(
                "request: send one WatchQueuesRequest; an empty one watches all queues", field="request"
            )
        asked = pb.WatchQueuesRequest.FromString(request)
        watcher = _Watcher(self._manager, parse_selector(asked.selector), send, call.peer_host)
        unsubscribe = self._manager.subscribe(watcher.changed)
        try:
            await watcher.snapshot()
            while True:
                await watcher.changes()
        finally:
            unsubscribe()


class _Seen(NamedTuple):
    """What a stream knows of a queue."""

    revision: int
    activity: int | None
    """The queue's activity when its counts were told; None where the selector did not pick it."""

    def is_news(self, queue: Queue) -> bool:
        return self.revision != queue.revision or self.activity not in {None, queue.activity}


class _Watcher:
    """One stream. It remembers what it told, so that each batch holds only what is news.

    What a slow reader has not been told yet is kept by queue, not by change: at most every queue once.
    """

    def __init__(self, manager: Manager, selects: Selector, send: Send, peer: str) -> None:
        self._manager = manager
        self._selects = selects
        self._send = send
        self._peer = peer
        self._stores: list[pb.StoreEpoch] = []
        self._seen: dict[str, _Seen] = {}
        self._changed: dict[str, Queue] = {}
        self._gone: dict[str, str] = {}
        self._woken = asyncio.Event()
        self._next_counts = 0.0

    def changed(self, queue: Queue) -> None:
        """Note a queue that was made, redefined or deleted."""
        if not queue.deleted:
            self._changed[queue.id] = queue
        else:
            self._changed.pop(queue.id, None)
            seen = self._seen.pop(queue.id, None)
            if seen and seen.activity is not None:
                self._gone[queue.id] = queue.definition.name
        self._woken.set()

    async def snapshot(self) -> None:
        """Tell the stores and all queues."""
        await self._tell_stores()
        await self._tell(self._manager)
        await self._send(pb.WatchQueuesResponse(snapshot_complete=True).SerializeToString())

    async def changes(self) -> None:
        """Wait for news and tell it: definitions at once, counts every so often."""
        try:
            async with asyncio.timeout_at(self._next_counts):
                await self._woken.wait()
        except TimeoutError:
            await self._tell_stores()
            await self._tell(self._manager)
            self._next_counts = asyncio.get_running_loop().time() + COUNTS_EVERY
        self._woken.clear()
        gone, self._gone = self._gone, {}
        changed, self._changed = self._changed, {}
        await self._tell(changed.values(), gone)

    async def _tell_stores(self) -> None:
        """Send the stores if one has another epoch or problem than when they were told last."""
        stores = store_epochs(self._manager)
        if stores != self._stores:
            self._stores = stores
            await self._send(pb.WatchQueuesResponse(stores=stores).SerializeToString())

    async def _tell(self, queues: Iterable[Queue], gone: Mapping[str, str] | None = None) -> None:
        """Send what is news, in as many messages as it takes."""
        turns = TimeSlice(self._peer)
        await turns.begin()
        batch = _Batch(self._send, self._manager.bounds.message_bytes)
        for queue_id, name in (gone or {}).items():
            if await batch.remove(queue_id, name):
                await turns.begin()
        for queue in queues:
            await turns.give()
            seen = self._seen.get(queue.id)
            if queue.deleted or (seen and not seen.is_news(queue)):
                continue
            selected = self._selects(queue.definition.tags)
            self._seen[queue.id] = _Seen(queue.revision, queue.activity if selected else None)
            was_sent = False
            if selected:
                was_sent = await batch.put(queue)
            elif seen and seen.activity is not None:
                was_sent = await batch.remove(queue.id, queue.definition.name)
            if was_sent:
                await turns.begin()
        await batch.flush()


class _Batch:
    """A message that is sent when it is full."""

    def __init__(self, send: Send, message_bytes: int) -> None:
        self._send = send
        self._message_bytes = message_bytes
        self._message = pb.WatchQueuesResponse()
        self._room = message_bytes

    async def put(self, queue: Queue) -> bool:
        """Put in a queue; return whether a full message was sent for it."""
        message = queue_to_pb(queue)
        was_sent = await self._make_room(message.ByteSize() + _BESIDE)
        self._message.queues.append(message)
        return was_sent

    async def remove(self, queue_id: str, name: str) -> bool:
        """Put in a queue that is gone; return whether a full message was sent for it."""
        was_sent = await self._make_room(len(name) + _BESIDE)
        self._message.removed.add(id=queue_id, name=name)
        return was_sent

    async def flush(self) -> None:
        message, self._message = self._message, pb.WatchQueuesResponse()
        self._room = self._message_bytes
        if message.queues or message.removed:
            await self._send(message.SerializeToString())

    async def _make_room(self, size: int) -> bool:
        was_full = size > self._room
        if was_full:
            await self.flush()
        self._room -= size
        return was_full
