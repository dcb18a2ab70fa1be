"""Shares the shards with other servers: takes free ones, gives some up for others, hands all over at the end.

Each shard has a store of its own, which is opened when this server takes the shard. To give a shard up, the server
first refuses calls on its queues with `ShardMoved`, then commits pending changes and releases the row in `owners`. That
notifies the other servers, so that the next owner need not wait for the end of a lease.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from time import monotonic
from typing import Any

import structlog

from queuelet.clock import now_ns
from queuelet.core.budget import MemoryBudget
from queuelet.core.manager import Manager
from queuelet.core.queue import Queue
from queuelet.core.tokens import Tokens
from queuelet.definition import StoreKind
from queuelet.errors import ShardMoved, StoreFailed
from queuelet.ids import parse_uuid
from queuelet.server.directory import HERE, ServerEntry, ShardEntry, shard_of
from queuelet.server.metrics import ShardFigures
from queuelet.server.shared_store import SharedStore
from queuelet.stores.postgres.address import place_of
from queuelet.stores.postgres.members import Members, plan
from queuelet.stores.postgres.migrations import OtherShards
from queuelet.stores.postgres.registry import Registry
from queuelet.stores.postgres.settings import PostgresSettings
from queuelet.stores.postgres.store import PostgresStore

log = structlog.get_logger()

_BEATS = 3
"""How often this server renews its entry in the time of a lease."""

_RETRY = 0.5
"""Seconds between two attempts to use a database that cannot be used, or to take a shard whose store does not open."""

_GRAIN = 0.02
"""Seconds: a lease is looked at this much after its end, because clocks have a grain."""

_DELETED_SECONDS = 600.0
"""For how long a queue that this server deleted counts as unknown without another look at the database."""

_MANY_LOOK_UPS = 100
"""The most queues that are looked up at once because of calls that were refused."""

_MANY_IDS = 100_000
"""How many shards of queues are remembered."""


class Shards:
    """The shards of this server, and the directory of all. It implements `Directory`."""

    def __init__(
        self,
        settings: PostgresSettings,
        *,
        budget: MemoryBudget,
        opened: Callable[[PostgresStore], None],
        damaged: Callable[[str, str, str], None],
    ) -> None:
        """Make it without a shard.

        Args:
            settings: how the database is used, with the number of shards.
            budget: the memory that stores hold is charged to it.
            opened: called when a store has been opened, before its queues are loaded.
            damaged: called when a damaged message was set aside, as `PostgresStore` does.
        """
        self._settings = settings
        self._budget = budget
        self._opened = opened
        self._damaged = damaged
        self._manager: Manager | None = None
        self._held: dict[int, PostgresStore] = {}
        """The stores of shards that this server owns or is taking."""
        self._lapsed: set[int] = set()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        """The tasks that take shards or give them up."""
        self._not_before: dict[int, float] = {}
        """When to try again to take a shard whose store did not open."""
        self._free_since: dict[int, float] = {}
        self._gives_after = 0.0
        self._registry: Registry | None = None
        self._members: Members | None = None
        self._loop_task: asyncio.Task[None] | None = None
        self._look = asyncio.Event()
        self._next_change = asyncio.Event()
        self._is_leaving = False
        self._shard_of_id: OrderedDict[str, int] = OrderedDict()
        self.address = ""
        """How other servers reach this one, once it was started."""
        self._taken_free = self._taken_lapsed = self._given = self._lost = 0
        self._looking_up: dict[str, asyncio.Task[None]] = {}
        self.store = SharedStore(settings.shards, self._look_up)
        """The shards of this server as one store."""

    # Lifecycle

    def serve(self, manager: Manager) -> None:
        """Set the manager of the queues, which is made after this object."""
        self._manager = manager
        manager.subscribe(self._queue_changed)

    async def start(self, address: str) -> None:
        """Join the other servers, and take the shards that are free now.

        If the database cannot be used, this goes on trying.

        Args:
            address: how other servers reach this one.

        Raises:
            OtherShards: the tables have another number of shards.
        """
        self.address = address
        self._settings = replace(self._settings, name=address, waits_for_lease=False)
        self._registry = Registry(self._settings, self._look.set)
        await self._beat(raises=True)
        if self._tasks:
            await asyncio.wait([*self._tasks.values()], timeout=self._settings.connect_seconds)
        self._loop_task = asyncio.create_task(self._run())

    async def leave(self, seconds: float) -> None:
        """Hand all shards over. Afterwards this object is only a directory, until it is closed.

        Args:
            seconds: how long to wait for it.
        """
        self._is_leaving = True
        await self._beat()
        for shard in list(self._held):
            self._give(shard)
        giving = [*self._tasks.values()]
        if giving:
            await asyncio.wait(giving, timeout=seconds)
        self._look.set()

    async def close(self) -> None:
        """Close the stores and the connection."""
        self._is_leaving = True
        if self._loop_task:
            self._loop_task.cancel()
            await asyncio.wait([self._loop_task])
        for shard in list(self._held):
            self._give(shard)
        if self._tasks:
            await asyncio.wait([*self._tasks.values()])
        if self._registry:
            await self._registry.close()

    @property
    def place(self) -> str:
        """Where the database is, without secrets."""
        return place_of(self._settings.address)

    # The directory

    @property
    def count(self) -> int:
        """The number of shards."""
        return self._settings.shards

    def shard_of_name(self, name: str) -> int:
        """Return the shard of the queue with this name."""
        return shard_of(name, self.count)

    async def shard_of_id(self, queue_id: str) -> int | None:
        """Return the shard of a queue, or None if there is no such queue in the database."""
        queue = self._manager.find(queue_id) if self._manager else None
        if queue is not None:
            here = next((shard for shard, store in self.store.open.items() if store is queue.store), None)
            if here is not None:
                return here
        found = self._shard_of_id.get(queue_id)
        # A queue that is not in the index of its owner was deleted.
        if found is not None and found not in self.store.open:
            self._shard_of_id.move_to_end(queue_id)
            return found
        if self._registry is None:
            raise StoreFailed("the database has not been read yet")
        found = await self._registry.find(parse_uuid(queue_id) or queue_id)
        if found is None:
            self.store.note_absent(queue_id)
            return None
        self._shard_of_id[queue_id] = found
        if len(self._shard_of_id) > _MANY_IDS:
            self._shard_of_id.popitem(last=False)
        return found

    def _look_up(self, queue_id: str) -> None:
        """Find out whether a queue exists, so that a retry of the call need not be refused with `ShardMoved` again."""
        if queue_id not in self._looking_up and len(self._looking_up) < _MANY_LOOK_UPS and not self._is_leaving:
            self._looking_up[queue_id] = asyncio.create_task(self._find(queue_id))

    async def _find(self, queue_id: str) -> None:
        try:
            await self.shard_of_id(queue_id)
        except StoreFailed:
            pass  # the next call looks again
        finally:
            del self._looking_up[queue_id]

    def _queue_changed(self, queue: Queue) -> None:
        if queue.deleted:
            self._shard_of_id.pop(queue.id, None)
            self.store.note_absent(queue.id, _DELETED_SECONDS)

    def owner(self, shard: int) -> str | None:
        """Return `HERE` if this server serves the shard, the address of its owner, or None while it has none."""
        if shard in self.store.open:
            return HERE
        owner = self._members.owner(shard) if self._members else None
        return None if owner == self.address else owner

    async def changed(self) -> None:
        """Wait until an owner or a server differs from when this was called."""
        await self._next_change.wait()

    def servers(self) -> Sequence[ServerEntry]:
        """Return the servers that live, by address."""
        addresses = {*(self._members.servers if self._members else ())}
        if not self._is_leaving:
            addresses.add(self.address)
        return [
            ServerEntry(
                address=address,
                is_here=address == self.address,
                shards=tuple(
                    shard
                    for shard in range(self.count)
                    if self.owner(shard) == (HERE if address == self.address else address)
                ),
            )
            for address in sorted(addresses)
        ]

    def shards(self) -> Sequence[ShardEntry]:
        """Return all shards, by number."""
        rows = self._members.shards if self._members else ()
        return [ShardEntry(shard=row.shard, owner=self.owner(row.shard), epoch=row.epoch) for row in rows]

    def figures(self) -> ShardFigures:
        """Return the figures, for metrics."""
        return ShardFigures(
            servers=len(self.servers()),
            shards=self.count,
            owned=len(self.store.open),
            without_owner=sum(self._has_no_owner(shard) for shard in range(self.count)),
            taken_free=self._taken_free,
            taken_lapsed=self._taken_lapsed,
            given=self._given,
            lost=self._lost,
        )

    def _has_no_owner(self, shard: int) -> bool:
        return shard not in self.store.open and (self._members is None or self._members.owner(shard) is None)

    # Deciding

    async def _run(self) -> None:
        while True:
            seconds = self._seconds_to_next_look()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._look.wait()
            self._look.clear()
            try:
                await self._beat()
            except Exception:  # the server would lose its shards if a defect ended this
                log.exception("shards not looked at")
                await asyncio.sleep(_RETRY)

    def _seconds_to_next_look(self) -> float:
        """Return how long to wait: until this server's entry is due, or a lease of another server ends."""
        if self.store.outage or self._members is None:
            return _RETRY
        waits = [self._settings.lease_seconds / _BEATS]
        if self._is_leaving:
            return waits[0]
        waits += [
            _RETRY if row.is_free or row.seconds_left is None else row.seconds_left + _GRAIN
            for row in self._members.shards
            if row.shard not in self._held
        ]
        return max(_GRAIN, min(waits))

    async def _beat(self, *, raises: bool = False) -> None:
        """Renew this server's entry, look at the tables, and begin to take shards and to give some up."""
        if self._registry is None:
            return
        try:
            members = await self._registry.beat(is_leaving=self._is_leaving)
        except StoreFailed as error:
            if raises and isinstance(error, OtherShards):
                raise
            if not self.store.outage:
                log.error("shards cannot be shared until the database can be used", error=error.message)  # noqa: TRY400  # no traceback
            self.store.outage = f"the database cannot be used: {error.message}"
            return
        if self.store.outage:
            self.store.outage = ""
            log.info("database can be used again")
        self._note(members)
        self._act(members)

    def _note(self, members: Members) -> None:
        before, self._members = self._members, members
        self.store.is_replicated = bool(members.standbys.strip())
        epoch = members.shards[0].store_epoch
        for row in members.shards:
            store = self.store.open.get(row.shard)
            if store is not None and store.has_been_owned_as(row.holder) and store.epoch != row.store_epoch:
                log.warning("the database lacks commits, so the store has another epoch", shard=row.shard)
                store.epoch = row.store_epoch
        self.store.epoch = epoch
        owners = [members.owner(row.shard) for row in members.shards]
        if (
            before is None
            or before.servers != members.servers
            or owners != [before.owner(row.shard) for row in before.shards]
        ):
            self._note_change()

    def _note_change(self) -> None:
        changed, self._next_change = self._next_change, asyncio.Event()
        changed.set()

    def _act(self, members: Members) -> None:
        self._give_up_lost(members)
        if self._is_leaving:
            return
        now, lease = monotonic(), self._settings.lease_seconds
        left_over = self._left_over(members, now)
        decided = plan(members, self.address, self._held.keys(), left_over)
        for shard in decided.take:
            if shard not in self._tasks and self._not_before.get(shard, 0.0) <= now:
                if shard in left_over:
                    # The server for which it was left does not take it, so nothing is given up for it for a while.
                    self._gives_after = now + 6 * lease
                if members.shards[shard].has_lapsed:
                    self._lapsed.add(shard)
                self._begin(shard, self._take(shard))
        for shard in decided.give:
            if shard not in self._tasks and now >= self._gives_after:
                self._give(shard)

    def _give_up_lost(self, members: Members) -> None:
        """Close the stores of shards that other servers own."""
        for row in members.shards:
            held = self._held.get(row.shard)
            is_lost = held is not None and not row.is_free and not held.has_been_owned_as(row.holder)
            if is_lost and row.shard not in self._tasks:
                self._lost += 1
                log.warning("shard lost to another server", shard=row.shard, owner=row.address)
                self._give(row.shard, is_lost=True)

    def _left_over(self, members: Members, now: float) -> set[int]:
        """Return the shards that have been free for longer than a lease."""
        for row in members.shards:
            if row.is_free and row.shard not in self._held:
                self._free_since.setdefault(row.shard, now)
            else:
                self._free_since.pop(row.shard, None)
        return {shard for shard, since in self._free_since.items() if now - since > self._settings.lease_seconds}

    def _begin(self, shard: int, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks[shard] = task

        def ended(task: asyncio.Task[None]) -> None:
            if self._tasks.get(shard) is task:
                del self._tasks[shard]
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("shard not moved", shard=shard, exc_info=error)
            self._look.set()

        task.add_done_callback(ended)

    # Taking and giving

    async def _take(self, shard: int) -> None:
        settings = self._settings
        store = self._held[shard] = PostgresStore(
            replace(
                settings,
                shard=shard,
                window_bytes=settings.window_bytes // settings.shards,
                cache_bytes=settings.cache_bytes // settings.shards,
            ),
            budget=self._budget,
            on_failed=lambda why: self._store_failed(shard, store, why),
            on_reopened=lambda: self._store_opened(shard, store),
            on_damaged=self._damaged,
        )
        await store.open()
        if shard not in self.store.open and self._held.get(shard) is store:
            del self._held[shard]
            if not store.is_owned_by_another:
                self._not_before[shard] = monotonic() + _RETRY
                log.error("shard cannot be taken", shard=shard, error=store.problem)
            await store.close()
        elif self._registry:
            with suppress(StoreFailed):  # others look now and then anyway
                await self._registry.announce()

    def _store_opened(self, shard: int, store: PostgresStore) -> None:
        if self._manager is None or self._held.get(shard) is not store:
            raise StoreFailed("the shard is given up")
        self._opened(store)
        self._manager.load(StoreKind.POSTGRES, now=now_ns(), store=store, tokens=Tokens(store.first_token))
        self.store.open[shard] = store
        self.store.epoch = store.epoch
        if shard in self._tasks:  # otherwise it was reopened after a failure of the database
            self._taken_lapsed += shard in self._lapsed
            self._taken_free += shard not in self._lapsed
            self._lapsed.discard(shard)
        log.info(
            "shard taken",
            shard=shard,
            queues=sum(queue.store is store for queue in self._manager),
            durability=store.durability.name,
        )
        self._note_change()

    def _store_failed(self, shard: int, store: PostgresStore, why: str) -> None:
        log.error("shard failed", shard=shard, error=why)
        if self.store.open.get(shard) is store:
            del self.store.open[shard]
        if self._manager:
            self._manager.suspend(StoreKind.POSTGRES, StoreFailed(why), store=store)
        self._note_change()
        self._look.set()

    def _give(self, shard: int, *, is_lost: bool = False) -> None:
        """Begin to give a shard up, once it is no longer being taken."""
        self._begin(shard, self._give_up(shard, self._tasks.get(shard), is_lost=is_lost))

    async def _give_up(self, shard: int, before: asyncio.Task[None] | None, *, is_lost: bool) -> None:
        if before is not None:
            await asyncio.wait([before])
        store = self._held.pop(shard, None)
        if store is None:
            return
        self.store.open.pop(shard, None)
        if self._manager:
            self._manager.unload(store, ShardMoved())
        self._note_change()
        await store.close()
        self.store.note_past(store.stats())
        if not is_lost:
            self._given += 1
            log.info("shard given up", shard=shard)
