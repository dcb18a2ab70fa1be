"""The tasks of the Disk store, which its writer thread runs one after the other."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from functools import partial
from threading import Event

import apsw

from queuelet.errors import StoreFailed
from queuelet.stores.disk.database import REMEDY, damage_of
from queuelet.stores.disk.thread import WriterThread
from queuelet.stores.disk.writer import Writer
from queuelet.stores.durable.backend import Done, Reclaimed, Written
from queuelet.stores.durable.batch import Batch
from queuelet.stores.durable.loaded import LoadedStore


class DiskBackend:
    """A database file and the thread that writes to it. `open` must be called first."""

    def __init__(self, writer: Writer, loop: AbstractEventLoop) -> None:
        self._writer = writer
        self._loop = loop
        self.thread: WriterThread | None = None
        """The writer thread, from `open` to `close`."""
        self._stop_opening = Event()

    @property
    def is_full(self) -> bool:
        """Whether the disk counts as full."""
        return self._writer.is_full

    def open(self) -> LoadedStore:
        """Open the database in the calling thread. Raises `StoreFailed` if it cannot be used."""
        loaded = self._writer.open()
        self.thread = WriterThread(self._loop)
        return loaded

    def abort(self) -> None:
        """Close what `open` has opened, before it was used."""
        if self.thread:
            self.thread.stop()
        self._writer.close()

    def write(self, batch: Batch, done: Done[Written | None]) -> None:
        """Commit a batch. The result is None if the disk is full even without the reserve."""

        def write() -> Written | None:
            try:
                return self._writer.write(batch)
            except apsw.FullError:
                return None

        if self.thread:
            self.thread.submit(write, done)

    def checkpoint(self, done: Done[None]) -> None:
        """Copy the log into the database."""
        if self.thread:
            self.thread.submit(self._writer.checkpoint, done)

    def reclaim(self, done: Done[Reclaimed], *, is_idle: bool, is_quiet: bool) -> None:
        """Reclaim some space."""
        if self.thread:
            self.thread.submit(partial(self._writer.reclaim, is_idle=is_idle, is_quiet=is_quiet), done)

    def reopen(self, done: Done[LoadedStore], *, after: float, is_damaged: bool) -> None:
        """Reopen the database after a failure, in `after` seconds."""

        def reopen() -> LoadedStore:
            if self._stop_opening.wait(after):
                raise StoreFailed("the store is closing")
            return self._writer.reopen(is_damaged=is_damaged, is_cancelled=self._stop_opening.is_set)

        if self.thread:
            self.thread.submit(reopen, done)

    def stop_opening(self) -> None:
        """Cancel a `reopen` that waits or runs."""
        self._stop_opening.set()

    def close(self, done: Done[None]) -> None:
        """Copy the log into the database file, close it, and end the thread."""
        thread, self.thread = self.thread, None

        def closed(result: Exception | None) -> None:
            if thread:
                thread.stop()
            done(result)

        if thread:
            thread.submit(self._writer.close, closed)
        else:
            done(None)

    def damage_of(self, error: Exception) -> str:
        """Return a sentence about the damage that an error reports and its remedy; empty if it reports none."""
        damage = damage_of(error)
        return f"the store is damaged ({damage}); stop the server, then {REMEDY}" if damage else ""
