"""Metrics of the files with certificates and tokens, for the server and for the operator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from queuelet.certificates import FileFigures


class CredentialMetrics(Collector):
    """Metrics of the files with certificates and tokens."""

    def __init__(self, figures: Callable[[], Iterable[FileFigures]], prefix: str = "queuelet") -> None:
        self._figures = figures
        self._prefix = prefix

    def collect(self) -> Iterator[Metric]:
        """Return the metric families."""
        labels = ["role", "file"]
        expiry = GaugeMetricFamily(
            f"{self._prefix}_certificate_expiry_timestamp_seconds",
            "When the certificate in use expires, in seconds since 1970.",
            labels=labels,
        )
        stale = GaugeMetricFamily(
            f"{self._prefix}_credentials_stale",
            "1 while a file's present content cannot be used and its last good content stays in use.",
            labels=labels,
        )
        for each in self._figures():
            stale.add_metric([each.role, each.file], float(each.is_stale))
            if each.expires_at is not None:
                expiry.add_metric([each.role, each.file], each.expires_at)
        yield expiry
        yield stale
