"""The one connection to the queue server: what queues it has, and calls to it in batches.

A watch tells of each change, so that nothing is polled. While the server is away, one probe with a backoff looks for
it, however many Queues wait for it: this is the breaker, and nobody else calls meanwhile.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

import structlog

from queuelet import clock
from queuelet.client import Client, Connection
from queuelet.errors import QueueletError, Unreachable
from queuelet.v1 import queue_pb2 as pb
from queuelet_operator.plan.observed import ObservedQueue, Server, queue_from_pb, server_away, server_with

log = structlog.get_logger()

FIRST_BACKOFF = 0.1
LAST_BACKOFF = 2.0
"""Seconds between two tries to reach the server: at first, and at most."""

HEARTBEAT = 10.0
"""Seconds between two calls that find out whether a silent server is still there."""

CALL_TIMEOUT = 10.0
"""Seconds that a call may take."""

LINGER = 0.005
"""Seconds that the first of a batch waits for others: a call costs many times what a queue in it does."""

LARGEST_BATCH = 500
LARGEST_BATCH_BYTES = 1024**2
"""Of declarations. Far below what the server takes at most, so that its answer has room for each queue."""

_Item = TypeVar("_Item", pb.QueueDeclaration, pb.QueueRemoval)
_Result = TypeVar("_Result", pb.DeclareResult, pb.RemoveResult)


class ServerLink:
    """What is known of the server, kept up to date while `run` runs."""

    def __init__(
        self,
        connection: Connection,
        *,
        cause_lasts: float,
        changed: Callable[[str], None],
        flipped: Callable[[], None],
    ) -> None:
        """Take how to reach it, and what to call.

        While the server is away, another cause counts once it has lasted for `cause_lasts` seconds. `changed` is called
        with the name of a queue that changed; `flipped` when the server came or went, is away for another cause, or one
        of its stores has another state.
        """
        self._connection = replace(connection, timeout=CALL_TIMEOUT)
        self._changed = changed
        self._flipped = flipped
        self._cause_lasts = cause_lasts
        self._client: Client | None = None
        self.may_call: Callable[[], bool] = lambda: True
        self._declares: _Batcher[pb.QueueDeclaration, pb.DeclareResult] = _Batcher(self._declare)
        self._removes: _Batcher[pb.QueueRemoval, pb.RemoveResult] = _Batcher(self._remove)
        self.server = Server(away_since=clock.now())
        """Where it stands."""
        self.queues: dict[str, ObservedQueue] = {}
        """Its queues by name, while it is connected."""

    async def run(self) -> None:
        """Stay connected. It never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._declares.run(), name="declarations")
            tasks.create_task(self._removes.run(), name="removals")
            tasks.create_task(self._stay_connected(), name="watch of the server")

    async def declare(self, declaration: pb.QueueDeclaration) -> pb.DeclareResult:
        """Declare a queue, together with others; return what became of it. Raises `QueueletError`."""
        return await self._declares.call(declaration)

    async def remove(self, removal: pb.QueueRemoval) -> pb.RemoveResult:
        """Remove a queue, together with others; return what became of it. Raises `QueueletError`."""
        return await self._removes.call(removal)

    def observe(self, queue: ObservedQueue) -> None:
        """Note a queue as an answer told of it, unless the watch has told of a newer revision."""
        known = self.queues.get(queue.definition.name)
        if known is None or known.id != queue.id or known.revision <= queue.revision:
            self.queues[queue.definition.name] = queue

    def forget(self, name: str) -> None:
        """Note that a queue was removed."""
        self.queues.pop(name, None)

    # The watch

    async def _stay_connected(self) -> None:
        backoff = FIRST_BACKOFF
        while True:
            why = "it ended the watch"
            try:
                # A new connection each time: it reads the certificates anew, and knows no backoff of an earlier one.
                async with Client(self._connection) as self._client:
                    await self._watch(self._client)
            except (QueueletError, OSError) as error:
                why = error.message if isinstance(error, QueueletError) else str(error)
            finally:
                self._client = None
            if not self.server.is_away:
                backoff = FIRST_BACKOFF
                self._went_away(why)
            else:
                self._is_still_away(why)
            await asyncio.sleep(backoff * random.uniform(0.5, 1))  # noqa: S311  # it guards nothing
            backoff = min(backoff * 2, LAST_BACKOFF)

    async def _watch(self, client: Client) -> None:
        """Follow the server until it goes away, then raise `QueueletError` or return."""
        heart = asyncio.create_task(self._heartbeat(client), name="heartbeat")
        watch = asyncio.create_task(self._follow(client), name="watch stream")
        try:
            done, _ = await asyncio.wait({heart, watch}, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
        finally:
            for each in (heart, watch):
                each.cancel()
            # To suppress CancelledError here would also swallow a cancellation of the link: it would never end.
            await asyncio.gather(heart, watch, return_exceptions=True)

    async def _heartbeat(self, client: Client) -> None:
        """Call now and then: a machine that is gone ends no stream. Raises `QueueletError` when there is no answer."""
        while True:
            await client.call("ListQueues", pb.ListQueuesRequest(page_size=1), pb.ListQueuesResponse)
            await asyncio.sleep(HEARTBEAT)

    async def _follow(self, client: Client) -> None:
        snapshot: dict[str, ObservedQueue] | None = {}
        stores: dict[pb.Queue.Store, pb.StoreEpoch] = {}
        async for batch in client.watch_queues():
            stores |= {each.store: each for each in batch.stores}
            if snapshot is None:
                self._apply(batch)
                if batch.stores:
                    self._stands(server_with(stores.values(), self.server, clock.now()))
                continue
            # Changes may come before the snapshot is complete.
            snapshot |= {each.name: queue_from_pb(each) for each in batch.queues if each.name}
            for gone in batch.removed:
                snapshot.pop(gone.name, None)
            if batch.snapshot_complete:
                self.queues, snapshot = snapshot, None
                log.info("connected to the server", server=self._connection.server, queues=len(self.queues))
                self._stands(server_with(stores.values(), self.server, clock.now()))

    def _apply(self, batch: pb.WatchQueuesResponse) -> None:
        for gone in batch.removed:
            known = self.queues.get(gone.name)
            if known and known.id == gone.id:
                del self.queues[gone.name]
                self._changed(gone.name)
        for each in batch.queues:
            if each.name:
                self.observe(queue_from_pb(each))
                self._changed(each.name)

    def _stands(self, server: Server) -> None:
        """Take note of where the server stands that it told of its stores."""
        for kind, problem in server.problems.items():
            if kind not in self.server.problems or self.server.problems[kind].since != problem.since:
                log.warning("a store of the server is in trouble", store=kind.name, problem=problem.message)
        for kind in self.server.problems.keys() - server.problems.keys():
            log.info("a store of the server is well again", store=kind.name)
        if server != self.server:
            self.server = server
            self._flipped()

    def _went_away(self, why: str) -> None:
        self.server = server_away(why, self.server, clock.now(), lasts=self._cause_lasts)
        log.warning("the server is away", server=self._connection.server, why=why)
        self._flipped()

    def _is_still_away(self, why: str) -> None:
        before = self.server
        self.server = server_away(why, before, clock.now(), lasts=self._cause_lasts)
        if self.server.why_away != before.why_away and before.why_away:
            log.warning("the server is away for another reason", server=self._connection.server, why=why)
            self._flipped()

    # Batches

    def _connected(self) -> Client:
        """Return what to make a call with. Raises `Unreachable` where none may be made."""
        if not self.may_call():
            raise Unreachable("the Lease is not held any more")
        if self._client is None:
            raise Unreachable(f"the server at {self._connection.server} is away")
        return self._client

    async def _declare(self, declarations: Sequence[pb.QueueDeclaration]) -> Sequence[pb.DeclareResult]:
        return await self._connected().declare_queues(declarations)

    async def _remove(self, removals: Sequence[pb.QueueRemoval]) -> Sequence[pb.RemoveResult]:
        return await self._connected().remove_queues(removals)


class _Batcher(Generic[_Item, _Result]):
    """Makes one call of many. What comes while a call is under way goes with the next."""

    def __init__(self, call: Callable[[Sequence[_Item]], Awaitable[Sequence[_Result]]]) -> None:
        self._call: Callable[[Sequence[_Item]], Awaitable[Sequence[_Result]]] = call
        self._waiting: list[tuple[_Item, asyncio.Future[_Result]]] = []
        self._news = asyncio.Event()

    async def call(self, item: _Item) -> _Result:
        """Return what became of an item. Raises what the call raised."""
        answer: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        self._news.set()
        return await answer

    async def run(self) -> None:
        """Make the calls. It never returns."""
        while True:
            await self._news.wait()
            await asyncio.sleep(LINGER)
            batch = self._next_batch()
            try:
                results = await self._call([item for item, _ in batch])
            except Exception as error:  # noqa: BLE001  # it is theirs who wait
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (_, answer), result in zip(batch, results, strict=True):
                if not answer.done():
                    answer.set_result(result)

    def _next_batch(self) -> list[tuple[_Item, asyncio.Future[_Result]]]:
        size = 0
        for count, (item, _) in enumerate(self._waiting):
            size += item.ByteSize()
            if count and (size > LARGEST_BATCH_BYTES or count == LARGEST_BATCH):
                batch, self._waiting = self._waiting[:count], self._waiting[count:]
                return batch
        batch, self._waiting = self._waiting, []
        self._news.clear()
        return batch
