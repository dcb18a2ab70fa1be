"""The PostgreSQL store: queues and their messages in a database, which may be replicated."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Event, get_running_loop
from collections.abc import Callable
from uuid import UUID

from queuelet.core.budget import MemoryBudget
from queuelet.definition import Durability
from queuelet.errors import StoreFailed
from queuelet.stores.durable.store import DurableStore, ignore
from queuelet.stores.postgres.address import place_of
from queuelet.stores.postgres.backend import PostgresBackend
from queuelet.stores.postgres.cache import RowCache
from queuelet.stores.postgres.numbers import numbers_of, ordinals_of
from queuelet.stores.postgres.reader import PostgresReader
from queuelet.stores.postgres.settings import PostgresSettings
from queuelet.stores.postgres.stats import PostgresStats


class PostgresStore(DurableStore):
    """A store in a database. It connects on the event loop, so it begins like a store that has failed."""

    def __init__(  # noqa: PLR0913  # all by name
        self,
        settings: PostgresSettings,
        *,
        budget: MemoryBudget,
        on_failed: Callable[[str], None] = ignore,
        on_reopened: Callable[[], None] = ignore,
        on_damaged: Callable[[str, str, str], None] = ignore,
        loop: AbstractEventLoop | None = None,
    ) -> None:
        """Make a store that is not connected yet: call `open`.

        Args:
            settings: where the database is, and how the store uses it.
            budget: the memory that the store holds is charged to it.
            on_failed: called with an error text when the database fails, before the messages in memory are released.
            on_reopened: called when the store is open, at first and again after each failure.
            on_damaged: called when a damaged message was set aside: with the queue's ID, the ID that the server made
                for the message, and the reason. The message ID is empty if messages cannot even be found.
            loop: the event loop it is used on, by default the running one.
        """
        self._loop = loop or get_running_loop()
        self._budget = budget
        self._settings = settings
        self._notify = on_reopened
        self._first_attempt = Event()
        self._backend = PostgresBackend(settings, self._loop, self._fail_with)
        super().__init__(
            self._backend,
            self._loop,
            budget=budget,
            window_bytes=settings.window_bytes,
            group_bytes=settings.group_bytes,
            on_failed=on_failed,
            on_reopened=self._note_open,
            on_damaged=on_damaged,
            numbers=numbers_of(settings.shard, settings.shards),
            ordinals=ordinals_of(settings.shard),
        )

    async def open(self) -> None:
        """Connect and take over the queues. Return after the first attempt, whether it succeeded or not."""
        self._commit_loop.begin("the store is connecting to PostgreSQL", self._first_attempt.set)
        await self._first_attempt.wait()

    @property
    def durability(self) -> Durability:
        """What committed changes survive at present, by the settings of the database."""
        settings = self._backend.durability
        return Durability.REPLICATED if settings and settings.is_replicated else Durability.DISK

    def has_been_owned_as(self, holder: UUID) -> bool:
        """Return whether this store owns, or owned, its shard under this name in `owners`."""
        return self._backend.owner.has_been(holder)

    @property
    def is_owned_by_another(self) -> bool:
        """Whether the last attempt to take the shard over found that another server owns it."""
        return self._backend.owner.is_refused

    @property
    def place(self) -> str:
        """Where the database is, without secrets."""
        return place_of(self._settings.address)

    def stats(self) -> PostgresStats:
        """Return the store's statistics, for metrics."""
        commits = self._commit_loop
        return PostgresStats(
            is_open=not commits.failure,
            is_replicated=self.durability is Durability.REPLICATED,
            is_full=commits.is_full,
            failures=commits.failures,
            commits=commits.commits,
            changes=commits.changes.read(),
            commit_seconds=commits.commit_seconds.read(),
            dead_rows=self._backend.dead_rows,
            table_bytes=self._backend.table_bytes,
            window_bytes=self._window_budget.used,
            damaged_found=self._damaged_found,
        )

    # For the base class

    def _open_reader(self) -> PostgresReader:
        reader, browser = self._backend.reader, self._backend.browser
        if reader is None or browser is None:
            raise StoreFailed("the store is not connected to PostgreSQL")
        cache = RowCache(self._budget, self._settings.cache_bytes)
        return PostgresReader(reader, browser, cache, self._loop, self._failed_to_read)

    def _guard(self) -> None:
        """Raise `StoreFailed` if another server may have become the owner, because this one was stopped for long."""
        if not self._backend.owner.is_valid:
            self._fail_with(StoreFailed("the lease on the queues has ended, because this server made no progress"))
            raise StoreFailed(self._commit_loop.failure)

    @property
    def _full_text(self) -> str:
        return "the disk of PostgreSQL is full: messages can be neither added nor removed; make space on it"

    def _note_open(self) -> None:
        self._first_attempt.set()
        self._notify()

    def _fail_with(self, error: Exception) -> str:
        return self._commit_loop.fail(error)

    def _failed_to_read(self, error: Exception) -> StoreFailed:
        return StoreFailed(self._commit_loop.fail(error))
