"""Decides what the writer thread does next: the states of a store, and all transitions between them.

    state          event                        then           the writer thread
    -------------  ---------------------------  -------------  --------------------------------------
    CLOSED         the database was opened      IDLE
    IDLE           the log is large             CHECKPOINTING  copies the log into the database
                   the reclaim timer fires      RECLAIMING     deletes rows, vacuums, truncates the log
                   a group is due               COMMITTING     commits the group
    CHECKPOINTING  done                         IDLE
    RECLAIMING     done                         IDLE
    COMMITTING     committed                    IDLE
                   the disk is full             BLOCKED        is free for `QUIET` seconds
    BLOCKED        the retry timer fires        COMMITTING     commits the same group again
    any of these   a task or a read fails       FAILED         waits for the backoff, then reopens
    FAILED         the database was reopened    IDLE
                   reopening fails              FAILED         waits longer, then reopens
    any            the store is closed          CLOSED

Only one task runs at a time. If several are due in IDLE, the first one in the table starts: checkpoints and reclaiming
come before commits because they are short and rare, and under load there is always a group that is due. While the store
is being closed, a full disk is a failure, and a failed store is not reopened; `commits.py` sees to both.

Nothing here does I/O or reads a clock: `now` is in seconds of a monotonic clock, as are all durations.
"""

from __future__ import annotations

from enum import Enum, auto

from queuelet.backoff import next_backoff

RECLAIM_EVERY = 0.1
"""The least time between two slices of reclaiming under load, in seconds, as are all times here."""

IDLE = 0.05
"""How long after the last commit free pages are returned to the file system."""

QUIET = 1.0
"""How long after the last commit the log is truncated, and how often a full disk is checked for free space."""

FIRST_BACKOFF, MAX_BACKOFF = 0.05, 5.0
"""How long to wait before the store is reopened. The first attempt does not wait, and then the wait doubles.

It has no jitter, because no other process opens the file.
"""

FIRST_DAMAGED_BACKOFF, MAX_DAMAGED_BACKOFF = 1.0, 300.0
"""The same for a damaged file: longer, because damage rarely goes away, and each attempt reads the whole file."""

STABLE = 60.0
"""How long a store must have been open for the next failure to be retried without a wait again."""


class State(Enum):
    """What the writer thread is doing. The table above has all transitions."""

    CLOSED = auto()
    IDLE = auto()
    CHECKPOINTING = auto()
    RECLAIMING = auto()
    COMMITTING = auto()
    BLOCKED = auto()
    FAILED = auto()


class Schedule:
    """The state of the writer thread, and which tasks are due."""

    def __init__(self) -> None:
        self.state = State.CLOSED
        self.is_open = False
        """Whether the store serves: in all states except CLOSED and FAILED."""
        self._is_checkpoint_due = self._is_reclaim_due = False
        self._opened_at = self._committed_at = 0.0
        self._backoff = 0.0

    # The database is opened and closed

    def opened(self, now: float) -> float:
        """Record that the database was opened or reopened; return in how many seconds reclaiming is due."""
        self.state, self.is_open = State.IDLE, True
        self._is_checkpoint_due = self._is_reclaim_due = False
        self._opened_at = self._committed_at = now
        return RECLAIM_EVERY

    def failed(self, now: float, *, is_damaged: bool) -> float:
        """Record that a task or a read has failed; return in how many seconds to reopen the database."""
        self.state, self.is_open = State.FAILED, False
        if now - self._opened_at > STABLE:
            self._backoff = 0.0
        return self.reopening_failed(is_damaged=is_damaged)

    def reopening_failed(self, *, is_damaged: bool) -> float:
        """Record that reopening has failed; return in how many seconds to try again."""
        first, longest = (FIRST_DAMAGED_BACKOFF, MAX_DAMAGED_BACKOFF) if is_damaged else (FIRST_BACKOFF, MAX_BACKOFF)
        seconds = min(self._backoff, longest)
        self._backoff = next_backoff(seconds, first, longest)
        return seconds

    def closed(self) -> None:
        """Record that the store is closed."""
        self.state, self.is_open = State.CLOSED, False

    # Tasks

    def reclaim_due(self) -> None:
        """Record that the reclaim timer has fired."""
        self._is_reclaim_due = True

    def start_next(self, *, is_group_due: bool) -> State | None:
        """Start the next task, and return the state that names it; None if a task runs or none is due."""
        if self.state is not State.IDLE:
            return None
        if self._is_checkpoint_due:
            self._is_checkpoint_due = False
            self.state = State.CHECKPOINTING
        elif self._is_reclaim_due:
            self._is_reclaim_due = False
            self.state = State.RECLAIMING
        elif is_group_due:
            self.state = State.COMMITTING
        else:
            return None
        return self.state

    def checkpointed(self) -> None:
        """Record that a checkpoint is done."""
        self.state = State.IDLE

    def committed(self, now: float, *, is_log_large: bool, has_freed: bool) -> float:
        """Record that a group is committed; return in how many seconds reclaiming is due.

        Args:
            now: the time.
            is_log_large: whether the log is large enough for a checkpoint.
            has_freed: whether the commit has deleted rows, so that there is space to reclaim.
        """
        self.state = State.IDLE
        self._committed_at = now
        self._is_checkpoint_due = is_log_large
        return RECLAIM_EVERY if has_freed else QUIET

    def blocked(self) -> float:
        """Record that the disk is too full to commit a group; return in how many seconds to retry."""
        self.state = State.BLOCKED
        return QUIET

    def retried(self) -> None:
        """Record that the blocked group is being committed again."""
        self.state = State.COMMITTING

    def idleness(self, now: float, *, has_pending: bool) -> tuple[bool, bool]:
        """Return whether the last commit is `IDLE` and `QUIET` seconds ago; neither if there are pending changes."""
        seconds = 0.0 if has_pending else now - self._committed_at
        return seconds >= IDLE, seconds >= QUIET

    def reclaimed(self, *, has_more: bool, is_full: bool, is_quiet: bool, has_pending: bool) -> float | None:
        """Record that a slice of reclaiming is done; return in how many seconds the next one is due, None if none is.

        Args:
            has_more: whether there is more to reclaim.
            is_full: whether the disk is full, so that it must be checked for free space.
            is_quiet: whether it was a quiet time, so that the log was truncated and only a commit makes reclaiming due.
            has_pending: whether there are changes to commit, which then come before the next slice.
        """
        self.state = State.IDLE
        if has_more:
            return RECLAIM_EVERY if has_pending else 0.0
        return QUIET if is_full or not is_quiet else None
