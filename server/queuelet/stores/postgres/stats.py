"""The statistics of a PostgreSQL store, for metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from queuelet.stores.durable.histograms import CHANGE_BOUNDS, SECOND_BOUNDS, Distribution, Histogram


@dataclass(frozen=True, kw_only=True, slots=True)
class PostgresStats:
    """The statistics of a PostgreSQL store. Sizes are in bytes."""

    is_open: bool
    """Whether this server owns the queues; False while it connects, or waits for the lease of another owner."""
    is_replicated: bool
    """Whether commits wait for a standby."""
    is_full: bool
    """Whether it refuses messages because the disk of the database is full."""
    failures: int
    """How often it failed and had to connect again."""
    commits: int
    """The number of transactions."""
    changes: Distribution
    """The messages added or removed by each transaction."""
    commit_seconds: Distribution
    """The duration of each transaction, including the wait for a standby."""
    dead_rows: int
    """Removed messages whose space could not be used again after the last VACUUM."""
    table_bytes: int
    """The size of the table of messages with its indexes, after the last VACUUM."""
    window_bytes: int
    """The committed messages that it holds in memory, apart from those that were read for single calls."""
    damaged_found: int
    """How many damaged messages it found and set aside."""

    def with_state(self, *, is_open: bool, is_replicated: bool) -> PostgresStats:
        """Return these statistics with another state."""
        return replace(self, is_open=is_open, is_replicated=is_replicated)


NONE = PostgresStats(
    is_open=False,
    is_replicated=False,
    is_full=False,
    failures=0,
    commits=0,
    changes=Histogram(CHANGE_BOUNDS).read(),
    commit_seconds=Histogram(SECOND_BOUNDS).read(),
    dead_rows=0,
    table_bytes=0,
    window_bytes=0,
    damaged_found=0,
)
"""The statistics of no store."""


def together(stats: Sequence[PostgresStats]) -> PostgresStats:
    """Return the statistics of several stores in the same tables, as those of one."""
    if not stats:
        return NONE
    return PostgresStats(
        is_open=all(each.is_open for each in stats),
        is_replicated=all(each.is_replicated for each in stats),
        is_full=any(each.is_full for each in stats),
        failures=sum(each.failures for each in stats),
        commits=sum(each.commits for each in stats),
        changes=_sum([each.changes for each in stats]),
        commit_seconds=_sum([each.commit_seconds for each in stats]),
        dead_rows=max(each.dead_rows for each in stats),
        table_bytes=max(each.table_bytes for each in stats),
        window_bytes=sum(each.window_bytes for each in stats),
        damaged_found=sum(each.damaged_found for each in stats),
    )


def with_past(present: PostgresStats, past: PostgresStats) -> PostgresStats:
    """Return the present statistics, with what stores have counted that are closed now."""
    return replace(
        present,
        failures=present.failures + past.failures,
        commits=present.commits + past.commits,
        changes=_sum([present.changes, past.changes]),
        commit_seconds=_sum([present.commit_seconds, past.commit_seconds]),
        damaged_found=present.damaged_found + past.damaged_found,
    )


def _sum(distributions: Sequence[Distribution]) -> Distribution:
    return Distribution(
        bounds=distributions[0].bounds,
        buckets=tuple(map(sum, zip(*(each.buckets for each in distributions), strict=True))),
        total=sum(each.total for each in distributions),
    )
