"""WatchQueues over several servers: one stream to the owner of each shard, merged into one that looks like a server's.

When a shard moves, its new owner sends a snapshot. It is passed on like changes, and the queues of the shard that it
lacks are reported as removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from time import monotonic

import structlog

from queuelet.errors import DeadlineExceeded, InvalidArgument, ShardMoved, StoreFailed, Unreachable
from queuelet.selector import parse_selector
from queuelet.server.directory import HERE
from queuelet.server.endpoint import Call, RefusedElsewhere, Send
from queuelet.server.forwarding.fan_in import FanIn
from queuelet.server.forwarding.origin import forwarded_call, origin_of, shards_metadata, shards_of
from queuelet.server.forwarding.owned import OwnedQueues
from queuelet.server.forwarding.peers import Peers
from queuelet.server.forwarding.places import Places
from queuelet.server.forwarding.stores import merged_stores
from queuelet.server.handlers.watch import WatchRpcs
from queuelet.tasks import first_ended
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import SERVICE, Code

log = structlog.get_logger()

_PATH = f"{SERVICE}/WatchQueues"

_RETRY_AFTER = 0.1
"""Seconds after which a part that ended is opened again, unless the directory changes before."""

REPORT_AFTER = 10.0
"""Seconds for which a shard has had no owner before that is reported as a problem of the store."""


class ForwardedWatch:
    """The method WatchQueues."""

    def __init__(self, rpcs: WatchRpcs, owned: OwnedQueues, places: Places, fan_in: FanIn, peers: Peers) -> None:
        self._rpcs = rpcs
        self._owned = owned
        self.places = places
        self.fan_in = fan_in
        self._peers = peers

    async def watch_queues(self, requests: AsyncIterator[bytes], send: Send, call: Call) -> None:
        """Send a snapshot of the queues in all shards, then their changes; or of the shards that a server asks for."""
        data = await anext(requests, None)
        if data is None:
            raise InvalidArgument(
                "request: missing; send one WatchQueuesRequest, an empty one to watch all queues", field="request"
            )
        origin, shards = forwarded_call(call), shards_of(call)
        if origin is not None and shards is not None:
            await self._here(data, shards, send, origin)
            return
        parse_selector(pb.WatchQueuesRequest.FromString(data).selector)
        await _Merge(self, data, send, call).run()

    async def open(self, owner: str, data: bytes, shards: frozenset[int], send: Send, call: Call) -> None:
        """Watch the queues of some shards at their owner until it loses one of them."""
        if owner == HERE:
            await self._here(data, shards, send, call)
            return
        metadata = (origin_of(call), shards_metadata(shards))
        await self._peers.stream(owner, _PATH, _only(data), send, metadata, None)

    async def _here(self, data: bytes, shards: frozenset[int], send: Send, call: Call) -> None:
        self._owned.check(shards)
        request = pb.WatchQueuesRequest.FromString(data)
        watch = asyncio.ensure_future(
            self._rpcs.watch(request, send, call, lambda queue: self._owned.shows(queue, shards))
        )
        moved = asyncio.ensure_future(self._owned.until_moved(shards))
        for each in await first_ended(watch, moved):
            each.result()


@dataclass(eq=False, slots=True)
class _Part:
    """A stream about some shards."""

    owner: str
    shards: frozenset[int]
    stores: list[pb.StoreEpoch] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    """The IDs of the queues in its snapshot."""
    is_complete: bool = False


class _Merge:
    """One client's stream."""

    def __init__(self, watch: ForwardedWatch, data: bytes, send: Send, call: Call) -> None:
        self._watch = watch
        self._places = watch.places
        self._directory = watch.places.directory
        self._data = data
        self._send = send
        self._call = call
        self._sending = asyncio.Lock()
        self._parts: dict[asyncio.Future[None], _Part] = {}
        self._queues: dict[int, dict[str, str]] = {}
        """The names of the reported queues by ID, by shard."""
        self._stores: list[pb.StoreEpoch] = []
        self._epochs: list[str] = []
        """All epochs that were reported; the last one counts."""
        self._waiting: set[int] = set()
        """The shards whose first snapshot is not complete."""
        self._is_snapshot = True
        self._unowned_since: dict[int, float] = {}
        self._problem = ""

    async def run(self) -> None:
        """Send until the client ends the stream."""
        if not self._directory.count:
            raise StoreFailed("the database has not been read yet, so that its queues are not known")
        self._waiting = set(range(self._directory.count))
        try:
            while True:
                self._open_parts()
                await self._report_unowned()
                await self._turn()
        finally:
            for task in self._parts:
                task.cancel()
            await asyncio.gather(*self._parts, return_exceptions=True)

    def _open_parts(self) -> None:
        """Open streams about the shards that have an owner and no stream; end those whose shards have another owner."""
        for task, part in self._parts.items():
            if any(self._directory.owner(shard) not in {None, part.owner} for shard in part.shards):
                task.cancel()
        covered = {shard for part in self._parts.values() for shard in part.shards}
        groups = self._watch.fan_in.by_owner(set(range(self._directory.count)) - covered)
        unowned = groups.pop(None, frozenset())
        now = monotonic()
        self._unowned_since = {shard: self._unowned_since.get(shard, now) for shard in unowned}
        for owner, shards in groups.items():
            if owner is not None:
                part = _Part(owner, shards)
                self._parts[asyncio.ensure_future(self._run(part))] = part

    async def _turn(self) -> None:
        """Wait until the directory changes or a stream ends."""
        changed = asyncio.ensure_future(self._directory.changed())
        timeout = 1.0 if self._unowned_since else None
        try:
            await asyncio.wait([*self._parts, changed], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            ended = [task for task in self._parts if task.done()]
            for task in ended:
                part = self._parts.pop(task)
                if not task.cancelled() and (error := task.exception()) is not None:
                    _check_temporary(error)
                    log.info("watch of shards ended", owner=part.owner, shards=sorted(part.shards), why=str(error))
            if ended:
                await asyncio.wait([changed], timeout=_RETRY_AFTER)
        finally:
            changed.cancel()

    async def _run(self, part: _Part) -> None:
        async def handle(data: bytes) -> None:
            await self._handle(part, pb.WatchQueuesResponse.FromString(data))

        await self._watch.open(part.owner, self._data, part.shards, handle, self._call)

    async def _handle(self, part: _Part, response: pb.WatchQueuesResponse) -> None:
        """Pass on a response of a part."""
        is_complete = response.snapshot_complete
        response.snapshot_complete = False
        if response.stores:
            part.stores[:] = response.stores
            del response.stores[:]
            for store in part.stores:
                if store.store == pb.Queue.POSTGRES and store.epoch and store.epoch not in self._epochs:
                    self._epochs.append(store.epoch)
            await self._send_stores()
        for gone in response.removed:
            shard = await self._shard(gone.id, gone.name)
            if shard is not None:
                self._queues.get(shard, {}).pop(gone.id, None)
        for queue in response.queues:
            shard = await self._shard(queue.meta.id, queue.name)
            if shard is not None:
                self._queues.setdefault(shard, {})[queue.meta.id] = queue.name
            part.seen.add(queue.meta.id)
        if response.queues or response.removed or response.counts:
            await self._send_one(response)
        if is_complete:
            await self._complete(part)

    async def _complete(self, part: _Part) -> None:
        """Report the queues as removed that the snapshot of a part lacks, and the first snapshot as complete."""
        part.is_complete = True
        response = pb.WatchQueuesResponse()
        for shard in part.shards:
            known = self._queues.get(shard, {})
            for queue_id in known.keys() - part.seen:
                response.removed.add(id=queue_id, name=known.pop(queue_id))
        part.seen.clear()
        if response.removed:
            await self._send_one(response)
        self._waiting -= part.shards
        await self._end_snapshot()

    async def _end_snapshot(self) -> None:
        if self._is_snapshot and not self._waiting:
            self._is_snapshot = False
            await self._send_one(pb.WatchQueuesResponse(snapshot_complete=True))

    async def _shard(self, queue_id: str, name: str) -> int | None:
        reference = name or queue_id
        shard = self._places.known(reference)
        return await self._places.find(reference) if shard is None else shard

    async def _report_unowned(self) -> None:
        """Report shards that have had no owner for long as a problem, so that the snapshot need not wait for them."""
        overdue = sorted(shard for shard, since in self._unowned_since.items() if monotonic() >= since + REPORT_AFTER)
        problem = ""
        if overdue:
            which = ", ".join(map(str, overdue))
            problem = f"no server owns shard {which} of {self._directory.count}"
        if problem != self._problem:
            self._problem = problem
            await self._send_stores()
        if self._waiting & set(overdue):
            self._waiting -= set(overdue)
            await self._end_snapshot()

    async def _send_stores(self) -> None:
        """Send the state of the shared store if it has changed."""
        stores = merged_stores(
            [store for part in self._parts.values() for store in part.stores], self._epochs[-1] if self._epochs else ""
        )
        if self._problem:
            shared = stores[0] if stores else pb.StoreEpoch(store=pb.Queue.POSTGRES)
            shared.problem, shared.reason = self._problem, StoreFailed.reason
            stores = [shared]
        if stores and stores != self._stores:
            self._stores = stores
            await self._send_one(pb.WatchQueuesResponse(stores=stores))

    async def _send_one(self, response: pb.WatchQueuesResponse) -> None:
        async with self._sending:
            await self._send(response.SerializeToString())


def _check_temporary(error: BaseException) -> None:
    """Raise an error unless the stream of another owner may succeed."""
    if isinstance(error, ShardMoved | Unreachable | DeadlineExceeded | StoreFailed):
        return
    if isinstance(error, RefusedElsewhere) and error.status.code is Code.UNAVAILABLE:
        return
    raise error


async def _only(request: bytes) -> AsyncIterator[bytes]:
    yield request
    await asyncio.Event().wait()
