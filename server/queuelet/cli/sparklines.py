"""Draws how numbers changed as lines of bars, one character for each span of time. It does no I/O."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

BARS = "▁▂▃▄▅▆▇█"

SPANS = (10, 20, 30, 60, 90, 120, 240, 360, 600, 1_200, 1_800, 3_600, 7_200, 10_800)
"""The seconds that a bar may stand for: multiples of the server's steps of 10 seconds."""

FINE_SECONDS, COARSE_STEP = 3_600, 120
"""How long the server keeps its short steps, and how long the others are, in seconds."""


@dataclass(frozen=True)
class Spans:
    """Spans of the same length, the last of which ends at `end`. Times are in seconds since 1970."""

    end: float
    seconds: int
    count: int

    @property
    def start(self) -> float:
        """The start of the first span."""
        return self.end - self.seconds * self.count

    @property
    def edges(self) -> list[float]:
        """The start of each span, and the end of the last one."""
        return [self.start + self.seconds * i for i in range(self.count + 1)]


def spans_of(start: float, end: float, most: int) -> Spans:
    """Divide a period into at most `most` spans of whole steps of the server."""
    least = COARSE_STEP if end - start > FINE_SECONDS else 0
    fitting = (each for each in SPANS if each >= least and each % max(least, 1) == 0 and each * most >= end - start)
    seconds = next(fitting, SPANS[-1])
    return Spans(end, seconds, ceil((end - start) / seconds))


def first_of(times: Sequence[float], start: float) -> int:
    """Return the index of the first time that is needed for a period: the last one until its start, if there is one."""
    return max(0, bisect_right(times, start) - 1)


@dataclass(frozen=True)
class Steps:
    """A number over time: it has each value from its time on until the next one. Before the first it is not known."""

    times: Sequence[float]
    values: Sequence[int]

    def peaks(self, spans: Spans) -> list[float | None]:
        """Return the highest value in each span; None where it is not known."""
        return [max(self._within(start, end), default=None) for start, end in pairwise(spans.edges)]

    def rates(self, spans: Spans) -> list[float | None]:
        """Return how much the number grew per second in each span; None where it is not known."""
        return [self._rate(start, end) for start, end in pairwise(spans.edges)]

    def _within(self, start: float, end: float) -> Sequence[int]:
        return self.values[first_of(self.times, start) : bisect_right(self.times, end)]

    def _rate(self, start: float, end: float) -> float | None:
        within = self._within(start, end)
        if not within:
            return None
        known = end - max(start, self.times[0])
        return max(0, within[-1] - within[0]) / known if known > 0 else 0.0


def bars(values: Sequence[float | None]) -> str:
    """Return a bar for each value, as high as its share of the highest; only 0 is as low as it gets."""
    most = max((value for value in values if value is not None), default=0)
    return "".join(
        " " if value is None else BARS[ceil(value / most * (len(BARS) - 1)) if most else 0] for value in values
    )
