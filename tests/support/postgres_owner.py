"""A server's PostgreSQL store in this process, which other owners and faults of the database get to see."""

from __future__ import annotations

import asyncio

from queuelet.core.budget import MemoryBudget
from queuelet.core.storage import Messages, NotLoaded
from queuelet.definition import QueueDefinition, StoreKind
from queuelet.stores.postgres.address import Address, AddressFile
from queuelet.stores.postgres.settings import PostgresSettings
from queuelet.stores.postgres.store import PostgresStore
from support.patience import patient

QUEUE_ID = "6f9c0000-0000-4000-8000-000000000001"

LEASE = 1.0
"""The lease of an owner in seconds: short, so that tests need not wait for long."""


class Owner:
    """A server's store in this process, with one queue."""

    def __init__(self, address: Address | AddressFile, schema: str, *, lease: float = LEASE) -> None:
        self.opened = asyncio.Event()
        self.failures: list[str] = []
        self.store = PostgresStore(
            PostgresSettings(address=address, schema=schema, name="test", lease_seconds=lease, connect_seconds=1),
            budget=MemoryBudget(1 << 50),
            on_failed=self._note_failed,
            on_reopened=self.opened.set,
        )

    async def open(self) -> Owner:
        """Wait until the store is open, maybe once another owner's lease has ended."""
        attempt = asyncio.ensure_future(self.store.open())
        await self.until_open()
        await attempt
        return self

    async def until_open(self) -> None:
        """Wait until the store is open, at first or again."""
        try:
            await asyncio.wait_for(self.opened.wait(), patient(30))
        except TimeoutError:
            raise AssertionError(f"the store did not open: {self.store.problem}") from None

    async def make_queue(self) -> None:
        """Create the queue."""
        self.store.new(QUEUE_ID, 1, QueueDefinition(store=StoreKind.POSTGRES, name="a"))
        await self.commit()

    @property
    def messages(self) -> Messages:
        """The messages of the queue."""
        return next(iter(self.store.queues())).messages

    async def add(self, count: int = 1) -> list[int]:
        """Add messages, and return their numbers once they are committed."""
        messages, added = self.messages, []
        for _ in range(count):
            seq = messages.tally.next_seq
            messages.tally.next_seq = seq + 1
            messages.append(seq, b"%d" % seq)
            added.append(seq)
        await self.commit()
        return added

    async def stored(self) -> list[int]:
        """Return the numbers of all messages."""
        found: list[int] = []
        while few := await self._after(found[-1] if found else 0):
            found += few
        return found

    async def _after(self, seq: int) -> list[int]:
        """Return the next numbers of messages after one."""
        while True:
            try:
                return [found for found, _ in self.messages.after(seq, 1_000, 1 << 30)]
            except NotLoaded as missing:
                await asyncio.shield(asyncio.ensure_future(missing.loading))

    async def commit(self) -> None:
        """Wait for a commit. Raises `StoreFailed` if its outcome is not known."""
        commit = self.store.commit()
        if commit is not None:
            await commit

    async def failed(self) -> None:
        """Wait until the store has failed."""
        async with asyncio.timeout(patient(30)):
            while not self.failures:  # noqa: ASYNC110  # it is noted in a callback
                await asyncio.sleep(0.01)

    def freeze(self) -> None:
        """Have its lease end, as if the process had not run for a while."""
        self.store._backend.owner._until = 0.0  # noqa: SLF001  # only tests do this

    def _note_failed(self, why: str) -> None:
        self.failures.append(why)
        self.opened.clear()
