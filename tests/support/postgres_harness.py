"""A PostgreSQL store for tests without a running event loop: it has its own, and can end like a killed process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, cast

from queuelet.core.budget import MemoryBudget
from queuelet.core.storage import Messages, NotLoaded
from queuelet.definition import QueueDefinition, StoreKind
from queuelet.stores.postgres.address import Address
from queuelet.stores.postgres.settings import PostgresSettings
from queuelet.stores.postgres.store import PostgresStore
from support.patience import patient
from support.postgres_server import new_schema, shared_postgres

QUEUE_ID = "6f9c0000-0000-4000-8000-000000000001"


class PostgresHarness:
    """A PostgreSQL store with one queue, in a schema of its own."""

    outlives_process = True

    limits: ClassVar[dict[str, Any]] = {}
    """Settings that are sizes in bytes, if they are not the usual ones."""

    version: ClassVar[int] = 18
    """The version of PostgreSQL."""

    def __init__(self) -> None:
        self.budget = MemoryBudget(1 << 50)
        self._runner = asyncio.Runner()
        self.loop = self._runner.get_loop()
        self._server = shared_postgres(self.version)
        self.schema = new_schema()
        # The loop runs only now and then, so nothing renews the lease.
        self.settings = PostgresSettings(
            address=Address(self._server.url), schema=self.schema, lease_seconds=3_600, **self.limits
        )
        self.reopenings = 0
        """How often the store was opened."""
        self.store = self._start()

    def open(self) -> Messages:
        """Create the queue."""
        self.store.new(QUEUE_ID, 1, QueueDefinition(store=StoreKind.POSTGRES, name="orders"))
        return self.messages

    def turn(self) -> None:
        """Run one iteration of the event loop."""
        self.loop.run_until_complete(asyncio.sleep(0))

    def commit(self) -> None:
        """Wait for the commit of all changes."""
        self.wait(self.store.commit())

    def wait(self, awaitable: Awaitable[None] | None) -> None:
        """Wait for a commit, unless there is nothing to wait for."""
        if awaitable is not None:
            self.loop.run_until_complete(_wait_for(awaitable))

    def reopen(self) -> Messages:
        """Open the store again, as if the process had been killed now."""
        holder = self.store._backend.owner.holder  # noqa: SLF001  # only tests kill
        self.abandon()
        self.store = self._start(holder)
        return self.messages

    def restart(self) -> Messages:
        """Close the store and open it again."""
        self.loop.run_until_complete(self.store.close())
        self.store = self._start()
        return self.messages

    def abandon(self) -> None:
        """End all connections without another commit."""
        store = self.store
        store._backend._abandon()  # noqa: SLF001  # only tests kill
        store._backend.stop_opening()  # noqa: SLF001  # as above
        self.loop.run_until_complete(store.close())

    def until(self, happened: Callable[[], bool], seconds: float = 30) -> None:
        """Run the event loop until a condition is true."""

        async def wait() -> None:
            while not happened():  # noqa: ASYNC110  # there is no event to wait for
                await asyncio.sleep(0.001)

        try:
            self.loop.run_until_complete(asyncio.wait_for(wait(), patient(seconds)))
        except TimeoutError:
            raise AssertionError(f"it did not happen; the store's problem: {self.store.problem or 'none'}") from None

    @property
    def messages(self) -> Messages:
        """The messages of the queue in the present store."""
        found = next(each for each in self.store._messages.values())  # noqa: SLF001  # of the class, not of the protocol
        return cast("Messages", LoadedMessages(found, self.loop))

    def close(self) -> None:
        """Close the store and remove its tables."""
        try:
            self.loop.run_until_complete(self.store.close())
        finally:
            self._runner.close()  # it also ends the tasks of owners that were abandoned
            self._server.drop(self.schema)

    def _start(self, *earlier: object) -> PostgresStore:
        store = PostgresStore(self.settings, budget=self.budget, loop=self.loop, on_reopened=self._note_reopened)
        store._backend.owner._earlier += earlier  # type: ignore[arg-type]  # noqa: SLF001  # it need not wait for them
        self.loop.run_until_complete(store.open())
        assert not store.problem, store.problem
        return store

    def _note_reopened(self) -> None:
        self.reopenings += 1


class Postgres16Harness(PostgresHarness):
    """The same store in the older version of PostgreSQL that the package has."""

    version = 16


class LoadedMessages:
    """Messages whose calls are repeated until they have what they read, as a server repeats them."""

    def __init__(self, messages: Messages, loop: asyncio.AbstractEventLoop) -> None:
        self._messages = messages
        self._loop = loop

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # of any type
        attribute = getattr(self._messages, name)
        if not callable(attribute):
            return attribute

        def repeated(*args: object, **kwargs: object) -> object:
            while True:
                try:
                    return attribute(*args, **kwargs)
                except NotLoaded as missing:
                    self._loop.run_until_complete(_wait_for(missing.loading))

        return repeated

    def __len__(self) -> int:
        return len(self._messages)


async def _wait_for(awaitable: Awaitable[None]) -> None:
    await awaitable
