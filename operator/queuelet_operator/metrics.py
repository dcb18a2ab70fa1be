"""The operator's Prometheus metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.registry import CollectorRegistry

from queuelet.certificates import FileFigures
from queuelet.web.credential_metrics import CredentialMetrics


class Metrics:
    """The operator's metrics, in a registry of their own. docs/operator.md describes them."""

    def __init__(self) -> None:
        # Metrics with creation times would double the number of series. They can only be disabled for all counters.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types
        self.registry = CollectorRegistry()
        self._counter = partial(Counter, registry=self.registry)
        self._gauge = partial(Gauge, registry=self.registry)
        self._histogram = partial(Histogram, registry=self.registry)
        self._add_work()
        self._add_server()
        self._add_objects()
        self._add_process()

    def _add_work(self) -> None:
        """Add the metrics of the workers, of the queue of their work, and of their requests."""
        self.steps = self._histogram(
            "queuelet_operator_step_seconds",
            "Duration of the steps for Queues: writes, and calls to the server.",
            ["step", "result"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self.to_ready = self._histogram(
            "queuelet_operator_ready_seconds",
            "Time from the first event about a new Queue until its status was Ready.",
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
        )
        self.waiting = self._gauge(
            "queuelet_operator_work_queue_length", "Queues that wait to be reconciled, by priority.", ["priority"]
        )
        self.oldest = self._gauge(
            "queuelet_operator_work_queue_oldest_seconds",
            "How long the oldest waiting Queue has waited to be reconciled.",
        )
        self.api_requests = self._counter(
            "queuelet_operator_api_requests_total",
            "Requests to the API server by verb and status code; code 0 means no response.",
            ["verb", "code"],
        )

    def _add_server(self) -> None:
        """Add the metrics of the server and of what was done there."""
        self.declarations = self._counter(
            "queuelet_operator_declarations_total",
            "Declarations of queues on the server by cause; edited, deleted and state_lost are repairs.",
            ["cause"],
        )
        self.removals = self._counter(
            "queuelet_operator_removals_total", "Removals of queues from the server by result.", ["result"]
        )
        self.left = self._counter(
            "queuelet_operator_queues_left_total",
            "Queues that a deletion left on the server because it could not wait.",
        )
        self.server_connected = self._gauge(
            "queuelet_operator_server_connected",
            "1 while the operator is connected to the server and knows its queues.",
        )
        self.store_problems = self._gauge(
            "queuelet_operator_store_problem",
            "1 while a store of the server is full or failed.",
            ["store", "reason"],
        )

    def _add_objects(self) -> None:
        """Add the metrics of the objects and of the Events about them."""
        self.objects = self._gauge(
            "queuelet_operator_queues",
            "Queue objects by status and reason of their condition Ready.",
            ["ready", "reason"],
        )
        self.orphans = self._gauge(
            "queuelet_operator_orphans",
            "Queues on the server that this instance owns and that have no Queue object.",
        )
        self.events_dropped = self._counter(
            "queuelet_operator_events_dropped_total",
            "Kubernetes Events that were not posted, by reason: namespace_limit, backlog or refused.",
            ["reason"],
        )

    def _add_process(self) -> None:
        """Add the metrics of this operator among others."""
        self.class_conflict = self._gauge(
            "queuelet_operator_class_conflict",
            "1 while another installation serves the queue class, so that this one does not act.",
        )
        self.leads = self._gauge("queuelet_operator_leader", "1 while this operator is the leader.")

    def watch_files(self, figures: Callable[[], Iterable[FileFigures]]) -> None:
        """Report files with credentials and the expiry of certificates.

        Args:
            figures: returns the figures of each file. It is called whenever the metrics are read.
        """
        self.registry.register(CredentialMetrics(figures, prefix="queuelet_operator"))
