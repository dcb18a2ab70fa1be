"""Posts Kubernetes Events about Queues: only on changes, rate-limited, and in the background."""

from __future__ import annotations

import asyncio
import secrets
from time import monotonic_ns, time

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
"""Events a second at most, because 10,000 recovered queues must not cost 10,000 writes before all other writes."""

BURST_PER_NAMESPACE = 25
"""Events about the Queues of one namespace in a burst."""

RATE_PER_NAMESPACE, RATE_SECONDS = 1, 5
"""Events about the Queues of one namespace after the burst, and in how many seconds, so that none uses up RATE."""

MAX_WAITING = 100
"""Events that wait to be posted. Further ones are dropped and counted, but each is logged."""

SOURCE = "queuelet-operator"


class EventRecorder:
    """Logs Events, and posts them while `run` runs."""

    def __init__(self, api: KubernetesApi, metrics: Metrics) -> None:
        self._api = api
        self._metrics = metrics
        self._budget: TokenBuckets[str] = TokenBuckets(BURST_PER_NAMESPACE, RATE_PER_NAMESPACE, RATE_SECONDS)
        self._waiting: asyncio.Queue[tuple[QueueObject, Notice]] = asyncio.Queue(MAX_WAITING)

    def post(self, an_object: QueueObject, notice: Notice) -> None:
        """Log an Event now, and add it to the backlog of Events to post."""
        level = log.warning if notice.is_warning else log.info
        level(notice.message, queue=str(an_object.key), reason=notice.reason)
        if not self._budget.take(an_object.key.namespace, monotonic_ns()):
            self._metrics.events_dropped.labels("namespace_limit").inc()
            return
        try:
            self._waiting.put_nowait((an_object, notice))
        except asyncio.QueueFull:
            self._metrics.events_dropped.labels("backlog").inc()

    async def run(self) -> None:
        """Post the backlog. It never returns."""
        while True:
            an_object, notice = await self._waiting.get()
            event = event_about(reference(an_object.key, an_object.uid), notice, timestamp(time()))
            try:
                await self._api.post_event(an_object.key.namespace, event)
            except ApiError as error:
                # A namespace that is being deleted refuses Events. This one was logged by `post`.
                log.debug("Event not posted", queue=str(an_object.key), reason=notice.reason, error=str(error))
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
