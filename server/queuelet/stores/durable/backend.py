"""What the commit loop needs of a database: tasks that run one at a time beside the event loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from queuelet.stores.durable.batch import Batch
from queuelet.stores.durable.loaded import LoadedStore

T = TypeVar("T")

Done = Callable[[T | Exception], None]
"""Called on the event loop's thread with what a task returned or raised."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """The outcome of a transaction that is durable."""

    seconds: float
    is_full: bool
    """Whether the store counts as full."""
    is_log_large: bool
    """Whether the write-ahead log is large enough for a checkpoint."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reclaimed:
    """The outcome of a slice of reclaiming."""

    is_full: bool
    """Whether the store counts as full."""
    has_more: bool
    """Whether there is more to reclaim."""
    is_quiet: bool
    """Whether there was no commit for a time, so that the log could be truncated."""
    freed: list[int]
    """Queue numbers under which no rows are left."""
    file_bytes: int
    free_bytes: int


class Backend(Protocol):
    """A database. Each method starts a task and returns; the loop starts the next task once `done` was called."""

    @property
    def is_full(self) -> bool:
        """Whether the database has no space for more messages, as far as the last task knows."""

    def write(self, batch: Batch, done: Done[Written | None]) -> None:
        """Commit a batch in one transaction. The result is None if there is no space even for removals."""

    def checkpoint(self, done: Done[None]) -> None:
        """Copy the write-ahead log into the database, because it is large."""

    def reclaim(self, done: Done[Reclaimed], *, is_idle: bool, is_quiet: bool) -> None:
        """Do a slice of background work, such as deleting the rows of dropped queues.

        Args:
            done: called with the outcome.
            is_idle: whether there was no commit in the last `IDLE` seconds.
            is_quiet: whether there was no commit in the last `QUIET` seconds.
        """

    def reopen(self, done: Done[LoadedStore], *, after: float, is_damaged: bool) -> None:
        """Open the database, or open it again after a failure, in `after` seconds.

        If damage was found in it, check all of it first, and open it only if nothing is wrong.
        """

    def stop_opening(self) -> None:
        """Cancel a `reopen` that waits or runs, because the store is being closed."""

    def close(self, done: Done[None]) -> None:
        """Close the database after the last task."""

    def damage_of(self, error: Exception) -> str:
        """Return a sentence about the damage that an error reports and its remedy; empty if it reports none."""
