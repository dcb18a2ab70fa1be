"""The statistics of a Disk store, for metrics."""

from __future__ import annotations

from dataclasses import dataclass

from queuelet.stores.durable.histograms import Distribution


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskStats:
    """The statistics of a Disk store. Sizes are in bytes."""

    is_open: bool
    """Whether the store is open; False while it is reopened after a failure."""
    is_full: bool
    """Whether it refuses messages because its disk is full."""
    failures: int
    """How often it failed and had to be reopened."""
    commits: int
    """The number of transactions."""
    changes: Distribution
    """The messages added or removed by each transaction."""
    commit_seconds: Distribution
    """The duration of each transaction, including its fsync."""
    file_bytes: int
    """The size of the database file."""
    free_bytes: int
    """The free pages in the database file. They are used for new messages, or returned to the file system."""
    disk_free_bytes: int
    """The free space of its file system."""
    window_bytes: int
    """The committed messages that it holds in memory."""
    damaged_found: int
    """How many damaged messages it found and set aside."""
