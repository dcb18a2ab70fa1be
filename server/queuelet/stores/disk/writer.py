"""What the writer's thread does: transactions, checkpoints, and the tidying up between them."""

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
from queuelet.stores.disk import reclaim as sweep
from queuelet.stores.disk.batch import Batch, write
from queuelet.stores.disk.check import require_whole
from queuelet.stores.disk.data_dir import DATABASE, LOG, RESERVE
from queuelet.stores.disk.database import PATIENCE_MS, explained, open_for_writing
from queuelet.stores.disk.loading import Contents, read_contents
from queuelet.stores.disk.migrations import Progress
from queuelet.stores.disk.reserve import Reserve
from queuelet.stores.disk.schema import PAGE_BYTES

T = TypeVar("T")

FULL_FOR = 1.0
"""How long a disk that was full counts as full at least, in seconds: nobody is told one thing and then the other."""

_PIECE = 64 * 1024
"""How much of the log is written anew at once, in bytes. SQLite's layer over Unix takes less than 128 KiB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskSettings:
    """How a store uses its disk. Sizes are in bytes."""

    reserve_bytes: int = 16 * 1024 * 1024
    """The room kept for removing messages on a full disk. At least 1 MiB, or 0 for none."""

    group_bytes: int = 4 * 1024 * 1024
    """About how many bytes of messages go into one transaction. A quarter of the reserve, so that it fits in there."""

    log_bytes: int = 4 * 1024 * 1024
    """How large the write-ahead log may grow before it is copied into the database."""

    window_bytes: int = 64 * 1024 * 1024
    """How many bytes of messages that are on the disk are kept in memory too, to be taken next."""

    vfs: str | None = None
    """The name of SQLite's layer over the system, where it is not the default one."""

    synchronous: str = "FULL"
    """SQLite's setting. Only tests use another, to prove that they would notice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What became of a transaction that is on the disk."""

    seconds: float
    is_full: bool
    """Whether the reserve was needed for it."""
    log_bytes: int
    """The size of the write-ahead log."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tidied:
    """How things are after a slice of tidying up."""

    is_full: bool
    has_more: bool
    """Whether there is more to do."""
    is_quiet: bool
    """Whether the log was given back."""
    freed: list[int]
    """Numbers under which nothing is stored any more."""
    file_bytes: int
    free_bytes: int


class Writer:
    """The connection that writes. Used by one thread at a time."""

    def __init__(self, folder: Path, settings: DiskSettings, progress: Progress) -> None:
        """Take a folder that this process holds the lock of, and what is told how far a migration is.

        `open` comes first.
        """
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

    def open(self, check: Callable[[apsw.Connection], None] | None = None) -> Contents:
        """Open the database and read what is needed to serve.

        Args:
            check: what to do first with the open database.

        Raises:
            StoreFailed: it cannot be used; the sentence says why, and what to do.
        """
        with explained(self._path):
            self.is_full = not self._reserve.make()
            self._connection = open_for_writing(
                self._path,
                vfs=self._settings.vfs,
                synchronous=self._settings.synchronous,
                progress=self._progress,
            )
            self._connection.set_wal_hook(self._note_log)
            if check:
                check(self._connection)
            contents = self._with_room(lambda: read_contents(self._open))
        self._dropped = deque(contents.dropped)
        return contents

    def reopen(self, *, is_damaged: bool, is_cancelled: Callable[[], bool]) -> Contents:
        """Open again after a failure. Raises as `open` does.

        Args:
            is_damaged: whether damage was met in the file. Opening reads little of it, and so it is looked through
                first: it is not served from again as long as there is anything wrong with it.
            is_cancelled: tells whether to give that up.
        """
        self._abandon()
        with explained(self._path):
            self._write_log_anew()
        try:
            return self.open(partial(require_whole, is_cancelled=is_cancelled) if is_damaged else None)
        except StoreFailed:
            self._abandon()  # it may be long until the next time, and somebody may mend the file meanwhile
            raise

    def write(self, batch: Batch) -> Written:
        """Write a batch, out of the reserve if need be.

        Raises:
            apsw.FullError: there is no room even so. Nothing of it is written.
            apsw.Error: the disk failed. What became of the batch is not known.
        """
        start = perf_counter()
        self._with_room(lambda: write(self._open, batch))
        self._dropped.extend(batch.dropped_numbers)
        return Written(
            seconds=perf_counter() - start,
            is_full=self.is_full,
            log_bytes=self._log_pages * PAGE_BYTES,
        )

    def checkpoint(self) -> None:
        """Copy the log into the database. Raises apsw.Error where the disk fails."""
        with suppress(apsw.FullError, apsw.BusyError):  # the log stays, and nothing is lost
            self._with_room(lambda: self._open.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE))
        self._log_pages = 0

    def tidy(self, *, is_idle: bool, is_quiet: bool) -> Tidied:
        """Do some of what has time: delete what was dropped, give back free space, look whether there is room again.

        It takes some ten milliseconds at most.

        Args:
            is_idle: whether nothing is written just now. Space that is free is not given back while there is load,
                which will soon need it, unless it is most of the file.
            is_quiet: whether nothing was written for a while, so that the log can be given back.

        Raises:
            apsw.Error: the disk failed.
        """
        freed: list[int] = []
        has_more = False
        with suppress(apsw.FullError, apsw.BusyError):  # another time
            has_more = self._with_room(lambda: self._tidy_some(freed, is_idle=is_idle))
            if is_quiet and not has_more and self._log.exists() and self._log.stat().st_size:
                self._give_log_back()
        if self.is_full and monotonic() - self._full_since >= FULL_FOR:
            self.is_full = not self._reserve.make()
        free = sweep.free_pages(self._open) * PAGE_BYTES
        return Tidied(
            is_full=self.is_full,
            has_more=has_more,
            is_quiet=is_quiet,
            freed=freed,
            file_bytes=self._path.stat().st_size,
            free_bytes=free,
        )

    def close(self) -> None:
        """Put all into the database file and close. Raises apsw.Error where the disk fails."""
        if self._connection:
            self._connection.close()
            self._connection = None

    @property
    def _open(self) -> apsw.Connection:
        if self._connection is None:
            raise apsw.ConnectionClosedError("the store is closed")
        return self._connection

    def _tidy_some(self, freed: list[int], *, is_idle: bool) -> bool:
        if self._dropped:
            if sweep.delete_some(self._open, self._dropped[0]):
                number = self._dropped.popleft()
                if not sweep.has_left(self._open, number):
                    freed.append(number)
            return True
        return sweep.give_back_some(self._open, is_idle=is_idle, is_full=self.is_full)

    def _give_log_back(self) -> None:
        """Cut the log, unless somebody reads from it: a backup does so for long, and nobody is to wait for its end."""
        self._open.set_busy_timeout(0)
        try:
            self._open.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self._log_pages = 0
        finally:
            self._open.set_busy_timeout(PATIENCE_MS)

    def _with_room(self, work: Callable[[], T]) -> T:
        """Do some work, once more with the reserve's room if there is none."""
        try:
            return work()
        except apsw.FullError:
            self._reserve.drop()
            self.is_full, self._full_since = True, monotonic()
            return work()

    def _note_log(self, _: apsw.Connection, __: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK

    def _abandon(self) -> None:
        """Close after a failure, leaving the files as they are."""
        if self._connection:
            with suppress(apsw.Error):
                self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                self._connection.close(True)  # noqa: FBT003  # apsw's: whatever it may say
            self._connection = None

    def _write_log_anew(self) -> None:
        """Write the bytes of the log over themselves, and sync.

        After a sync has failed the system takes the pages for clean, though they may never have reached the disk: a
        later sync that succeeds says nothing about them. Written anew they are synced like any others. What a failed
        checkpoint has put into the database needs no such care, for it is in the log still, and is copied again.
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
