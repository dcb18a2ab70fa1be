"""The connection to the queue server: a cache of its queues, and calls to it in batches.

A watch reports each change, so that nothing is polled. It is also the circuit breaker: while the server is unreachable,
only this module tries to connect, with a backoff, and all other calls fail at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

import structlog

from queuelet import clock
from queuelet.backoff import Backoff
from queuelet.client import Client, Connection
from queuelet.definition import StoreKind
from queuelet.errors import QueueletError, Unreachable
from queuelet.tasks import first_ended
from queuelet.values import DeclareResult, QueueDeclaration, QueueRemoval, RemoveResult, StoreState
from queuelet.wire.values import declaration_to_pb, removal_to_pb
from queuelet_operator.plan.observed import ObservedQueue, Server, server_away, server_with
from queuelet_operator.queue_cache import QueueCache

log = structlog.get_logger()

FIRST_BACKOFF = 0.1
MAX_BACKOFF = 2.0
"""Seconds between two attempts to reach the server: at first, and at most."""

HEARTBEAT = 10.0
"""Seconds between two calls that check whether a silent server is still reachable."""

CALL_TIMEOUT = 10.0
"""The timeout of a call, in seconds."""

LINGER = 0.005
"""Seconds that the first item of a batch waits for others, because a call costs many times as much as an item in it."""

MAX_BATCH = 500
MAX_BATCH_BYTES = 1024**2
"""The largest batch, in items and bytes: far below the server's limit, so that its response fits into that too."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class ServerLink:
    """The state of the server and of its queues, kept up to date while `run` runs.

    While the server is unreachable, another cause is reported once it has lasted for `cause_lasts` seconds. `changed`
    is called with the name of a queue that changed. `server_changed` is called when the server became reachable or
    unreachable, when the cause of an outage changed, or when the state of a store changed.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        cause_lasts: float,
        changed: Callable[[str], None],
        server_changed: Callable[[], None],
    ) -> None:
        self._connection = replace(connection, timeout=CALL_TIMEOUT)
        self._changed = changed
        self._server_changed = server_changed
        self._cause_lasts = cause_lasts
        self._client: Client | None = None
        self.may_call: Callable[[], bool] = lambda: True
        """Returns whether calls are allowed, which they are only while this operator holds the Lease."""
        self._declares = Batcher(self._declare, declaration_bytes)
        self._removes = Batcher(self._remove, removal_bytes)
        self.server = Server(away_since=clock.now())
        """The state of the server."""
        self._cache = QueueCache()

    @property
    def queues(self) -> Mapping[str, ObservedQueue]:
        """The server's queues by name; out of date while it is unreachable."""
        return self._cache.by_name

    async def run(self) -> None:
        """Run the watch and the batches. It never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._declares.run(), name="declarations")
            tasks.create_task(self._removes.run(), name="removals")
            tasks.create_task(self._stay_connected(), name="watch of the server")

    async def declare(self, declaration: QueueDeclaration) -> DeclareResult:
        """Declare a queue, in a batch with others, and return the result. Raises `QueueletError`."""
        return await self._declares.call(declaration)

    async def remove(self, removal: QueueRemoval) -> RemoveResult:
        """Remove a queue, in a batch with others, and return the result. Raises `QueueletError`."""
        return await self._removes.call(removal)

    def observe(self, queue: ObservedQueue) -> None:
        """Store a queue from a response or the watch, unless a newer revision is known."""
        self._cache.observe(queue)

    def forget(self, name: str) -> None:
        """Delete a removed queue from the cache."""
        self._cache.forget(name)

    # The watch

    async def _stay_connected(self) -> None:
        backoff = Backoff(FIRST_BACKOFF, MAX_BACKOFF)
        while True:
            why = "the server ended the watch"
            try:
                # A new client each time, because it reads the certificates again and starts without a backoff.
                async with Client(self._connection) as self._client:
                    await self._watch(self._client)
            except (QueueletError, OSError) as error:
                why = error.message if isinstance(error, QueueletError) else str(error)
            finally:
                self._client = None
            if not self.server.is_away:
                backoff.reset()
                self._went_away(why)
            else:
                self._is_still_away(why)
            await asyncio.sleep(backoff.next_delay())

    async def _watch(self, client: Client) -> None:
        """Watch the server until it becomes unreachable, then raise `QueueletError` or return."""
        heart = asyncio.create_task(self._heartbeat(client), name="heartbeat")
        watch = asyncio.create_task(self._follow(client), name="watch stream")
        for each in await first_ended(heart, watch):
            each.result()

    async def _heartbeat(self, client: Client) -> None:
        """Call the server periodically, because a stream to a lost machine never ends. Raises `QueueletError`."""
        while True:
            await client.ping()
            await asyncio.sleep(HEARTBEAT)

    async def _follow(self, client: Client) -> None:
        snapshot: QueueCache | None = QueueCache()
        stores: dict[StoreKind, StoreState] = {}
        async for batch in client.watch_queues(counts_apart=True):
            stores |= {each.store: each for each in batch.stores}
            if snapshot is None:
                for name in self._cache.apply(batch):
                    self._changed(name)
                if batch.stores:
                    self._handle_report(server_with(stores.values(), self.server, clock.now()))
                continue
            # Changes may arrive before the snapshot is complete.
            for _ in snapshot.apply(batch):
                pass
            if batch.snapshot_complete:
                self._cache, snapshot = snapshot, None
                log.info("connected to the server", server=self._connection.server, queues=len(self.queues))
                self._handle_report(server_with(stores.values(), self.server, clock.now()))

    def _handle_report(self, server: Server) -> None:
        """Handle a report of the server about its stores."""
        for kind, problem in server.problems.items():
            if kind not in self.server.problems or self.server.problems[kind].since != problem.since:
                event = "store full" if problem.is_full else "store failed"
                log.warning(event, store=kind.name, problem=problem.message)
        for kind in self.server.problems.keys() - server.problems.keys():
            log.info("store recovered", store=kind.name)
        if server != self.server:
            self.server = server
            self._server_changed()

    def _went_away(self, why: str) -> None:
        self.server = server_away(why, self.server, clock.now(), lasts=self._cause_lasts)
        log.warning("server unreachable", server=self._connection.server, why=why)
        self._server_changed()

    def _is_still_away(self, why: str) -> None:
        before = self.server
        self.server = server_away(why, before, clock.now(), lasts=self._cause_lasts)
        if self.server.why_away != before.why_away and before.why_away:
            log.warning("server still unreachable, for another reason", server=self._connection.server, why=why)
            self._server_changed()

    # Batches

    def _connected(self) -> Client:
        """Return the client for a call. Raises `Unreachable` if there is no connection or no Lease."""
        if not self.may_call():
            raise Unreachable("this operator no longer holds the Lease")
        if self._client is None:
            raise Unreachable(f"the server at {self._connection.server} is unreachable")
        return self._client

    async def _declare(self, declarations: Sequence[QueueDeclaration]) -> Sequence[DeclareResult]:
        return await self._connected().declare_queues(declarations)

    async def _remove(self, removals: Sequence[QueueRemoval]) -> Sequence[RemoveResult]:
        return await self._connected().remove_queues(removals)


class Batcher(Generic[_Item, _Result]):
    """Combines items into one call. Items that arrive during a call go into the next one."""

    def __init__(
        self, call: Callable[[Sequence[_Item]], Awaitable[Sequence[_Result]]], bytes_of: Callable[[_Item], int]
    ) -> None:
        self._call = call
        self._bytes_of = bytes_of
        self._waiting: list[tuple[_Item, int, asyncio.Future[_Result]]] = []
        """The items of the next batches, with their sizes in bytes."""
        self._news = asyncio.Event()

    async def call(self, item: _Item) -> _Result:
        """Return the result of an item. Raises what the call raised, and `ValueError` if the item cannot be encoded."""
        result: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, self._bytes_of(item), result))
        self._news.set()
        return await result

    async def run(self) -> None:
        """Make the calls. It never returns."""
        while True:
            await self._news.wait()
            await asyncio.sleep(LINGER)
            batch = self._next_batch()
            try:
                results = await self._call([item for item, _ in batch])
            except Exception as error:  # noqa: BLE001  # each waiting caller gets it
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)

    def _next_batch(self) -> list[tuple[_Item, asyncio.Future[_Result]]]:
        size = 0
        end = len(self._waiting)
        for count, (_, item_bytes, _) in enumerate(self._waiting):
            size += item_bytes
            if count and (size > MAX_BATCH_BYTES or count == MAX_BATCH):
                end = count
                break
        batch, self._waiting = self._waiting[:end], self._waiting[end:]
        if not self._waiting:
            self._news.clear()
        return [(item, result) for item, _, result in batch]


def declaration_bytes(declaration: QueueDeclaration) -> int:
    """Return the size of a declaration in a request. Raises `ValueError` if it cannot be encoded."""
    return declaration_to_pb(declaration).ByteSize()


def removal_bytes(removal: QueueRemoval) -> int:
    """Return the size of a removal in a request. Raises `ValueError` if it cannot be encoded."""
    return removal_to_pb(removal).ByteSize()
