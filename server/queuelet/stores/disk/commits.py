"""Runs the writer thread: it has `schedule.py` decide what to do next, does that, and reports the outcome back."""

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
from queuelet.stores.disk.database import REMEDY, damage_of
from queuelet.stores.disk.migrations import Progress
from queuelet.stores.disk.thread import WriterThread
from queuelet.stores.disk.writer import DiskSettings, Reclaimed, Writer, Written
from queuelet.stores.durable.batch import Batch
from queuelet.stores.durable.groups import Group, Groups
from queuelet.stores.durable.histograms import CHANGE_BOUNDS, SECOND_BOUNDS, Histogram
from queuelet.stores.durable.loaded import LoadedStore
from queuelet.stores.durable.schedule import Schedule, State

T = TypeVar("T")


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
        self._schedule = Schedule()
        self._is_closing = False
        self._stop_opening = Event()
        self._timer: Handle | None = None
        self._timer_at = 0.0
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
        self._start()
        return loaded

    def go_on(self) -> None:
        """Give the writer thread its next task, unless it has one or the store is not open."""
        match self._schedule.start_next(is_group_due=self.groups.is_due):
            case State.COMMITTING:  # first, because nearly all tasks are commits
                self._commit(*self.groups.take())
            case State.CHECKPOINTING:
                self._run(self._writer.checkpoint, self._checkpointed)
            case State.RECLAIMING:
                is_idle, is_quiet = self._schedule.idleness(monotonic(), has_pending=self.groups.has_pending)
                self._run(partial(self._writer.reclaim, is_idle=is_idle, is_quiet=is_quiet), self._reclaimed)

    def fail(self, error: Exception) -> str:
        """Fail everything that is not known to be committed, start to reopen the store, and return the error text."""
        if self._schedule.is_open:
            self.failure = f"the store failed ({error}) and is being reopened"
            self._find_damage(error)
            self.failures += 1
            seconds = self._schedule.failed(monotonic(), is_damaged=bool(self._damage))
            self._cancel_timer()
            self.groups.fail(self.failure)
            self._failed(self.failure)
            self._reopen_in(seconds)
        return self.failure

    async def finish(self) -> None:
        """Commit what is pending and refuse more changes. Waiters whose changes cannot be committed are failed."""
        self._is_closing = True
        self._stop_opening.set()
        self.groups.end()
        group = self.groups.newest
        if group is not None and self._schedule.is_open:
            group.request()
            await group.wait()
        self.failure = self.failure or "the store is closed"
        self._schedule.closed()
        self._cancel_timer()
        self.groups.fail(self.failure)

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

    # Tasks

    def _run(self, task: Callable[[], T], done: Callable[[T], None]) -> None:
        """Run a task in the writer thread, then `done` with its result, then start the next one.

        If the task or `done` raises, the store has failed: waiters would hang if an error in `done` were only logged.
        """

        def ended(result: T | Exception) -> None:
            if not self._schedule.is_open:
                return  # the store failed or was closed while the task ran
            if isinstance(result, Exception):
                self.fail(result)
            else:
                try:
                    done(result)
                except Exception as error:  # noqa: BLE001  # see the docstring
                    self.fail(error)
            self.go_on()

        if self._thread:
            self._thread.submit(task, ended)

    def _checkpointed(self, _: None) -> None:
        self._schedule.checkpointed()

    def _commit(self, group: Group, batch: Batch) -> None:
        def task() -> Written | None:
            try:
                return self._writer.write(batch)
            except apsw.FullError:
                return None

        self._run(task, partial(self._committed, group, batch))

    def _committed(self, group: Group, batch: Batch, written: Written | None) -> None:
        if written is None:
            self._block(group, batch)
            return
        seconds = self._schedule.committed(
            monotonic(),
            is_log_large=written.log_bytes >= self._settings.log_bytes,
            has_freed=bool(batch.removed or batch.dropped_numbers),
        )
        self.commits += 1
        self.changes.add(batch.changes)
        self.commit_seconds.add(written.seconds)
        self.is_full = written.is_full
        self._reclaim_in(seconds)
        self.groups.committed(group)

    def _block(self, group: Group, batch: Batch) -> None:
        """Retry later to commit a group for which even the reserve had too little space."""
        self.is_full = True
        if self._is_closing:
            self.fail(StoreFailed("there is no space left on the disk"))
        else:
            self._loop.call_later(self._schedule.blocked(), self._retry, group, batch)

    def _retry(self, group: Group, batch: Batch) -> None:
        if not group.is_settled:  # otherwise the store has failed or was closed
            self._schedule.retried()
            self._commit(group, batch)

    # Reclaiming

    def _reclaim_in(self, seconds: float) -> None:
        """Schedule a slice of reclaiming, unless one is due sooner."""
        now = self._loop.time()
        at = now + seconds
        if self._timer and now < self._timer_at <= at:
            return
        self._cancel_timer()
        # The due time is stored here because uvloop's handles without a delay have no `when`.
        self._timer, self._timer_at = self._loop.call_later(seconds, self._start_reclaiming), at

    def _start_reclaiming(self) -> None:
        self._timer = None
        self._schedule.reclaim_due()
        self.go_on()

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _reclaimed(self, reclaimed: Reclaimed) -> None:
        self.is_full = reclaimed.is_full
        self.file_bytes, self.free_bytes = reclaimed.file_bytes, reclaimed.free_bytes
        self._freed(reclaimed.freed)
        seconds = self._schedule.reclaimed(
            has_more=reclaimed.has_more,
            is_full=reclaimed.is_full,
            is_quiet=reclaimed.is_quiet,
            has_pending=self.groups.has_pending,
        )
        if seconds is not None:
            self._reclaim_in(seconds)

    # Opening, and reopening after a failure

    def _start(self) -> None:
        self.failure = self._damage = ""
        self.is_full = self._writer.is_full
        self._reclaim_in(self._schedule.opened(monotonic()))

    def _reopen_in(self, seconds: float) -> None:
        if self._thread and not self._is_closing:
            self._thread.submit(partial(self._reopen_after, seconds, bool(self._damage)), self._reopen_ended)

    def _reopen_after(self, seconds: float, is_damaged: bool) -> LoadedStore:  # noqa: FBT001  # bound with `partial`
        if self._stop_opening.wait(seconds):
            raise StoreFailed("the store is closing")
        return self._writer.reopen(is_damaged=is_damaged, is_cancelled=self._stop_opening.is_set)

    def _reopen_ended(self, result: LoadedStore | Exception) -> None:
        if self._is_closing:
            return
        if isinstance(result, Exception):
            self._still_failed(result)
            self._reopen_in(self._schedule.reopening_failed(is_damaged=bool(self._damage)))
            return
        self.groups = Groups(self._loop, self.go_on, group_bytes=self._settings.group_bytes)
        self._start()
        self._reopened(result)

    def _still_failed(self, error: Exception) -> None:
        """Record why the store could not be reopened. Once damage was found, that remains the reason."""
        if self._damage:
            return
        self.failure = f"the store failed and cannot be reopened: {error}"
        if self._find_damage(error):
            self._failed(self.failure)

    def _find_damage(self, error: Exception) -> bool:
        """Return whether an error reports damage in the file; if so, the failure text says how to repair it."""
        self._damage = damage_of(error)
        if self._damage:
            self.failure = f"the store is damaged ({self._damage}); stop the server, then {REMEDY}"
        return bool(self._damage)
