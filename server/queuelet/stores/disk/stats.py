"""What a store counts of itself, for metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

CHANGE_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
"""Upper bounds of the buckets for messages added or removed in one transaction."""

SECOND_BOUNDS = (0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Upper bounds of the buckets for the time that one transaction took, in seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """A histogram as it was at one moment."""

    bounds: Sequence[float]
    """Upper bounds of all buckets but the last, which has none."""
    buckets: Sequence[int]
    """How many fell into each bucket, not cumulated."""
    total: float
    """The sum of all values."""


class Histogram:
    """Counts values in buckets."""

    __slots__ = ("_bounds", "_buckets", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Take the upper bounds, in order."""
        self._bounds = bounds
        self._buckets = [0] * (len(bounds) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._buckets[bisect_left(self._bounds, value)] += 1
        self._total += value

    def read(self) -> Distribution:
        """Return it as it is now."""
        return Distribution(bounds=self._bounds, buckets=tuple(self._buckets), total=self._total)


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskFigures:
    """What a Disk store tells of itself. Sizes are in bytes."""

    is_open: bool
    """Whether it serves; not while it is opened anew after a failure."""
    is_full: bool
    """Whether it refuses messages because its disk is full."""
    failures: int
    """How often it had to be opened anew."""
    groups: int
    """Transactions written."""
    changes: Distribution
    """Messages added or removed in each."""
    commit_seconds: Distribution
    """How long each took, its wait for the disk included."""
    file_bytes: int
    """The size of the database file."""
    free_bytes: int
    """How much of that is free for new messages, and will be given back to the disk if it is much."""
    disk_free_bytes: int
    """How much room its disk has."""
    window_bytes: int
    """What it holds of committed messages in memory, to be taken next."""
    damaged_found: int
    """How many messages it found damaged and set aside."""
