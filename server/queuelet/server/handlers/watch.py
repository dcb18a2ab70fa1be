"""The watch stream: a snapshot of the queues, then their changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import NamedTuple

from queuelet.core.manager import Manager
from queuelet.core.queue import Queue
from queuelet.errors import InvalidArgument
from queuelet.fairness import TimeSlice
from queuelet.selector import Selector, parse_selector
from queuelet.server.endpoint import Call, Send
from queuelet.server.replies import queue_counts_to_pb, queue_to_pb, store_epochs
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.values import store_to_pb

COUNTS_EVERY = 1.0
"""The least seconds between two reports of a queue's counts. Changes of its definition are reported at once."""

_OVERHEAD = 64
"""The most bytes that a response has around each queue, or around the name of each removed queue."""


class WatchRpcs:
    """The RPC that watches queues."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    async def watch_queues(self, requests: AsyncIterator[bytes], send: Send, call: Call) -> None:
        """Send a snapshot of the queues, then their changes, until the client ends the stream or the server stops."""
        data = await anext(requests, None)
        if data is None:
            raise InvalidArgument(
                "request: missing; send one WatchQueuesRequest, an empty one to watch all queues", field="request"
            )
        await self.watch(pb.WatchQueuesRequest.FromString(data), send, call)

    async def watch(
        self,
        request: pb.WatchQueuesRequest,
        send: Send,
        call: Call,
        is_watched: Callable[[Queue], bool] = lambda _: True,
    ) -> None:
        """Send a snapshot and changes as `watch_queues` does, but only of some queues.

        Args:
            request: the client's request.
            send: sends a response.
            call: the call.
            is_watched: whether a queue is among those.
        """
        watcher = _Watcher(
            self._manager,
            parse_selector(request.selector),
            send,
            call.peer_host,
            is_watched,
            counts_apart=request.counts_apart,
        )
        unsubscribe = self._manager.subscribe(watcher.changed)
        try:
            await watcher.snapshot()
            while True:
                await watcher.changes()
        finally:
            unsubscribe()


class _Seen(NamedTuple):
    """What was last reported of a queue."""

    revision: int
    activity: int | None
    """The queue's activity when its counts were reported; None if the selector did not select it."""

    @property
    def was_selected(self) -> bool:
        return self.activity is not None

    def is_outdated(self, queue: Queue) -> bool:
        return self.revision != queue.revision or self.activity not in {None, queue.activity}


