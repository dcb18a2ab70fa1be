"""The control loop: takes the next step of each object that needs one, as `reconcile` says."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import monotonic

import structlog

from queuelet import clock
from queuelet.errors import DeadlineExceeded, ServerDraining, StoreFailed, Unauthenticated, Unreachable
from queuelet_operator.actions import Actions, Entry
from queuelet_operator.deletion_context import Surroundings
from queuelet_operator.event_recorder import Recorder
from queuelet_operator.kubernetes_api import ApiError, KubernetesApi
from queuelet_operator.metrics import Metrics
from queuelet_operator.plan.conditions import counts_matter
from queuelet_operator.plan.model import Declare, Known, Nothing, Reason, WriteStatus
from queuelet_operator.plan.reconcile import next_step
from queuelet_operator.plan.resources import Body, Key, QueueObject, key_of_queue, queue_of
from queuelet_operator.server_link import ServerLink
from queuelet_operator.settings import Settings
from queuelet_operator.workqueue import Priority, WorkQueue

log = structlog.get_logger()

STEPS_IN_A_ROW = 8
"""More than any object needs. One that takes more is fought over by somebody, and is looked at less often."""

STEPS_AT_ONCE = 30.0
"""Steps that an object may take one soon after another. One that takes more is changed back by somebody each time."""

STEPS_RATE = 1.0
"""Steps a second that it may take after those: two that undo each other's work must not do so as fast as they can."""

COUNTS_RATE = 10.0
"""Writes a second, in all, that bring nothing but new counts."""

WATCH_IS_LATE_BY = 600.0
"""Seconds after which the watch does not tell of an object any more whose end an answer told of."""

LONGEST_CAUSE = 5.0
"""Seconds for which an outage must have another cause, at most, before statuses name it."""

_LOST_TOUCH = (Unreachable, DeadlineExceeded, ServerDraining, Unauthenticated, StoreFailed)


