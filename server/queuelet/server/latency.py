"""Counters and histograms of call latency."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    HistogramMetricFamily,
    Metric,
)

BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the latency buckets, in seconds: a usual call takes half a millisecond, a long poll many seconds."""


class MethodLatency:
    """The latencies and status codes of one method's calls."""

    __slots__ = ("buckets", "method", "refused", "seconds", "service")

    def __init__(self, service: str, method: str) -> None:
        self.service = service
        self.method = method
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0
        self.refused: dict[str, int] = {}

    def observe(self, seconds: float) -> None:
        """Count a call that ended OK."""
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds

    def observe_refused(self, seconds: float, code: str) -> None:
        """Count a call that ended with a status code other than OK."""
        self.observe(seconds)
        self.refused[code] = self.refused.get(code, 0) + 1


class Latencies:
    """The latencies and status codes of all calls, by service and method."""

    def __init__(self) -> None:
        self._all: dict[tuple[str, str], MethodLatency] = {}

    def of(self, service: str, method: str) -> MethodLatency:
        """Return the counters of a method, made on first use."""
        return self._all.setdefault((service, method), MethodLatency(service, method))

    def collect(self) -> Iterator[Metric]:
        """Return the metric families."""
        duration = HistogramMetricFamily(
            "queuelet_rpc_duration_seconds", "Latency of calls, waiting included.", labels=["service", "method"]
        )
        calls = CounterMetricFamily("queuelet_rpc_calls", "Calls by status code.", labels=["service", "method", "code"])
        bounds = [*map(str, BUCKETS), "+Inf"]
        for latency in self._all.values():
            if not any(latency.buckets):
                continue
            buckets = list(zip(bounds, map(float, accumulate(latency.buckets)), strict=True))
            duration.add_metric([latency.service, latency.method], buckets, latency.seconds)
            ends = {"OK": sum(latency.buckets) - sum(latency.refused.values()), **latency.refused}
            for code, count in ends.items():
                calls.add_metric([latency.service, latency.method, code], count)
        yield duration
        yield calls
