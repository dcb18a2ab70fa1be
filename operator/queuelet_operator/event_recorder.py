"""Kubernetes Events about Queues: few, on change only, and never in the way of the work they tell of."""

from __future__ import annotations

import asyncio
import secrets
from time import monotonic, time

import structlog

from queuelet.printable import printable
from queuelet_operator.kubernetes_api import ApiError, KubernetesApi, reference
from queuelet_operator.metrics import Metrics
from queuelet_operator.plan.model import Notice
from queuelet_operator.plan.resources import Body, QueueObject
from queuelet_operator.plan.status import timestamp
from queuelet_operator.token_buckets import TokenBuckets

log = structlog.get_logger()

RATE = 10.0
"""Events a second at most: 10,000 queues that come back must not cost 10,000 writes before anything else is written."""

AT_ONCE_PER_NAMESPACE = 25.0
RATE_PER_NAMESPACE = 0.2
"""Events about the Queues of one namespace: at once, and a second after those. One namespace must not use up RATE."""

MOST_WAITING = 100
"""Events that wait to be posted. More are dropped and counted: each is a line in the log all the same."""

SOURCE = "queuelet-operator"


class Recorder:
    """Posts Events while `run` runs."""

    def __init__(self, api: KubernetesApi, metrics: Metrics) -> None:
        self._api = api
        self._metrics = metrics
        self._budget: TokenBuckets[str] = TokenBuckets(AT_ONCE_PER_NAMESPACE, RATE_PER_NAMESPACE)
        self._waiting: asyncio.Queue[tuple[QueueObject, Notice]] = asyncio.Queue(MOST_WAITING)

    def post(self, an_object: QueueObject, notice: Notice) -> None:
        """Have an Event posted when there is time for it, and log it now."""
        level = log.warning if notice.is_warning else log.info
        level(notice.message, queue=str(an_object.key), reason=notice.reason)
        if not self._budget.take(an_object.key.namespace, monotonic()):
            self._metrics.events_dropped.labels("namespace_limit").inc()
            return
        try:
            self._waiting.put_nowait((an_object, notice))
        except asyncio.QueueFull:
            self._metrics.events_dropped.labels("backlog").inc()

    async def run(self) -> None:
        """Post what waits. It never returns."""
        while True:
            an_object, notice = await self._waiting.get()
            event = event_about(reference(an_object.key, an_object.uid), notice, timestamp(time()))
            try:
                await self._api.post_event(an_object.key.namespace, event)
            except ApiError as error:
                # A namespace that is being deleted takes no Events. The log has it.
                log.debug("an Event was not posted", queue=str(an_object.key), reason=notice.reason, error=str(error))
                self._metrics.events_dropped.labels("refused").inc()
            await asyncio.sleep(1 / RATE)


def event_about(regarding: Body, notice: Notice, now: str) -> Body:
    """Return the body of an Event about an object."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{regarding['name'][:200]}.{secrets.token_hex(8)}",
            "namespace": regarding["namespace"],
        },
        "involvedObject": regarding,
        "reason": notice.reason,
        "message": printable(notice.message)[:1024],
        "type": "Warning" if notice.is_warning else "Normal",
        "source": {"component": SOURCE},
        "reportingComponent": SOURCE,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
