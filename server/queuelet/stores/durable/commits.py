"""Gives the backend its tasks: `schedule.py` decides what to do next, and gets the outcome."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, Handle
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TypeVar

from queuelet.errors import StoreFailed
from queuelet.stores.durable.backend import Backend, Done, Reclaimed, Written
from queuelet.stores.durable.batch import Batch
from queuelet.stores.durable.groups import Group, Groups
from queuelet.stores.durable.histograms import CHANGE_BOUNDS, SECOND_BOUNDS, Histogram
from queuelet.stores.durable.loaded import LoadedStore
from queuelet.stores.durable.schedule import Schedule, State

T = TypeVar("T")


def _ignore() -> None:
    pass


class CommitLoop:
    """Gives the backend one task at a time: a group to commit, a checkpoint, or a slice of reclaiming.

    After a failure the backend reopens the store, and commits nothing until that has succeeded. If damage was found,
    reopening succeeds only once a check of everything finds nothing wrong.
    """

    def __init__(  # noqa: PLR0913  # the callbacks are passed by name
        self,
        backend: Backend,
        loop: AbstractEventLoop,
        *,
        group_bytes: int,
        failed: Callable[[str], None],
        reopened: Callable[[LoadedStore], None],
        freed: Callable[[list[int]], None],
    ) -> None:
        """Create a loop whose store is not open yet.

        Args:
            backend: the database.
            loop: the event loop on whose thread this object is used.
            group_bytes: about how many bytes of messages one transaction has.
            failed: called with an error text when the store has failed and is closed.
            reopened: called with what was loaded when the store is open again.
            freed: called with queue numbers that are free again, because no rows are left under them.
        """
        self._backend = backend
        self._loop = loop
        self._group_bytes = group_bytes
        self._failed = failed
        self._reopened = reopened
        self._freed = freed
        self._schedule = Schedule()
        self._is_closing = False
        self._timer: Handle | None = None
        self._timer_at = 0.0
        self._damage = ""
        """A sentence about damage that was found; empty if none is known."""
        self._attempted: Callable[[], None] = _ignore
        self.groups = Groups(loop, self.go_on, group_bytes=group_bytes)
        self.failure = ""
        """Why the store is not open; empty while it is open."""
        self.is_full = False
        self.failures = self.commits = self.file_bytes = self.free_bytes = 0
        self.changes = Histogram(CHANGE_BOUNDS)
        self.commit_seconds = Histogram(SECOND_BOUNDS)

    def start(self) -> None:
        """Start to commit: the store is open."""
        self.failure = self._damage = ""
        self.is_full = self._backend.is_full
        self._reclaim_in(self._schedule.opened(monotonic()))

    def begin(self, why: str, attempted: Callable[[], None]) -> None:
        """Have the backend open the store for the first time, as after a failure.

        Args:
            why: why the store is not open until then, as a text for users.
            attempted: called after each attempt that has failed.
        """
        self.failure = why
        self._attempted = attempted
        self._schedule.failed(monotonic(), is_damaged=False)
        self.groups.fail(why)
        self._reopen_in(0.0)

    def go_on(self) -> None:
        """Give the backend its next task, unless it has one or the store is not open."""
        match self._schedule.start_next(is_group_due=self.groups.is_due):
            case State.COMMITTING:  # first, because nearly all tasks are commits
                self._commit(*self.groups.take())
            case State.CHECKPOINTING:
                self._backend.checkpoint(self._then(self._checkpointed))
            case State.RECLAIMING:
                is_idle, is_quiet = self._schedule.idleness(monotonic(), has_pending=self.groups.has_pending)
                self._backend.reclaim(self._then(self._reclaimed), is_idle=is_idle, is_quiet=is_quiet)

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
        self._backend.stop_opening()
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
        """Close the database after its readers are closed."""
        closed: Future[object] = self._loop.create_future()
        self._backend.close(closed.set_result)
        await closed

    # Tasks

    def _then(self, done: Callable[[T], None]) -> Done[T]:
        """Return the function to call when a task has ended: it calls `done` with its result and starts the next task.

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

        return ended

    def _checkpointed(self, _: None) -> None:
        self._schedule.checkpointed()

    def _commit(self, group: Group, batch: Batch) -> None:
        self._backend.write(batch, self._then(partial(self._committed, group, batch)))

    def _committed(self, group: Group, batch: Batch, written: Written | None) -> None:
        if written is None:
            self._block(group, batch)
            return
        seconds = self._schedule.committed(
            monotonic(),
            is_log_large=written.is_log_large,
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

    # Reopening after a failure

    def _reopen_in(self, seconds: float) -> None:
        if not self._is_closing:
            self._backend.reopen(self._reopen_ended, after=seconds, is_damaged=bool(self._damage))

    def _reopen_ended(self, result: LoadedStore | Exception) -> None:
        if self._is_closing:
            return
        if isinstance(result, Exception):
            self._still_failed(result)
            self._attempted()
            self._reopen_in(self._schedule.reopening_failed(is_damaged=bool(self._damage)))
            return
        self.groups = Groups(self._loop, self.go_on, group_bytes=self._group_bytes)
        self.start()
        self._reopened(result)

    def _still_failed(self, error: Exception) -> None:
        """Record why the store could not be reopened. Once damage was found, that remains the reason."""
        if self._damage:
            return
        self.failure = f"the store failed and cannot be reopened: {error}"
        if self._find_damage(error):
            self._failed(self.failure)

    def _find_damage(self, error: Exception) -> bool:
        """Return whether an error reports damage; if so, the failure text says how to repair it."""
        self._damage = self._backend.damage_of(error)
        if self._damage:
            self.failure = self._damage
        return bool(self._damage)
