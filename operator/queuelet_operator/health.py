"""Health of the operator: `/healthz` checks that the work makes progress, not only that the process responds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from time import monotonic

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from queuelet.fairness import TimeSlice
from queuelet.web.connections import HttpConnections
from queuelet.web.port import HttpPort
from queuelet_operator.controller import Controller
from queuelet_operator.kubernetes_api import ApiError, KubernetesApi
from queuelet_operator.metrics import Metrics
from queuelet_operator.watch import RESTART_EVERY

log = structlog.get_logger()

STUCK_AFTER = 120.0
"""Seconds after which work that waits without any progress is a failure. A step takes 30 at most."""

MAX_RECONCILE_SECONDS = 600.0
"""Seconds that reconciling one Queue may take: more than twice the time of eight steps of 30."""

WATCH_IS_OLD_AFTER = RESTART_EVERY + 130.0
"""Seconds after which a watch must have restarted, which it normally does every five minutes."""

COUNT_EVERY = 60.0
"""Seconds between two comparisons of the number of Queues with the number that the watch reported."""

COUNTS_MAY_DIFFER = 3
"""Comparisons in a row that must differ to be a failure, because Queues change between a list and a watch."""


@dataclass(slots=True)
class Health:
    """The facts that `/healthz` and `/readyz` report."""

    controller: Controller | None = None
    """The running controller; None while this operator is a standby."""

    is_ready: bool = False
    waits_for: str = ""
    """What keeps this operator from becoming ready, as a sentence; empty if nothing does."""

    problems: Callable[[], Iterable[str]] = tuple
    """Returns problems that `/readyz` reports although the operator is ready, one sentence each."""

    _watches: dict[str, float] = field(default_factory=dict)
    """The path of each watch, and when it last began, in seconds by `monotonic`."""
    _differences: int = 0
    _asked_first: float | None = None
    """When the health of this leader was first requested, in seconds by `monotonic`."""

    def watch_began(self, path: str) -> None:
        """Record the start of a watch."""
        self._watches[path] = monotonic()

    def count_compared(self, *, differs: bool) -> None:
        """Record a comparison of the number of Queues with the number that the watch reported."""
        self._differences = self._differences + 1 if differs else 0

    def failure(self) -> str:
        """Return why this process should be restarted; empty if it is healthy."""
        if self.controller is None:
            return ""
        now = monotonic()
        return self._failure_of_work(self.controller, now) or self._failure_of_watch(now)

    def _failure_of_work(self, controller: Controller, now: float) -> str:
        queue = controller.queue
        if queue.oldest() > STUCK_AFTER and now - queue.last_done > STUCK_AFTER:
            return f"{len(queue)} Queues are waiting and none was processed for {now - queue.last_done:.0f} s"
        if queue.longest_in_progress() > MAX_RECONCILE_SECONDS:
            return f"a Queue has been in progress for {queue.longest_in_progress():.0f} s"
        return ""

    def _failure_of_watch(self, now: float) -> str:
        if self._asked_first is None:
            self._asked_first = now
        if not self._watches and now - self._asked_first > WATCH_IS_OLD_AFTER:
            return f"no watch of Queues has started for {now - self._asked_first:.0f} s"
        for path, began in self._watches.items():
            if now - began > WATCH_IS_OLD_AFTER:
                return f"the watch of {path} has not restarted for {now - began:.0f} s"
        if self._differences >= COUNTS_MAY_DIFFER:
            return f"the watch missed Queues: {self._differences} comparisons in a row differed"
        return ""

    async def compare_counts(self, api: KubernetesApi, namespaces: tuple[str, ...]) -> None:
        """Compare the number of Queues with the number that the watch reported, periodically. It never returns."""
        while True:
            await asyncio.sleep(COUNT_EVERY)
            try:
                lists = [await api.first_queue(namespace) for namespace in namespaces or (None,)]
            except ApiError as error:
                log.debug("Queues not counted", error=str(error))
                continue
            there_are = sum(len(each["items"]) + each["metadata"].get("remainingItemCount", 0) for each in lists)
            if self.controller:
                self.count_compared(differs=there_are != self.controller.seen)


class OperatorHttpPort(HttpPort):
    """The HTTP port with `/metrics`, `/healthz` and `/readyz`. `hosts` are additional accepted values of Host."""

    def __init__(self, health: Health, metrics: Metrics, hosts: Collection[str] = ()) -> None:
        self._health = health
        self._metrics = metrics
        routes = [
            web.get("/metrics", self._exposition),
            web.get("/healthz", self._healthz),
            web.get("/readyz", self._readyz),
        ]
        super().__init__(routes, HttpConnections(), hosts)

    async def _healthz(self, _: web.Request) -> web.Response:
        failure = self._health.failure()
        return web.Response(text=f"{failure}\n", status=503) if failure else web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        if self._health.is_ready:
            return web.Response(text="\n".join(["ok", *self._health.problems(), ""]))
        why = self._health.waits_for or "the API server has not been reached yet, or does not serve Queues"
        return web.Response(text=f"{why}\n", status=503)

    async def _exposition(self, request: web.Request) -> web.Response:
        time_slice = TimeSlice(request.remote or "")
        await time_slice.begin()
        self._look()
        body = generate_latest(self._metrics.registry)
        time_slice.count()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    def _look(self) -> None:
        """Set the metrics that are computed only when they are read."""
        controller = self._health.controller
        if controller is None:
            return
        for priority, length in controller.queue.lengths().items():
            self._metrics.waiting.labels(priority.name.lower()).set(length)
        self._metrics.oldest.set(controller.queue.oldest())
        self._metrics.orphans.set(len(controller.orphans()))
        counted = Counter(
            ("true" if each.status.is_ready else "false", each.status.reason) for each in controller.objects()
        )
        self._metrics.objects.clear()
        for (ready, reason), number in counted.items():
            self._metrics.objects.labels(ready, reason).set(number)
