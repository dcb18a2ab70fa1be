"""Histograms of a durable store's transactions, for metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

CHANGE_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
"""Upper bounds of the buckets for the messages added or removed by one transaction."""

SECOND_BOUNDS = (0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Upper bounds of the buckets for the duration of one transaction, in seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """A snapshot of a histogram."""

    bounds: Sequence[float]
    """Upper bounds of all buckets except the last, which is unbounded."""
    buckets: Sequence[int]
    """The number of values in each bucket, not cumulative."""
    total: float
    """The sum of all values."""


class Histogram:
    """Counts values in buckets with the given upper bounds, which must be sorted."""

    __slots__ = ("_bounds", "_buckets", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._buckets = [0] * (len(bounds) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._buckets[bisect_left(self._bounds, value)] += 1
        self._total += value

    def read(self) -> Distribution:
        """Return a snapshot."""
        return Distribution(bounds=self._bounds, buckets=tuple(self._buckets), total=self._total)
