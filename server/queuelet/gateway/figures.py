"""The figures of a gateway that runs alone, for its `/metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

from prometheus_client import CollectorRegistry, Gauge, Histogram

from queuelet.web.connections import HttpConnections

_METHODS = frozenset({"GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"})


@dataclass(slots=True)
class Seen:
    """What is known of a request so far."""

    status: int = 0
    """The status of its response; 0 if the client disconnected before."""


class GatewayFigures:
    """Counts requests and connections."""

    def __init__(self, registry: CollectorRegistry, connections: HttpConnections) -> None:
        """Register the metrics."""
        self._seconds = Histogram(
            "queuelet_gateway_request_seconds", "Duration of requests.", ["method", "status"], registry=registry
        )
        self._open = Gauge("queuelet_gateway_requests", "Requests in flight.", registry=registry)
        Gauge("queuelet_gateway_connections", "Open connections.", registry=registry).set_function(
            lambda: connections.open
        )

    @contextmanager
    def request(self, method: str) -> Iterator[Seen]:
        """Count a request that is served in this context."""
        seen = Seen()
        start = perf_counter()
        self._open.inc()
        try:
            yield seen
        finally:
            self._open.dec()
            label = method if method in _METHODS else "other"
            self._seconds.labels(label, str(seen.status or 499)).observe(perf_counter() - start)
