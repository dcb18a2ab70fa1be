"""What the operator counts of its own work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.registry import CollectorRegistry


class Metrics:
    """The operator's metrics, in a registry of their own. What they mean stands in docs/operator.md."""

    def __init__(self) -> None:
        # When each counter began is of no use to anybody, and doubles them. It can only be switched off for all.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types
        self.registry = CollectorRegistry()
        self.steps = Histogram(
            "queuelet_operator_step_seconds",
            "Time that a step for a Queue took: a write, or a call to the server.",
            ["step", "result"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self.to_ready = Histogram(
            "queuelet_operator_ready_seconds",
            "Time from seeing a new Queue to its status Ready.",
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
            registry=self.registry,
        )
        self.waiting = Gauge(
            "queuelet_operator_work_queue_length",
            "Queues that wait to be looked at, by urgency.",
            ["priority"],
            registry=self.registry,
        )
        self.oldest = Gauge(
            "queuelet_operator_work_queue_oldest_seconds",
            "How long the Queue that waits longest to be looked at has waited.",
            registry=self.registry,
        )
        self.api_requests = Counter(
            "queuelet_operator_api_requests_total",
            "Requests to the API server, by verb and by the code of the answer; code 0 is no answer.",
            ["verb", "code"],
            registry=self.registry,
        )
        self.declarations = Counter(
            "queuelet_operator_declarations_total",
            "Queues declared at the server, by cause; edited, deleted and state_lost are repairs.",
            ["cause"],
            registry=self.registry,
        )
        self.removals = Counter(
            "queuelet_operator_removals_total",
            "Queues removed from the server, by what became of it.",
            ["result"],
            registry=self.registry,
        )
        self.left = Counter(
            "queuelet_operator_queues_left_total",
            "Queues left in the server by a deletion that could not wait.",
            registry=self.registry,
        )
        self.server_connected = Gauge(
            "queuelet_operator_server_connected",
            "1 while the operator is connected to the server and knows its queues.",
            registry=self.registry,
        )
        self.store_problems = Gauge(
            "queuelet_operator_store_problem",
            "1 while a store of the server is full or has failed.",
            ["store", "reason"],
            registry=self.registry,
        )
        self.objects = Gauge(
            "queuelet_operator_queues",
            "Queues by the status and reason of their condition Ready.",
            ["ready", "reason"],
            registry=self.registry,
        )
        self.orphans = Gauge(
            "queuelet_operator_orphans",
            "Queues in the server that this instance owns and no Queue names.",
            registry=self.registry,
        )
        self.events_dropped = Counter(
            "queuelet_operator_events_dropped_total",
            "Kubernetes Events that were not posted: too many in the namespace, too many in all, or refused.",
            ["reason"],
            registry=self.registry,
        )
        self.class_conflict = Gauge(
            "queuelet_operator_class_conflict",
            "1 while another installation serves the queue class, so that this one does not act.",
            registry=self.registry,
        )
        self.credentials_stale = Gauge(
            "queuelet_operator_credentials_stale",
            "1 while a file cannot be used as it is now, so that its last good content stays in use.",
            ["file"],
            registry=self.registry,
        )
        self.leads = Gauge(
            "queuelet_operator_leader",
            "1 while this operator is the one that acts.",
            registry=self.registry,
        )

    def watch_files(self, problems: Callable[[], Mapping[Path, str]]) -> None:
        """Look at files with credentials whenever metrics are read.

        Args:
            problems: returns why each file cannot be used as it is now, empty if it can. The files stay the same.
        """

        def is_stale(file: Path) -> float:
            return float(bool(problems()[file]))

        for file in problems():
            self.credentials_stale.labels(str(file)).set_function(partial(is_stale, file))
