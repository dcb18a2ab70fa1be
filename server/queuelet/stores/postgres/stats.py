"""The statistics of a PostgreSQL store, for metrics."""

from __future__ import annotations

from dataclasses import dataclass

from queuelet.stores.durable.histograms import Distribution


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
