"""The Disk store: queues and their messages in one SQLite database per data folder."""

from __future__ import annotations

from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Callable
from pathlib import Path

import apsw

from queuelet.core.budget import MemoryBudget
from queuelet.errors import StoreFailed
from queuelet.stores.disk import reserve
from queuelet.stores.disk.backend import DiskBackend
from queuelet.stores.disk.data_dir import DATABASE, DataDirLock
from queuelet.stores.disk.database import open_for_reading
from queuelet.stores.disk.reader import DiskReader
from queuelet.stores.disk.stats import DiskStats
from queuelet.stores.disk.writer import DiskSettings, Writer
from queuelet.stores.durable.store import DurableStore, ignore


class DiskStore(DurableStore):
    """A store on disk. A thread of its own writes."""

    def __init__(  # noqa: PLR0913  # all except the folder are passed by name
        self,
        folder: Path,
        *,
        budget: MemoryBudget,
        settings: DiskSettings | None = None,
        on_failed: Callable[[str], None] = ignore,
        on_reopened: Callable[[], None] = ignore,
        on_progress: Callable[[str], None] = ignore,
        on_damaged: Callable[[str, str, str], None] = ignore,
        loop: AbstractEventLoop | None = None,
    ) -> None:
        """Open the store of a folder, or create one. This blocks: it loads the state of all queues, but no bodies.

        Args:
            folder: the data folder, which no other store may use.
            budget: the memory that the store holds is charged to it.
            settings: how the store uses the disk.
            on_failed: called with an error text when the disk fails, before the messages in memory are released.
            on_reopened: called when the store is open again after a failure.
            on_progress: called with a text that describes the progress of migrating a file of an older version.
            on_damaged: called when a damaged message was set aside: with the queue's ID, the ID that the server made
                for the message, and the reason. The message ID is empty if messages cannot even be found.
            loop: the event loop it is used on, by default the running one.

        Raises:
            StoreFailed: the folder or the database cannot be used; the error says why and what to do.
        """
        self._folder = folder
        self._settings = settings or DiskSettings()
        self._lock = DataDirLock(folder)
        loop = loop or get_running_loop()
        backend = self._backend = DiskBackend(Writer(folder, self._settings, on_progress), loop)
        super().__init__(
            backend,
            loop,
            budget=budget,
            window_bytes=self._settings.window_bytes,
            group_bytes=self._settings.group_bytes,
            on_failed=on_failed,
            on_reopened=on_reopened,
            on_damaged=on_damaged,
        )
        try:
            self._start(backend.open())
        except BaseException:
            backend.abort()
            self._lock.release()
            raise

    def stats(self) -> DiskStats:
        """Return the store's statistics, for metrics."""
        commits = self._commit_loop
        return DiskStats(
            is_open=not commits.failure,
            is_full=commits.is_full,
            failures=commits.failures,
            commits=commits.commits,
            changes=commits.changes.read(),
            commit_seconds=commits.commit_seconds.read(),
            file_bytes=commits.file_bytes,
            free_bytes=commits.free_bytes,
            disk_free_bytes=reserve.free_bytes(self._folder),
            window_bytes=self._window_budget.used,
            damaged_found=self._damaged_found,
        )

    async def close(self) -> None:
        """Commit everything that is pending, including leases, and close the store as one file without a log.

        Calls whose changes could not be committed get `StoreFailed`. Closing a closed store does nothing.
        """
        if not self._is_closed:
            await super().close()
            self._lock.release()

    def _open_reader(self) -> DiskReader:
        return DiskReader(open_for_reading(self._folder / DATABASE, vfs=self._settings.vfs), self._failed_to_read)

    @property
    def _full_text(self) -> str:
        return (
            f"the disk of {self._folder} is full: messages can be taken but not added; "
            f"free at least {2 * self._settings.reserve_bytes:,} bytes"
        )

    def _failed_to_read(self, error: apsw.Error) -> StoreFailed:
        return StoreFailed(self._commit_loop.fail(error))
