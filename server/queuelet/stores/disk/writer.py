"""The tasks of the writer thread: transactions, checkpoints, and reclaiming space between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic, perf_counter
from typing import TypeVar

import apsw

from queuelet.errors import StoreFailed
from queuelet.stores.disk import reclaim
from queuelet.stores.disk.check import require_whole
from queuelet.stores.disk.data_dir import DATABASE, LOG, RESERVE
from queuelet.stores.disk.database import BUSY_TIMEOUT_MS, explained, open_for_writing
from queuelet.stores.disk.loading import load_to_serve
from queuelet.stores.disk.migrations import Progress
from queuelet.stores.disk.reserve import Reserve
from queuelet.stores.disk.schema import PAGE_BYTES
from queuelet.stores.disk.statements import write
from queuelet.stores.durable.backend import Reclaimed, Written
from queuelet.stores.durable.batch import Batch
from queuelet.stores.durable.loaded import LoadedStore

T = TypeVar("T")

FULL_FOR = 1.0
"""How long a disk counts as full once it was full, in seconds, so that producers do not see the state flap."""

_PIECE = 64 * 1024
"""How much of the log is rewritten at once, in bytes. SQLite's Unix VFS accepts less than 128 KiB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskSettings:
    """How a store uses its disk. Sizes are in bytes."""

    reserve_bytes: int = 16 * 1024 * 1024
    """The space reserved for removing messages from a full disk. At least 1 MiB, or 0 for no reserve."""

    group_bytes: int = 4 * 1024 * 1024
    """About how many bytes of messages one transaction has: a quarter of the reserve, so that it fits in there."""

    log_bytes: int = 4 * 1024 * 1024
    """The size of the write-ahead log that starts a checkpoint, which copies it into the database."""

    window_bytes: int = 64 * 1024 * 1024
    """How many bytes of committed messages are held in memory, so that they can be delivered without a read."""

    vfs: str | None = None
    """The name of the SQLite VFS, None for the default one."""

    synchronous: str = "FULL"
    """SQLite's setting. Only tests use another value, to prove that they would detect a missing fsync."""


