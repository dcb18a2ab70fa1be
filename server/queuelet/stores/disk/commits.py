"""Decides what the writer's thread does next, and what it means when that fails."""

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
from queuelet.stores.disk.groups import Group, Journal
from queuelet.stores.disk.loading import Contents
from queuelet.stores.disk.migrations import Progress
from queuelet.stores.disk.stats import CHANGE_BOUNDS, SECOND_BOUNDS, Histogram
from queuelet.stores.disk.thread import Worker
from queuelet.stores.disk.writer import DiskSettings, Tidied, Writer, Written

T = TypeVar("T")

TIDY_EVERY = 0.1
"""How often there may be a slice of tidying up while there is other work, in seconds, as are all times here."""

IDLE = 0.05
"""How long nothing must have been written until free space is given back."""

QUIET = 1.0
"""How long nothing must have been written until the log is given back, and how often a full disk is looked at."""

FIRST_BACKOFF, LONGEST_BACKOFF = 0.05, 5.0
"""How long to wait before the store is opened again: twice as long each time it fails."""

FIRST_DAMAGED_BACKOFF, LONGEST_DAMAGED_BACKOFF = 1.0, 300.0
"""The same where its file is damaged: that seldom mends by itself, and each time the whole file is read."""

STABLE = 60.0
"""How long a store must have served until its next failure counts as the first."""


