"""Schedules the writer thread: commits, checkpoints and reclaiming; reopens the store after a failure."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, Handle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event
from time import monotonic
from typing import TypeVar

import apsw

from queuelet.errors import StoreFailed
from queuelet.stores.disk.batch import Batch
from queuelet.stores.disk.database import REMEDY, damage_of
from queuelet.stores.disk.groups import Group, Groups
from queuelet.stores.disk.loading import LoadedStore
from queuelet.stores.disk.migrations import Progress
from queuelet.stores.disk.stats import CHANGE_BOUNDS, SECOND_BOUNDS, Histogram
from queuelet.stores.disk.thread import WriterThread
from queuelet.stores.disk.writer import DiskSettings, Reclaimed, Writer, Written

T = TypeVar("T")

RECLAIM_EVERY = 0.1
"""The least time between two slices of reclaiming under load, in seconds, as are all times here."""

IDLE = 0.05
"""How long after the last write free pages are returned to the file system."""

QUIET = 1.0
"""How long after the last write the log is truncated, and how often a full disk is checked for free space."""

FIRST_BACKOFF, LONGEST_BACKOFF = 0.05, 5.0
"""How long to wait before the store is reopened. The wait doubles with each failure."""

FIRST_DAMAGED_BACKOFF, LONGEST_DAMAGED_BACKOFF = 1.0, 300.0
"""The same for a damaged file: longer, because damage rarely goes away, and each attempt reads the whole file."""

STABLE = 60.0
"""How long a store must have been open for the backoff to start from its first value again."""


class CommitLoop:
    """Gives the writer thread one task at a time: a group to commit, a checkpoint, or a slice of reclaiming.

    After a failure the writer reopens the store, and commits nothing until that has succeeded. If damage was found in
    the file, reopening succeeds only once a check of the whole file finds nothing wrong.
    """

    def __init__(  # noqa: PLR0913  # the callbacks are passed by name
        self,
        folder: Path,
        settings: DiskSettings,
        loop: AbstractEventLoop,
        *,
        failed: Callable[[str], None],
        reopened: Callable[[LoadedStore], None],
        freed: Callable[[list[int]], None],
        progress: Progress,
    ) -> None:
        """Create a loop that has not opened the store yet.

        Args:
            folder: the data folder. This process holds its lock.
            settings: how the store uses the disk.
            loop: the event loop on whose thread this object is used.
            failed: called with an error text when the store has failed and is closed.
            reopened: called with what was loaded when the store is open again.
            freed: called with queue numbers that are free again, because no rows are left under them.
            progress: called with a text that describes the progress of a migration, in the thread that opens the file.
        """
        self._settings = settings
        self._loop = loop
        self._failed = failed
        self._reopened = reopened
        self._freed = freed
        self._writer = Writer(folder, settings, progress)
        self._thread: WriterThread | None = None
        self._is_busy = False
        self._is_closing = False
        self._stop_opening = Event()
        self._checkpoint_due = False
        self._reclaim_due = False
        self._timer: Handle | None = None
        self._timer_at = 0.0
        self._last_written = self._opened = 0.0
        self._backoff = 0.0
        self._damage = ""
        """A description of damage found in the file; empty if none is known."""
        self.groups = Groups(loop, self.go_on, group_bytes=settings.group_bytes)
        self.failure = ""
        """Why the store is not open; empty while it is open."""
        self.is_full = False
        self.failures = self.commits = self.file_bytes = self.free_bytes = 0
        self.changes = Histogram(CHANGE_BOUNDS)
        self.commit_seconds = Histogram(SECOND_BOUNDS)

    def open(self) -> LoadedStore:
        """Open the database in the calling thread. Raises `StoreFailed` if it cannot be used."""
        loaded = self._writer.open()
        self._thread = WriterThread(self._loop)
        self._serve()
        return loaded

    def go_on(self) -> None:
        """Give the writer thread its next task, unless it has one or the store is not open."""
        if self._is_busy or self.failure:
            return
        if self._checkpoint_due:
            self._checkpoint_due = False
            self._run(self._writer.checkpoint, self._go_on_after)
        elif self._reclaim_due:
            self._reclaim_due = False
            since = monotonic() - self._last_written if self.groups.is_idle else 0.0
            self._run(partial(self._writer.reclaim, is_idle=since >= IDLE, is_quiet=since >= QUIET), self._reclaimed)
        elif due := self.groups.take():
            self._write(*due)

    def fail(self, error: Exception) -> str:
        """Fail everything that is not known to be committed, start to reopen the store, and return the error text."""
        if not self.failure:
            self.failure = f"the store failed ({error}) and is being reopened"
            self._note_damage(error)
            self.failures += 1
            self._checkpoint_due = self._reclaim_due = False
            if self._timer:
                self._timer.cancel()
            if monotonic() - self._opened > STABLE:
                self._backoff = 0.0
            self.groups.fail(self.failure)
            self._failed(self.failure)
            self._reopen()
        return self.failure

    async def finish(self) -> None:
        """Commit what is pending and refuse more changes. Waiters whose changes cannot be committed are failed."""
        self._is_closing = True
        self._stop_opening.set()
        self.groups.end()
        group = self.groups.newest
        if group is not None and not self.failure:
            group.request()
            await group.wait()
        self.failure = self.failure or "the store is closed"
        self.groups.fail(self.failure)
        if self._timer:
            self._timer.cancel()

    async def close(self) -> None:
        """Close the database after its readers are closed, so that everything is in one file."""
        if self._thread:
            closed: Future[object] = self._loop.create_future()
            self._thread.submit(self._writer.close, closed.set_result)
            await closed
            self._thread.stop()
            self._thread = None

    def abort(self) -> None:
        """Close what `open` has opened, before it was used."""
        if self._thread:
            self._thread.stop()
        self._writer.close()

    # Inside

    def _serve(self) -> None:
        self.is_full = self._writer.is_full
        self._opened = self._last_written = monotonic()
        self._reclaim_in(RECLAIM_EVERY)

    def _run(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """Run a task in the writer thread and then start the next one. If the task raises, the store has failed."""
        self._is_busy = True

        def ended(result: T | Exception) -> None:
            self._is_busy = False
            if not self.failure:
                if isinstance(result, Exception):
                    self.fail(result)
                else:
                    self._note(done, result)
                self.go_on()

        if self._thread:
            self._thread.submit(work, ended)

    def _note(self, done: Callable[[T], None], result: T) -> None:
        """Process the result of a task. Any error in that fails the store, because waiters would hang otherwise."""
        try:
            done(result)
        except Exception as error:  # noqa: BLE001  # see the docstring
            self.fail(error)

    def _write(self, group: Group, batch: Batch) -> None:
        def work() -> Written | None:
            try:
                return self._writer.write(batch)
            except apsw.FullError:
                return None

        self._run(work, partial(self._written, group, batch))

    def _written(self, group: Group, batch: Batch, written: Written | None) -> None:
        if written is None:
            self._is_full_for(group, batch)
            return
        self._last_written = monotonic()
        self.commits += 1
        self.changes.add(batch.changes)
        self.commit_seconds.add(written.seconds)
        self.is_full = written.is_full
        self._checkpoint_due = written.log_bytes >= self._settings.log_bytes
        self._reclaim_in(RECLAIM_EVERY if batch.removed or batch.dropped_numbers else QUIET)
        self.groups.written(group)

    def _is_full_for(self, group: Group, batch: Batch) -> None:
        """Retry later to commit a group for which even the reserve had too little space."""
        self.is_full = True
        if self._is_closing:
            self.fail(StoreFailed("there is no space left on the disk"))
            return
        self._is_busy = True  # until the retry
        self._loop.call_later(QUIET, self._write_again, group, batch)

    def _write_again(self, group: Group, batch: Batch) -> None:
        if not group.is_settled:
            self._write(group, batch)

    def _reclaim_in(self, seconds: float) -> None:
        """Schedule a slice of reclaiming, unless one is due sooner."""
        now = self._loop.time()
        at = now + seconds
        if self._timer and now < self._timer_at <= at:
            return
        if self._timer:
            self._timer.cancel()
        # The due time is stored here because uvloop's handles without a delay have no `when`.
        self._timer, self._timer_at = self._loop.call_later(seconds, self._start_reclaiming), at

    def _start_reclaiming(self) -> None:
        self._timer = None
        self._reclaim_due = True
        self.go_on()

    def _reclaimed(self, reclaimed: Reclaimed) -> None:
        self.is_full = reclaimed.is_full
        self.file_bytes, self.free_bytes = reclaimed.file_bytes, reclaimed.free_bytes
        self._freed(reclaimed.freed)
        if reclaimed.has_more and self.groups.is_idle:
            self._reclaim_in(0)
        elif reclaimed.has_more:
            self._reclaim_in(RECLAIM_EVERY)
        elif reclaimed.is_full or not reclaimed.is_quiet:
            self._reclaim_in(QUIET)

    def _go_on_after(self, _: None) -> None:
        """Ignore the result of a checkpoint: the next task starts in any case."""

    def _reopen(self) -> None:
        if self._thread and not self._is_closing:
            is_damaged = bool(self._damage)
            first, longest = (
                (FIRST_DAMAGED_BACKOFF, LONGEST_DAMAGED_BACKOFF) if is_damaged else (FIRST_BACKOFF, LONGEST_BACKOFF)
            )
            seconds = min(self._backoff, longest)
            self._thread.submit(partial(self._reopen_after, seconds, is_damaged), self._reopen_ended)
            self._backoff = min(max(first, 2 * seconds), longest)

    def _reopen_after(self, seconds: float, is_damaged: bool) -> LoadedStore:  # noqa: FBT001  # bound with `partial`
        if self._stop_opening.wait(seconds):
            raise StoreFailed("the store is closing")
        return self._writer.reopen(is_damaged=is_damaged, is_cancelled=self._stop_opening.is_set)

    def _still_failed(self, error: Exception) -> None:
        """Record why the store could not be reopened. Once damage was found, that remains the reason."""
        if self._damage:
            return
        self.failure = f"the store failed and cannot be reopened: {error}"
        if self._note_damage(error):
            self._failed(self.failure)

    def _note_damage(self, error: Exception) -> bool:
        """Return whether an error reports damage in the file; if so, the failure text says how to repair it."""
        self._damage = damage_of(error)
        if self._damage:
            self.failure = f"the store is damaged ({self._damage}); stop the server, then {REMEDY}"
        return bool(self._damage)

    def _reopen_ended(self, result: LoadedStore | Exception) -> None:
        if self._is_closing:
            return
        self._is_busy = False
        if isinstance(result, Exception):
            self._still_failed(result)
            self._reopen()
            return
        self.failure = self._damage = ""
        self.groups = Groups(self._loop, self.go_on, group_bytes=self._settings.group_bytes)
        self._serve()
        self._reopened(result)