class _Watcher:
    """One stream. It remembers what it has sent, so that each batch contains only changes.

    Pending changes are stored by queue instead of one by one, so that a slow reader costs at most one entry per queue.
    """

    def __init__(  # noqa: PLR0913  # each is a fact of its own
        self,
        manager: Manager,
        selects: Selector,
        send: Send,
        peer: str,
        is_watched: Callable[[Queue], bool],
        *,
        counts_apart: bool,
    ) -> None:
        self._manager = manager
        self._is_watched = is_watched
        self._selects = selects
        self._send = send
        self._peer = peer
        self._counts_apart = counts_apart
        self._stores: list[pb.StoreEpoch] = []
        self._seen: dict[str, _Seen] = {}
        self._changed: dict[str, Queue] = {}
        self._gone: dict[str, str] = {}
        self._woken = asyncio.Event()
        self._next_counts = 0.0

    def changed(self, queue: Queue) -> None:
        """Note that a queue was created, redefined or deleted, or that another server owns it now.

        A queue that has moved is forgotten and not reported as gone, because it still exists.
        """
        if queue.has_moved:
            self._changed.pop(queue.id, None)
            self._seen.pop(queue.id, None)
        elif not self._is_watched(queue):
            return
        elif not queue.deleted:
            self._changed[queue.id] = queue
        else:
            self._changed.pop(queue.id, None)
            seen = self._seen.pop(queue.id, None)
            if seen and seen.was_selected:
                self._gone[queue.id] = queue.definition.name
        self._woken.set()

    async def snapshot(self) -> None:
        """Send the stores and all queues."""
        await self._send_stores()
        await self._send_queues(filter(self._is_watched, self._manager))
        await self._send(pb.WatchQueuesResponse(snapshot_complete=True).SerializeToString())

    async def changes(self) -> None:
        """Wait for changes and send them: definitions at once, counts every `COUNTS_EVERY` seconds."""
        try:
            async with asyncio.timeout_at(self._next_counts):
                await self._woken.wait()
        except TimeoutError:
            await self._send_lost_stores()
            await self._send_stores()
            await self._send_queues(filter(self._is_watched, self._manager))
            self._next_counts = asyncio.get_running_loop().time() + COUNTS_EVERY
        self._woken.clear()
        await self._send_lost_stores()
        changed, self._changed = self._changed, {}
        await self._send_queues(changed.values(), is_time_for_counts=False)

    async def _send_lost_stores(self) -> None:
        """Send the stores if one of them has got other contents, and so another epoch, and have its queues sent again.

        This is done before its queues are sent, because those that it lost were not deleted by a client.
        """
        before = {each.store: each.epoch for each in self._stores}
        stores = self._manager.states.items()
        lost = {kind for kind, store in stores if before.get(store_to_pb(kind)) not in {None, "", store.epoch}}
        if not lost:
            return
        for queue in self._manager:
            seen = self._seen.get(queue.id)
            if seen and queue.definition.store in lost:
                self._seen[queue.id] = seen._replace(revision=-1)
        await self._send_stores()

    async def _send_stores(self) -> None:
        """Send the stores if an epoch, a problem or a durability has changed since they were last sent."""
        stores = store_epochs(self._manager)
        if stores != self._stores:
            self._stores = stores
            await self._send(pb.WatchQueuesResponse(stores=stores).SerializeToString())

    async def _send_queues(self, queues: Iterable[Queue], *, is_time_for_counts: bool = True) -> None:
        """Send the queues that have changed and those that are gone, in as many responses as necessary.

        A queue that is deleted while this waits is reported before queues that were created after it.
        """
        time_slice = TimeSlice(self._peer)
        await time_slice.begin()
        batch = _Batch(self._send, self._manager.bounds.message_bytes)
        await self._send_gone(batch, time_slice)
        for queue in queues:
            await time_slice.give()
            await self._send_gone(batch, time_slice)
            seen = self._seen.get(queue.id)
            if queue.deleted or queue.has_moved or (seen and not seen.is_outdated(queue)):
                continue
            if await self._report(queue, batch, is_time_for_counts=is_time_for_counts):
                await time_slice.begin()
        await batch.flush()

    async def _send_gone(self, batch: _Batch, time_slice: TimeSlice) -> None:
        """Add the queues that are gone, after a response with what was collected before, which may have them."""
        if self._gone:
            await batch.flush()
            await self._send_lost_stores()
        while self._gone:
            gone, self._gone = self._gone, {}
            for queue_id, name in gone.items():
                if await batch.remove(queue_id, name):
                    await time_slice.begin()

    async def _report(self, queue: Queue, batch: _Batch, *, is_time_for_counts: bool) -> bool:
        """Add what has changed of a queue to a batch; return whether a full response was sent before.

        `_seen` is set before the batch waits, because the queue may be deleted meanwhile.
        """
        seen = self._seen.get(queue.id)
        is_known = seen is not None and seen.was_selected
        if not self._selects(queue.definition.tags):
            self._seen[queue.id] = _Seen(queue.revision, None)
            return is_known and await batch.remove(queue.id, queue.definition.name)
        if not self._counts_apart:
            self._seen[queue.id] = _Seen(queue.revision, queue.activity)
            return await batch.put(queue)
        is_redefined = seen is None or not is_known or seen.revision != queue.revision
        # A redefined queue gets its counts when they are due, so that there are at most as many of them as promised.
        counts = queue_counts_to_pb(queue) if is_time_for_counts or not is_known else None
        activity = queue.activity if counts is not None or seen is None else seen.activity
        self._seen[queue.id] = _Seen(queue.revision, activity)
        was_sent = is_redefined and await batch.put(queue)
        if counts is not None and (not is_known or seen is None or seen.activity != activity):
            was_sent = await batch.put_counts(counts) or was_sent
        return was_sent


class _Batch:
    """Collects queues into a response, and sends it when it is full."""

    def __init__(self, send: Send, message_bytes: int) -> None:
        self._send = send
        self._message_bytes = message_bytes
        self._message = pb.WatchQueuesResponse()
        self._space = message_bytes

    async def put(self, queue: Queue) -> bool:
        """Add a queue; return whether a full response was sent before."""
        message = queue_to_pb(queue)
        was_sent = await self._make_space(message.ByteSize() + _OVERHEAD)
        self._message.queues.append(message)
        return was_sent

    async def put_counts(self, counts: pb.QueueCounts) -> bool:
        """Add the counts of a queue; return whether a full response was sent before."""
        was_sent = await self._make_space(counts.ByteSize() + _OVERHEAD)
        self._message.counts.append(counts)
        return was_sent

    async def remove(self, queue_id: str, name: str) -> bool:
        """Add a queue that is gone; return whether a full response was sent before."""
        was_sent = await self._make_space(len(name) + _OVERHEAD)
        self._message.removed.add(id=queue_id, name=name)
        return was_sent

    async def flush(self) -> None:
        message, self._message = self._message, pb.WatchQueuesResponse()
        self._space = self._message_bytes
        if message.queues or message.counts or message.removed:
            await self._send(message.SerializeToString())

    async def _make_space(self, size: int) -> bool:
        was_full = size > self._space
        if was_full:
            await self.flush()
        self._space -= size
        return was_full