class Controller:
    """The objects, the queue of those that need a look, and the workers that look."""

    def __init__(self, settings: Settings, api: KubernetesApi, recorder: Recorder, metrics: Metrics) -> None:
        """Take the settings, the API server, and where to tell what happens."""
        self._settings = settings
        self._policy = settings.policy
        self._metrics = metrics
        self._entries: dict[Key, Entry] = {}
        self._of_other_classes: dict[Key, str] = {}
        self._ended: dict[str, float] = {}
        """The uids of objects whose end an answer told of before the watch did, and when, of the monotonic clock."""
        self._next_counts = 0.0
        self.queue: WorkQueue[Key] = WorkQueue(monotonic)
        """The objects that need a look."""
        self.link = ServerLink(
            settings.connection,
            cause_lasts=min(settings.outage_after / 2, LONGEST_CAUSE),
            changed=self.queue_changed,
            flipped=self.server_flipped,
        )
        """The connection to the queue server."""
        surroundings = Surroundings(api, settings.server_service)
        self._actions = Actions(api, self.link, surroundings, recorder, metrics)

    # What comes in

    def object_seen(self, body: Body) -> None:
        """Take an object as the watch tells of it. What is older than what is known is left out."""
        seen = queue_of(body)
        if seen.uid in self._ended:
            # The watch tells of what was before: to serve it would bring its queue back, which nobody would remove.
            return
        entry = self._entries.get(seen.key)
        if entry and entry.object.uid != seen.uid and entry.object.resource_version > seen.resource_version:
            # It is late: kopf tells of each uid in a task of its own.
            return
        if seen.spec.queue_class != self._settings.queue_class:
            self._of_other_classes[seen.key] = seen.uid
            if entry:
                # The class of an object cannot change: it is another of the name, and the end of the first was missed.
                self._forget(seen.key, entry.object.uid)
            return
        self._of_other_classes.pop(seen.key, None)
        if entry is None or entry.object.uid != seen.uid:
            self._entries[seen.key] = Entry(object=seen, seen_at=monotonic())
            self.queue.add(seen.key, _urgency(seen))
        elif entry.object.resource_version < seen.resource_version:
            asks_anew = _demands(entry.object) != _demands(seen)
            if asks_anew:
                entry.refusal = None
            differs = asks_anew or entry.object.status != seen.status
            entry.object = seen
            if differs:
                self.queue.add(seen.key, _urgency(seen, changed=True))

    def object_gone(self, body: Body) -> None:
        """Take note that an object is no more."""
        gone = queue_of(body)
        self._ended.pop(gone.uid, None)
        if self._of_other_classes.get(gone.key) == gone.uid:
            del self._of_other_classes[gone.key]
        entry = self._entries.get(gone.key)
        if entry and entry.object.uid == gone.uid:
            self._forget(gone.key, gone.uid)

    def queue_changed(self, name: str) -> None:
        """Take note that a queue was made, changed or removed in the server, or that its counts changed."""
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
        self.queue.add(entry.object.key, _urgency(entry.object, changed=True))

    def server_flipped(self) -> None:
        """Take note that the server came or went, or one of its stores: every object is looked at, if need be later."""
        server = self.link.server
        away = server.is_away
        self._metrics.server_connected.set(0 if away else 1)
        self._metrics.store_problems.clear()
        for store, problem in server.problems.items():
            reason = Reason.STORE_FULL if problem.is_full else Reason.STORE_FAILED
            self._metrics.store_problems.labels(store.name.title(), reason.value).set(1)
        if away:
            # An outage that has another cause by now is reported already.
            left = max(server.away_since + self._policy.outage_after - clock.now(), 0.0)
            asyncio.get_running_loop().call_later(left, self.look_at_all)
            return
        for entry in self._entries.values():
            entry.refusal = None
        self.look_at_all()

    def look_at_all(self) -> None:
        """Have every object looked at: a look costs no call where all is well."""
        for key, entry in self._entries.items():
            self.queue.add(key, _urgency(entry.object))

    # Looking at it from outside

    @property
    def seen(self) -> int:
        """How many objects the watch has told of, of whatever class."""
        return len(self._entries) + len(self._of_other_classes)

    def objects(self) -> list[QueueObject]:
        """Return the objects."""
        return [entry.object for entry in self._entries.values()]

    def orphans(self) -> list[str]:
        """Return the names of the queues that this instance owns in the server and no object names."""
        prefix = f"{self._policy.instance}/"
        return [
            name
            for name, queue in self.link.queues.items()
            if queue.definition.owner
            and queue.definition.owner.name.startswith(prefix)
            and key_of_queue(name) not in self._entries
        ]

    # The work

    async def run(self) -> None:
        """Work. It never returns."""
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
            self.look_at_all()

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            try:
                await self._look_at(key)
                self.queue.succeeded(key)
            except ApiError as error:
                self._put_off(key, error, error.retry_after)
            except _LOST_TOUCH as error:
                # Whoever waits for the server is looked at again when it is back. This is for a call lost in between.
                self._put_off(key, error, 0.0)
            except Exception:
                log.exception("an unforeseen error; the Queue is tried again later", queue=str(key))
                self.queue.retry(key)
            finally:
                self.queue.done(key)
            # Most looks call nobody. Without this, a resync would keep the event loop until it has seen all objects.
            await asyncio.sleep(0)

    def _put_off(self, key: Key, error: Exception, not_before: float) -> None:
        if key not in self._entries:
            self.queue.forget(key)
            return
        delay = self.queue.retry(key, not_before=not_before)
        log.warning("cannot go on with a Queue now", queue=str(key), error=str(error), again_in=round(delay, 2))

    async def _look_at(self, key: Key) -> None:
        """Take an object's steps until there is nothing to do for now."""
        for _ in range(STEPS_IN_A_ROW):
            entry = self._entries.get(key)
            if entry is None:
                return
            await self._actions.learn_namespace(entry)
            step = next_step(self._known(entry), self._policy, clock.now())
            if isinstance(step, Nothing):
                if step.until is not None:
                    self._look_again(key, step.until)
                return
            if isinstance(step, WriteStatus) and step.only_counts and not self._may_write_counts(entry):
                return
            if not self._may_step(entry):
                return
            log.debug("step", queue=str(key), step=type(step).__name__)
            await self._actions.take(step, entry)
            if entry.is_gone:
                self._ended[entry.object.uid] = monotonic()
                self._forget(key, entry.object.uid)
                return
            if isinstance(step, Declare) and step.cause.is_repair:
                # To the end of the line: all repairs go before the statuses that tell of them.
                self.queue.add(key, Priority.RESYNC)
                return
        raise ApiError(0, f"it took {STEPS_IN_A_ROW} steps and is not done: is something else changing it?")

    def _known(self, entry: Entry) -> Known:
        return Known(
            object=_with_namespace(entry),
            server=self.link.server,
            queue=self.link.queues.get(entry.object.key.queue_name),
            refusal=entry.refusal,
            removed=entry.removed,
            home=entry.home,
            answered=entry.answered,
            got=entry.got,
            counts_written_at=entry.counts_written_at,
            wall_ahead=clock.CLOCK.behind_ns() / 1e9,
        )

    def _look_again(self, key: Key, when: float) -> None:
        if when != float("inf"):
            self.queue.add_at(key, monotonic() + max(when - clock.now(), 0.0), Priority.RESYNC)

    def _may_step(self, entry: Entry) -> bool:
        """Tell whether an object may take a step now; if not, it is looked at again when it may."""
        if entry.object.is_deleting:
            return True
        now = monotonic()
        gained = (now - entry.steps_left_at) * STEPS_RATE
        entry.steps_left, entry.steps_left_at = min(entry.steps_left + gained, STEPS_AT_ONCE), now
        if entry.steps_left < 1:
            log.warning("changed back again and again: is there another operator for it?", queue=str(entry.object.key))
            self.queue.add_at(entry.object.key, now + (1 - entry.steps_left) / STEPS_RATE, Priority.RETRY)
            return False
        entry.steps_left -= 1
        return True

    def _may_write_counts(self, entry: Entry) -> bool:
        """Tell whether a write for counts alone may go now; if not, the object is looked at again when it may."""
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


def _demands(an_object: QueueObject) -> tuple[object, ...]:
    """Return what an object asks for: when one of these changes, it is looked at again."""
    return (
        an_object.generation,
        an_object.deleted_at,
        an_object.finalizers,
        an_object.is_paused,
        an_object.adopts,
        an_object.reconcile_requested_at,
    )


def _urgency(an_object: QueueObject, *, changed: bool = False) -> Priority:
    """Return how urgent a look at an object is: one that just changed, or whose status is behind, goes first."""
    if an_object.is_deleting:
        return Priority.DELETION
    return Priority.CHANGE if changed or not an_object.is_settled else Priority.RESYNC
