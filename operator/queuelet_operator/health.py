"""Whether the operator does its work: asked of the work itself, and not only of the process."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from time import monotonic

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from queuelet.fairness import TimeSlice
from queuelet.web.connections import HttpConnections
from queuelet.web.guard import refuse_web_pages
from queuelet_operator.controller import Controller
from queuelet_operator.kubernetes_api import ApiError, KubernetesApi
from queuelet_operator.metrics import Metrics
from queuelet_operator.watch import RESTART_EVERY

log = structlog.get_logger()

STUCK_AFTER = 120.0
"""Seconds in which something that waits must have been done. A step takes 30 at most."""

LONGEST_LOOK = 600.0
"""Seconds that one Queue may be looked at: eight steps of 30, twice over."""

WATCH_IS_OLD_AFTER = RESTART_EVERY + 130.0
"""Seconds after which a watch must have begun again. It does so by itself every five minutes."""

COUNT_EVERY = 60.0
"""Seconds between two comparisons of how many Queues there are and how many the watch told of."""

COUNTS_MAY_DIFFER = 3
"""Comparisons in a row that may differ: Queues come and go between a list and a watch."""


@dataclass(slots=True)
class Health:
    """What is known of the work, and the answer to whether it goes on."""

    controller: Controller | None = None
    """The one at work; None while this operator waits for its turn."""

    is_ready: bool = False
    waits_for: str = ""
    """What keeps this operator from acting, as a sentence; empty if nothing does."""

    _watches: dict[str, float] = field(default_factory=dict)
    _differences: int = 0
    _asked_first: float | None = None
    """When it was first asked while this operator acts."""

    def watch_began(self, path: str) -> None:
        """Take note that a watch began."""
        self._watches[path] = monotonic()

    def count_compared(self, *, differs: bool) -> None:
        """Take note of a comparison of the Queues there are and those the watch told of."""
        self._differences = self._differences + 1 if differs else 0

    def trouble(self) -> str:
        """Return why this process should be started anew; empty if it should not."""
        if self.controller is None:
            return ""
        now = monotonic()
        return self._trouble_with_work(self.controller, now) or self._trouble_with_watch(now)

    def _trouble_with_work(self, controller: Controller, now: float) -> str:
        queue = controller.queue
        if queue.oldest() > STUCK_AFTER and now - queue.last_done > STUCK_AFTER:
            return f"{len(queue)} Queues wait and none was done with in {now - queue.last_done:.0f} s"
        if queue.longest_in_hand() > LONGEST_LOOK:
            return f"a Queue is being looked at for {queue.longest_in_hand():.0f} s"
        return ""

    def _trouble_with_watch(self, now: float) -> str:
        if self._asked_first is None:
            self._asked_first = now
        if not self._watches and now - self._asked_first > WATCH_IS_OLD_AFTER:
            return f"no watch of Queues has begun for {now - self._asked_first:.0f} s"
        for path, began in self._watches.items():
            if now - began > WATCH_IS_OLD_AFTER:
                return f"the watch of {path} has not begun anew for {now - began:.0f} s"
        if self._differences >= COUNTS_MAY_DIFFER:
            return f"the watch has missed Queues: {self._differences} counts in a row differ"
        return ""

    async def compare_counts(self, api: KubernetesApi, namespaces: tuple[str, ...]) -> None:
        """Compare, now and then, how many Queues there are with how many the watch told of. It never returns."""
        while True:
            await asyncio.sleep(COUNT_EVERY)
            try:
                lists = [await api.first_queue(namespace) for namespace in namespaces or (None,)]
            except ApiError as error:
                log.debug("cannot count the Queues", error=str(error))
                continue
            there_are = sum(len(each["items"]) + each["metadata"].get("remainingItemCount", 0) for each in lists)
            if self.controller:
                self.count_compared(differs=there_are != self.controller.seen)


class HttpEndpoints:
    """`/metrics`, `/healthz` and `/readyz`."""

    def __init__(self, health: Health, metrics: Metrics, hosts: Collection[str] = ()) -> None:
        """Make the pages; `listen` opens a port for them. `hosts` are more names of this operator."""
        self._health = health
        self._metrics = metrics
        self._connections = HttpConnections()
        application = web.Application(middlewares=[self._connections.middleware, refuse_web_pages(hosts)])
        application.router.add_get("/metrics", self._exposition)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)

    async def listen(self, host: str, port: int) -> int:
        """Open a port; return its number. Raises OSError where that fails."""
        return await self._connections.listen(self._runner, host, port)

    async def stop(self) -> None:
        """Close the port."""
        self._connections.close()
        await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        trouble = self._health.trouble()
        return web.Response(text=f"{trouble}\n", status=503) if trouble else web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        if self._health.is_ready:
            return web.Response(text="ok\n")
        why = self._health.waits_for or "the API server was not reached yet, or does not know Queues"
        return web.Response(text=f"{why}\n", status=503)

    async def _exposition(self, request: web.Request) -> web.Response:
        turns = TimeSlice(request.remote or "")
        await turns.begin()
        self._look()
        body = generate_latest(self._metrics.registry)
        turns.count()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    def _look(self) -> None:
        """Read what is not counted as it happens."""
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
