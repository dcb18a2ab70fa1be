"""The control loop: executes the next step of each object until `plan/reconcile.py` returns `Nothing`.

Everything that may change a decision, such as an event of a watch, a resync or a timer, only adds the object's key to
the work queue. The workers take keys from it and decide by the state at that time.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import monotonic, monotonic_ns

import structlog

from queuelet import clock
from queuelet.errors import DeadlineExceeded, ServerDraining, ShardMoved, StoreFailed, Unauthenticated, Unreachable
from queuelet.limits import SECOND_NS
from queuelet_operator.actions import Actions
from queuelet_operator.deletion_context import DeletionContextReader
from queuelet_operator.entry import Entry
from queuelet_operator.event_recorder import EventRecorder
from queuelet_operator.kubernetes_api import ApiError, KubernetesApi
from queuelet_operator.metrics import Metrics
from queuelet_operator.plan.conditions import counts_matter
from queuelet_operator.plan.model import Declare, Known, Nothing, WriteStatus
from queuelet_operator.plan.reconcile import next_step
from queuelet_operator.plan.resources import Body, Key, QueueObject, key_of_queue, queue_of
from queuelet_operator.plan.situation import reason_of_problem
from queuelet_operator.server_link import ServerLink
from queuelet_operator.settings import Settings
from queuelet_operator.token_buckets import TokenBuckets
from queuelet_operator.workqueue import Priority, WorkQueue

log = structlog.get_logger()

STEPS_IN_A_ROW = 8
"""Steps in one pass, more than any object needs. An object that takes more backs off, as another process changes it."""

STEPS_IN_A_BURST = 30
"""Steps that an object may take in a burst. An object that takes more is probably being overwritten each time."""

STEPS_RATE = 1
"""Steps a second after the burst, so that two operators that undo each other's work do not do so at full speed."""

COUNTS_RATE = 10.0
"""Writes a second, for all objects together, that only update message counts."""

WATCH_IS_LATE_BY = 600.0
"""Seconds for which the watch may still report an object that a response of the API server showed as deleted."""

MAX_CAUSE_SECONDS = 5.0
"""Seconds, at most, for which a new cause of an outage must last before statuses name it."""

_OUTAGE_ERRORS = (Unreachable, DeadlineExceeded, ServerDraining, ShardMoved, Unauthenticated, StoreFailed)