class Writer:
    """The connection that writes. Used by one thread at a time, and `open` must be called first.

    This process must hold the lock of the data folder. `progress` is called with the progress of a migration.
    """

    def __init__(self, folder: Path, settings: DiskSettings, progress: Progress) -> None:
        self._progress = progress
        self._path = folder / DATABASE
        self._log = folder / LOG
        self._settings = settings
        self._reserve = Reserve(folder / RESERVE, settings.reserve_bytes)
        self._connection: apsw.Connection | None = None
        self._dropped: deque[int] = deque()
        self._log_pages = 0
        self._full_since = 0.0
        self.is_full = False

    def open(self, check: Callable[[apsw.Connection], None] | None = None) -> LoadedStore:
        """Open the database and load the state of its queues.

        Args:
            check: called first with the open database.

        Raises:
            StoreFailed: the database cannot be used; the error says why and what to do.
        """
        with explained(self._path):
            self.is_full = not self._reserve.create()
            self._connection = open_for_writing(
                self._path,
                vfs=self._settings.vfs,
                synchronous=self._settings.synchronous,
                progress=self._progress,
            )
            self._connection.set_wal_hook(self._note_log)
            if check:
                check(self._connection)
            loaded = self._with_reserve(lambda: load_to_serve(self._open))
        self._dropped = deque(loaded.dropped)
        return loaded

    def reopen(self, *, is_damaged: bool, is_cancelled: Callable[[], bool]) -> LoadedStore:
        """Reopen the database after a failure. Raises as `open` does.

        Args:
            is_damaged: whether damage was found in the file. If so, the whole file is checked first, because opening
                reads little of it; a file with anything wrong is not opened.
            is_cancelled: polled during the check, which is cancelled if it returns True.
        """
        self._abandon()
        with explained(self._path):
            self._rewrite_log()
        try:
            return self.open(partial(require_whole, is_cancelled=is_cancelled) if is_damaged else None)
        except StoreFailed:
            self._abandon()  # the next attempt may be much later, and the file may be repaired until then
            raise

    def write(self, batch: Batch) -> Written:
        """Commit a batch, with the space of the reserve if necessary.

        Raises:
            apsw.FullError: the disk is full even without the reserve. Nothing was written.
            apsw.Error: the disk failed. The outcome is not known.
        """
        start = perf_counter()
        self._with_reserve(lambda: write(self._open, batch))
        self._dropped.extend(batch.dropped_numbers)
        return Written(
            seconds=perf_counter() - start,
            is_full=self.is_full,
            is_log_large=self._log_pages * PAGE_BYTES >= self._settings.log_bytes,
        )

    def checkpoint(self) -> None:
        """Copy the log into the database. Raises apsw.Error if the disk fails."""
        with suppress(apsw.FullError, apsw.BusyError):  # the log still has everything
            self._with_reserve(lambda: self._open.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE))
        self._log_pages = 0

    def reclaim(self, *, is_idle: bool, is_quiet: bool) -> Reclaimed:
        """Reclaim some space: delete rows of dropped queues, return free pages to the file system, truncate the log.

        On a full disk it also checks whether there is free space again. It takes a few tens of milliseconds at most.

        Args:
            is_idle: whether there was no commit in the last `IDLE` seconds. Under load free pages are not returned
                unless they are most of the file, because new messages will soon use them.
            is_quiet: whether there was no commit in the last `QUIET` seconds, so that the log can be truncated.

        Raises:
            apsw.Error: the disk failed.
        """
        freed: list[int] = []
        has_more = False
        with suppress(apsw.FullError, apsw.BusyError):  # the next slice retries
            has_more = self._with_reserve(lambda: self._reclaim_some(freed, is_idle=is_idle))
        with suppress(apsw.FullError, apsw.BusyError):  # also if the slice found no space, because the log may take it
            if is_quiet and not has_more and self._log.exists() and self._log.stat().st_size:
                self._truncate_log()
        if self.is_full and monotonic() - self._full_since >= FULL_FOR:
            self.is_full = not self._reserve.create()
        free = reclaim.free_pages(self._open) * PAGE_BYTES
        return Reclaimed(
            is_full=self.is_full,
            has_more=has_more,
            is_quiet=is_quiet,
            freed=freed,
            file_bytes=self._path.stat().st_size,
            free_bytes=free,
        )

    def close(self) -> None:
        """Copy the log into the database file and close it. Raises apsw.Error if the disk fails."""
        if self._connection:
            self._connection.close()
            self._connection = None

    @property
    def _open(self) -> apsw.Connection:
        if self._connection is None:
            raise apsw.ConnectionClosedError("the store is closed")
        return self._connection

    def _reclaim_some(self, freed: list[int], *, is_idle: bool) -> bool:
        if self._dropped:
            if reclaim.delete_some(self._open, self._dropped[0]):
                number = self._dropped.popleft()
                if not reclaim.has_messages(self._open, number):
                    freed.append(number)
            return True
        return reclaim.vacuum_some(self._open, is_idle=is_idle, is_full=self.is_full)

    def _truncate_log(self) -> None:
        """Truncate the log, unless another process reads it: commits must not wait for a long backup."""
        self._open.set_busy_timeout(0)
        try:
            self._open.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self._log_pages = 0
        finally:
            self._open.set_busy_timeout(BUSY_TIMEOUT_MS)

    def _with_reserve(self, work: Callable[[], T]) -> T:
        """Do some work. If the disk is full, release the reserve and retry once."""
        try:
            return work()
        except apsw.FullError:
            self._reserve.release()
            self.is_full, self._full_since = True, monotonic()
            return work()

    def _note_log(self, _: apsw.Connection, __: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK

    def _abandon(self) -> None:
        """Close after a failure, without a checkpoint."""
        if self._connection:
            with suppress(apsw.Error):
                self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                self._connection.close(True)  # noqa: FBT003  # apsw's `force`: ignore errors
            self._connection = None

    def _rewrite_log(self) -> None:
        """Overwrite the log with its own bytes, and fsync it.

        After a failed fsync the kernel marks the pages as clean, although they may never have reached the disk. A later
        fsync that succeeds does not cover them, but if they are written again it does. Pages that a failed checkpoint
        wrote to the database need no rewriting, because they are still in the log and are copied again.
        """
        if not self._log.exists() or not self._log.stat().st_size:
            return
        flags = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_READWRITE
        file = apsw.VFSFile(self._settings.vfs or "", str(self._log), [flags, 0])
        try:
            size = file.xFileSize()
            for offset in range(0, size, _PIECE):
                file.xWrite(file.xRead(min(_PIECE, size - offset), offset), offset)
            file.xSync(apsw.SQLITE_SYNC_FULL)
        finally:
            file.xClose()