class CommitLoop:
    """Gives the writer one thing to do after another: groups of the journal, checkpoints, slices of tidying up.

    After a failure the writer opens the store anew, and takes nothing from the journal until that is done. Where damage
    was met in the file, that is when nothing is wrong with it any more.
    """

    def __init__(  # noqa: PLR0913  # whom to tell of what, by name
        self,
        folder: Path,
        settings: DiskSettings,
        loop: AbstractEventLoop,
        *,
        failed: Callable[[str], None],
        reopened: Callable[[Contents], None],
        freed: Callable[[list[int]], None],
        progress: Progress,
    ) -> None:
        """Take a folder that this process holds the lock of, and what is to be told.

        Args:
            folder: where the files are.
            settings: how the disk is used.
            loop: the event loop, on whose thread this is used.
            failed: called with a sentence when the store is not open any more.
            reopened: called with what is kept when it is open again.
            freed: called with the numbers of queues under which nothing is stored any more.
            progress: called with words on how far a migration of the file is, in whatever thread opens it.
        """
        self._settings = settings
        self._loop = loop
        self._failed = failed
        self._reopened = reopened
        self._freed = freed
        self._writer = Writer(folder, settings, progress)
        self._worker: Worker | None = None
        self._is_busy = False
        self._is_closing = False
        self._stop_opening = Event()
        self._checkpoint_due = False
        self._tidy_due = False
        self._timer: Handle | None = None
        self._timer_at = 0.0
        self._last_written = self._opened = 0.0
        self._backoff = 0.0
        self._damage = ""
        """What was met of damage in the file; empty while none is known."""
        self.journal = Journal(loop, self.go_on, group_bytes=settings.group_bytes)
        self.failure = ""
        """Why the store is not open; empty while it is."""
        self.is_full = False
        self.failures = self.groups = self.file_bytes = self.free_bytes = 0
        self.changes = Histogram(CHANGE_BOUNDS)
        self.commit_seconds = Histogram(SECOND_BOUNDS)

    def open(self) -> Contents:
        """Open the database here and now. Raises `StoreFailed` where it cannot be used."""
        contents = self._writer.open()
        self._worker = Worker(self._loop)
        self._serve()
        return contents

    def go_on(self) -> None:
        """Give the writer the next thing to do, if it has none."""
        if self._is_busy or self.failure:
            return
        if self._checkpoint_due:
            self._checkpoint_due = False
            self._do(self._writer.checkpoint, self._go_on_after)
        elif self._tidy_due:
            self._tidy_due = False
            since = monotonic() - self._last_written if self.journal.is_idle else 0.0
            self._do(partial(self._writer.tidy, is_idle=since >= IDLE, is_quiet=since >= QUIET), self._tidied)
        elif due := self.journal.take():
            self._write(*due)

    def fail(self, error: Exception) -> str:
        """Give up what is not known to be kept, and have the store opened anew; return what to tell of it."""
        if not self.failure:
            self.failure = f"the store failed ({error}) and is being opened anew"
            self._note_damage(error)
            self.failures += 1
            self._checkpoint_due = self._tidy_due = False
            if self._timer:
                self._timer.cancel()
            if monotonic() - self._opened > STABLE:
                self._backoff = 0.0
            self.journal.fail(self.failure)
            self._failed(self.failure)
            self._reopen()
        return self.failure

    async def finish(self) -> None:
        """Write all that waits, and take no more. Whoever waits for what cannot be written is told that it failed."""
        self._is_closing = True
        self._stop_opening.set()
        self.journal.end()
        group = self.journal.newest
        if group is not None and not self.failure:
            group.want()
            await group.wait()
        self.failure = self.failure or "the store is closed"
        self.journal.fail(self.failure)
        if self._timer:
            self._timer.cancel()

    async def close(self) -> None:
        """Close the database once nobody reads it any more, so that all is in one file."""
        if self._worker:
            closed: Future[object] = self._loop.create_future()
            self._worker.do(self._writer.close, closed.set_result)
            await closed
            self._worker.stop()
            self._worker = None

    def give_up(self) -> None:
        """Close at once what `open` has opened, before anything was done with it."""
        if self._worker:
            self._worker.stop()
        self._writer.close()

    # Inside

    def _serve(self) -> None:
        self.is_full = self._writer.is_full
        self._opened = self._last_written = monotonic()
        self._tidy_in(TIDY_EVERY)

    def _do(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """Have the thread do some work, then go on; if it fails, the store does."""
        self._is_busy = True

        def ended(result: T | Exception) -> None:
            self._is_busy = False
            if not self.failure:
                if isinstance(result, Exception):
                    self.fail(result)
                else:
                    self._note(done, result)
                self.go_on()

        if self._worker:
            self._worker.do(work, ended)

    def _note(self, done: Callable[[T], None], result: T) -> None:
        """Take note of what was done. Whatever goes wrong in that fails the store: nobody may wait for ever."""
        try:
            done(result)
        except Exception as error:  # noqa: BLE001  # as it says
            self.fail(error)

    def _write(self, group: Group, batch: Batch) -> None:
        def work() -> Written | None:
            try:
                return self._writer.write(batch)
            except apsw.FullError:
                return None

        self._do(work, partial(self._written, group, batch))

    def _written(self, group: Group, batch: Batch, written: Written | None) -> None:
        if written is None:
            self._is_full_for(group, batch)
            return
        self._last_written = monotonic()
        self.groups += 1
        self.changes.add(batch.changes)
        self.commit_seconds.add(written.seconds)
        self.is_full = written.is_full
        self._checkpoint_due = written.log_bytes >= self._settings.log_bytes
        self._tidy_in(TIDY_EVERY if batch.removed or batch.dropped_numbers else QUIET)
        self.journal.written(group)

    def _is_full_for(self, group: Group, batch: Batch) -> None:
        """Try again later to write what there was no room for, not even in the reserve: somebody took that too."""
        self.is_full = True
        if self._is_closing:
            self.fail(StoreFailed("there is no room on the disk"))
            return
        self._is_busy = True  # with nothing, until it is tried again
        self._loop.call_later(QUIET, self._write_again, group, batch)

    def _write_again(self, group: Group, batch: Batch) -> None:
        if not group.is_settled:
            self._write(group, batch)

    def _tidy_in(self, seconds: float) -> None:
        """Have a slice of tidying up done after a while, unless one is to be done sooner."""
        now = self._loop.time()
        at = now + seconds
        if self._timer and now < self._timer_at <= at:
            return
        if self._timer:
            self._timer.cancel()
        # When it is due is kept here: uvloop's handles for what is due at once do not tell.
        self._timer, self._timer_at = self._loop.call_later(seconds, self._tidy), at

    def _tidy(self) -> None:
        self._timer = None
        self._tidy_due = True
        self.go_on()

    def _tidied(self, tidied: Tidied) -> None:
        self.is_full = tidied.is_full
        self.file_bytes, self.free_bytes = tidied.file_bytes, tidied.free_bytes
        self._freed(tidied.freed)
        if tidied.has_more and self.journal.is_idle:
            self._tidy_in(0)
        elif tidied.has_more:
            self._tidy_in(TIDY_EVERY)
        elif tidied.is_full or not tidied.is_quiet:
            self._tidy_in(QUIET)

    def _go_on_after(self, _: None) -> None:
        """Nothing is to be done after this but to go on."""

    def _reopen(self) -> None:
        if self._worker and not self._is_closing:
            is_damaged = bool(self._damage)
            first, longest = (
                (FIRST_DAMAGED_BACKOFF, LONGEST_DAMAGED_BACKOFF) if is_damaged else (FIRST_BACKOFF, LONGEST_BACKOFF)
            )
            seconds = min(self._backoff, longest)
            self._worker.do(partial(self._reopen_after, seconds, is_damaged), self._reopen_ended)
            self._backoff = min(max(first, 2 * seconds), longest)

    def _reopen_after(self, seconds: float, is_damaged: bool) -> Contents:  # noqa: FBT001  # it is given to a thread
        if self._stop_opening.wait(seconds):
            raise StoreFailed("the store is closing")
        return self._writer.reopen(is_damaged=is_damaged, is_cancelled=self._stop_opening.is_set)

    def _still_failed(self, error: Exception) -> None:
        """Note why it could not be opened anew. Once damage was met, that stays the reason."""
        if self._damage:
            return
        self.failure = f"the store failed and cannot be opened anew: {error}"
        if self._note_damage(error):
            self._failed(self.failure)

    def _note_damage(self, error: Exception) -> bool:
        """Have the failure say so if an error tells of damage; tell whether it does."""
        self._damage = damage_of(error)
        if self._damage:
            self.failure = f"the store is damaged ({self._damage}): stop the server, then {REMEDY}"
        return bool(self._damage)

    def _reopen_ended(self, result: Contents | Exception) -> None:
        if self._is_closing:
            return
        self._is_busy = False
        if isinstance(result, Exception):
            self._still_failed(result)
            self._reopen()
            return
        self.failure = self._damage = ""
        self.journal = Journal(self._loop, self.go_on, group_bytes=self._settings.group_bytes)
        self._serve()
        self._reopened(result)