class Controller:
    """The objects of this operator's class, the work queue of their keys, and the workers that reconcile them."""

    def __init__(self, settings: Settings, api: KubernetesApi, recorder: EventRecorder, metrics: Metrics) -> None:
        self._settings = settings
        self._policy = settings.policy
        self._metrics = metrics
        self._entries: dict[Key, Entry] = {}
        self._of_other_classes: dict[Key, str] = {}
        self._ended: dict[str, float] = {}
        """Uids of objects that a response showed as deleted before the watch did, with the time by `monotonic`."""
        self._steps: TokenBuckets[str] = TokenBuckets(STEPS_IN_A_BURST, STEPS_RATE)
        """The steps that each object, by its uid, may take now."""
        self._next_counts = 0.0
        self.queue: WorkQueue[Key] = WorkQueue(monotonic)
        """The keys of the objects that have to be reconciled."""
        self.link = ServerLink(
            settings.connection,
            cause_lasts=min(settings.outage_after / 2, MAX_CAUSE_SECONDS),
            changed=self.queue_changed,
            server_changed=self.server_changed,
        )
        """The connection to the queue server."""
        contexts = DeletionContextReader(api, settings.server_service)
        self._actions = Actions(api, self.link, contexts, recorder, metrics)

    # Notifications

    def object_seen(self, body: Body) -> None:
        """Handle an object from the watch. Versions older than the known one are ignored."""
        seen = queue_of(body)
        if seen.uid in self._ended:
            # The watch is late. Serving the object would recreate its queue, and nothing would ever remove that queue.
            return
        entry = self._entries.get(seen.key)
        if entry and entry.object.uid != seen.uid and entry.object.resource_version > seen.resource_version:
            # The event is late, because kopf delivers the events of each uid in a separate task.
            return
        if seen.spec.queue_class != self._settings.queue_class:
            self._of_other_classes[seen.key] = seen.uid
            if entry:
                # An object's class cannot change, so this is a new object with that name, and the deletion of the first
                # one was missed.
                self._forget(seen.key, entry.object.uid)
            return
        self._of_other_classes.pop(seen.key, None)
        if entry is None or entry.object.uid != seen.uid:
            self._entries[seen.key] = Entry(object=seen, seen_at=monotonic())
            self.queue.add(seen.key, _priority(seen))
        elif entry.object.resource_version < seen.resource_version:
            is_changed = _fields_to_reconcile(entry.object) != _fields_to_reconcile(seen)
            if is_changed:
                entry.refusal = None
            differs = is_changed or entry.object.status != seen.status
            entry.object = seen
            if differs:
                self.queue.add(seen.key, _priority(seen, changed=True))

    def object_gone(self, body: Body) -> None:
        """Handle the deletion of an object."""
        gone = queue_of(body)
        self._ended.pop(gone.uid, None)
        if self._of_other_classes.get(gone.key) == gone.uid:
            del self._of_other_classes[gone.key]
        entry = self._entries.get(gone.key)
        if entry and entry.object.uid == gone.uid:
            self._forget(gone.key, gone.uid)

    def queue_changed(self, name: str) -> None:
        """Handle the creation, change or removal of a queue on the server, or a change of its message counts."""
        entry = self._entries.get(key_of_queue(name))
        if entry is None:
            return
        queue = self.link.queues.get(name)
        if queue and queue.definition == self._policy.wanted(_with_namespace(entry)) and not entry.object.is_deleting:
            written = entry.object.status.messages
            if entry.object.status.epoch == queue.epoch and not counts_matter(
                written, queue.counts, entry.object.spec.limit
            ):
                return
            self.queue.add(entry.object.key, Priority.RESYNC)
            return
        if queue and entry.refusal and entry.refusal.is_final:
            entry.refusal = None
        self.queue.add(entry.object.key, _priority(entry.object, changed=True))

    def server_changed(self) -> None:
        """Handle an outage or recovery of the server or of a store: reconcile every object, now or when it is due."""
        server = self.link.server
        away = server.is_away
        self._metrics.server_connected.set(0 if away else 1)
        self._metrics.store_problems.clear()
        for store, problem in server.problems.items():
            self._metrics.store_problems.labels(store.name.title(), reason_of_problem(problem).value).set(1)
        if away:
            # If the outage is reported already, `left` is 0, and the statuses get its new cause now.
            left = max(server.away_since + self._policy.outage_after - clock.now(), 0.0)
            asyncio.get_running_loop().call_later(left, self.enqueue_all)
            return
        for entry in self._entries.values():
            entry.refusal = None
        self.enqueue_all()

    def enqueue_all(self) -> None:
        """Add every object to the work queue. A pass that finds nothing to do makes no call."""
        for key, entry in self._entries.items():
            self.queue.add(key, _priority(entry.object))

    # State for health checks and metrics

    @property
    def seen(self) -> int:
        """How many objects the watch has reported, of any class."""
        return len(self._entries) + len(self._of_other_classes)

    def objects(self) -> list[QueueObject]:
        """Return the objects of this operator's class."""
        return [entry.object for entry in self._entries.values()]

    def orphans(self) -> list[str]:
        """Return the names of the queues that this instance owns on the server and that have no object."""
        prefix = f"{self._policy.instance}/"
        return [
            name
            for name, queue in self.link.queues.items()
            if queue.definition.owner
            and queue.definition.owner.name.startswith(prefix)
            and key_of_queue(name) not in self._entries
        ]

    # The workers

    async def run(self) -> None:
        """Run the server link, the resync and the workers. It never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.link.run(), name="server link")
            tasks.create_task(self._resync(), name="resync")
            for number in range(self._settings.workers):
                tasks.create_task(self._work(), name=f"worker {number}")

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(self._settings.resync)
            too_old = monotonic() - WATCH_IS_LATE_BY
            self._ended = {uid: at for uid, at in self._ended.items() if at > too_old}
            self.enqueue_all()

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            try:
                await self._reconcile(key)
                self.queue.succeeded(key)
            except ApiError as error:
                self._retry_later(key, error, error.retry_after)
            except _OUTAGE_ERRORS as error:
                # The recovery of the server wakes every object. This retry is for a call that failed without an outage.
                self._retry_later(key, error, 0.0)
            except Exception:
                log.exception("unexpected error; the Queue will be retried", queue=str(key))
                self.queue.retry(key)
            finally:
                self.queue.done(key)
            # Most passes make no call and never suspend, so that a resync would block the event loop without this.
            await asyncio.sleep(0)

    def _retry_later(self, key: Key, error: Exception, not_before: float) -> None:
        if key not in self._entries:
            self.queue.forget(key)
            return
        delay = self.queue.retry(key, not_before=not_before)
        log.warning("Queue not reconciled; will retry", queue=str(key), error=str(error), retry_in=round(delay, 2))

    async def _reconcile(self, key: Key) -> None:
        """Execute an object's steps until there is nothing to do."""
        for _ in range(STEPS_IN_A_ROW):
            entry = self._entries.get(key)
            if entry is None:
                return
            await self._actions.learn_namespace(entry)
            step = next_step(self._known(entry), self._policy, clock.now())
            if isinstance(step, Nothing):
                if step.until is not None:
                    self._enqueue_at(key, step.until)
                return
            if isinstance(step, WriteStatus) and step.only_counts and not self._may_write_counts(entry):
                return
            if not self._may_step(entry):
                return
            log.debug("step", queue=str(key), step=type(step).__name__)
            await self._actions.execute(step, entry)
            if entry.is_gone:
                self._ended[entry.object.uid] = monotonic()
                self._forget(key, entry.object.uid)
                return
            if isinstance(step, Declare) and step.cause.is_repair:
                # To the end of the work queue, so that all queues are repaired before the statuses that report it.
                self.queue.add(key, Priority.RESYNC)
                return
        raise ApiError(0, f"not done after {STEPS_IN_A_ROW} steps; is another process changing the Queue?")

    def _known(self, entry: Entry) -> Known:
        return Known(
            object=_with_namespace(entry),
            server=self.link.server,
            queue=self.link.queues.get(entry.object.key.queue_name),
            refusal=entry.refusal,
            removed=entry.removed,
            deletion_context=entry.deletion_context,
            handled_request=entry.handled_request,
            obtained_by=entry.obtained_by,
            counts_written_at=entry.counts_written_at,
            wall_ahead=clock.CLOCK.behind_ns() / 1e9,
        )

    def _enqueue_at(self, key: Key, when: float) -> None:
        if when != float("inf"):
            self.queue.add_at(key, monotonic() + max(when - clock.now(), 0.0), Priority.RESYNC)

    def _may_step(self, entry: Entry) -> bool:
        """Return whether an object may take a step now. If not, it is reconciled again when it may."""
        if entry.object.is_deleting:
            return True
        uid, now = entry.object.uid, monotonic_ns()
        if self._steps.take(uid, now):
            return True
        log.warning(
            "status keeps being overwritten; is another operator running with the same class?",
            queue=str(entry.object.key),
        )
        self.queue.add_at(entry.object.key, (now + self._steps.wait(uid, now)) / SECOND_NS, Priority.RETRY)
        return False

    def _may_write_counts(self, entry: Entry) -> bool:
        """Return whether to write new message counts now. If not, the object is reconciled again when it may.

        This is no token bucket, because each object gets a turn when it first asks, so that all of them have one.
        """
        now = monotonic()
        if entry.counts_turn is None:
            entry.counts_turn = max(now, self._next_counts)
            self._next_counts = entry.counts_turn + 1 / COUNTS_RATE
        if now < entry.counts_turn:
            self.queue.add_at(entry.object.key, entry.counts_turn, Priority.RESYNC)
            return False
        entry.counts_turn = None
        return True

    def _forget(self, key: Key, uid: str) -> None:
        entry = self._entries.get(key)
        if entry and entry.object.uid == uid:
            del self._entries[key]
            self.queue.forget(key)


def _with_namespace(entry: Entry) -> QueueObject:
    return replace(entry.object, namespace_uid=entry.namespace_uid or "")


def _fields_to_reconcile(an_object: QueueObject) -> tuple[object, ...]:
    """Return the fields of an object, other than its status, whose change has to be reconciled."""
    return (
        an_object.generation,
        an_object.deleted_at,
        an_object.finalizers,
        an_object.is_paused,
        an_object.adopts,
        an_object.reconcile_requested_at,
    )


def _priority(an_object: QueueObject, *, changed: bool = False) -> Priority:
    """Return an object's priority. Changed objects, and those whose status is outdated, precede the resync."""
    if an_object.is_deleting:
        return Priority.DELETION
    return Priority.CHANGE if changed or not an_object.is_settled else Priority.RESYNC
