"""The control loop: takes the next step of each object that needs one, as `reconcile` says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic, time

import structlog

from queuelet.errors import DeadlineExceeded, ServerDraining, Unauthenticated, Unreachable
from queuelet.status import Code
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire import owner_to_pb
from queuelet_operator.deletion import LEFT
from queuelet_operator.kubernetes_api import ApiError, KubernetesApi
from queuelet_operator.metrics import Metrics
from queuelet_operator.notices import notice_of_declaration
from queuelet_operator.observed import counts_from_pb, declaration_to_pb, queue_from_pb
from queuelet_operator.reconcile import next_step
from queuelet_operator.recorder import Recorder
from queuelet_operator.resources import FINALIZER, Body, Key, QueueObject, key_of_queue, queue_of
from queuelet_operator.server_link import ServerLink
from queuelet_operator.settings import Settings
from queuelet_operator.standing import counts_matter
from queuelet_operator.status import status_patch
from queuelet_operator.steps import (
    AddFinalizer,
    Declare,
    DropFinalizer,
    Home,
    Known,
    LookAround,
    Nothing,
    Policy,
    Refusal,
    Removal,
    Remove,
    Removed,
    Step,
    WriteStatus,
)
from queuelet_operator.workqueue import Priority, WorkQueue

log = structlog.get_logger()

STEPS_IN_A_ROW = 8
"""More than any object needs. One that takes more is fought over by somebody, and is looked at less often."""

COUNTS_RATE = 10.0
"""Writes a second, in all, that bring nothing but new counts."""

_FINAL = {Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION}
_LOST_TOUCH = (Unreachable, DeadlineExceeded, ServerDraining, Unauthenticated)


@dataclass(slots=True)
class _Entry:
    """An object and what this process has learnt about it since it started."""

    object: QueueObject
    seen_at: float
    refusal: Refusal | None = None
    removed: Removed | None = None
    home: Home | None = None
    answered: str = ""
    counts_written_at: float = 0.0
    counts_turn: float | None = None
    """When a write for counts alone has its turn, of the monotonic clock; None where none waits for it."""


class Controller:
    """The objects, the queue of those that need a look, and the workers that look."""

    def __init__(self, settings: Settings, api: KubernetesApi, recorder: Recorder, metrics: Metrics) -> None:
        """Take the settings, the API server, and where to tell what happens."""
        self._settings = settings
        self._policy = settings.policy
        self._api = api
        self._recorder = recorder
        self._metrics = metrics
        self._entries: dict[Key, _Entry] = {}
        self._of_other_classes: set[Key] = set()
        self._homes: dict[str, Home] = {}
        self._next_counts = 0.0
        self.queue: WorkQueue[Key] = WorkQueue(monotonic)
        """The objects that need a look."""
        self.link = ServerLink(settings.connection, changed=self.queue_changed, flipped=self.server_flipped)
        """The connection to the queue server."""

    # What comes in

    def object_seen(self, body: Body) -> None:
        """Take an object as the watch tells of it. What is older than what is known is left out."""
        seen = queue_of(body)
        if seen.spec.queue_class != self._settings.queue_class:
            self._of_other_classes.add(seen.key)
            return
        entry = self._entries.get(seen.key)
        if entry is None or entry.object.uid != seen.uid:
            self._entries[seen.key] = _Entry(object=seen, seen_at=monotonic())
            settled = seen.status.observed_generation == seen.generation
            self.queue.add(seen.key, _urgency(seen, Priority.RESYNC if settled else Priority.CHANGE))
        elif entry.object.resource_version < seen.resource_version:
            asks_anew = _demands(entry.object) != _demands(seen)
            if asks_anew:
                entry.refusal = None
            differs = asks_anew or entry.object.status != seen.status
            entry.object = seen
            if differs:
                self.queue.add(seen.key, _urgency(seen, Priority.CHANGE))

    def object_gone(self, body: Body) -> None:
        """Take note that an object is no more."""
        gone = queue_of(body)
        self._of_other_classes.discard(gone.key)
        entry = self._entries.get(gone.key)
        if entry and entry.object.uid == gone.uid:
            self._forget(gone.key)

    def queue_changed(self, name: str) -> None:
        """Take note that a queue was made, changed or removed in the server, or that its counts changed."""
        entry = self._entries.get(key_of_queue(name))
        if entry is None:
            return
        queue = self.link.queues.get(name)
        if queue and queue.definition == _defined(entry, self._policy) and not entry.object.is_deleting:
            written = entry.object.status.messages
            if entry.object.status.epoch == queue.epoch and not counts_matter(
                written, queue.counts, entry.object.spec.limit
            ):
                return
            self.queue.add(entry.object.key, Priority.RESYNC)
            return
        if queue and entry.refusal and entry.refusal.is_final:
            entry.refusal = None
        self.queue.add(entry.object.key, _urgency(entry.object, Priority.CHANGE))

    def server_flipped(self) -> None:
        """Take note that the server came or went: every object is looked at, or once that is an outage."""
        away = self.link.server.is_away
        self._metrics.server_connected.set(0 if away else 1)
        if away:
            asyncio.get_running_loop().call_later(self._policy.outage_after, self.look_at_all)
            return
        for entry in self._entries.values():
            entry.refusal = None
        self.look_at_all()

    def look_at_all(self) -> None:
        """Have every object looked at: a look costs no call where all is well."""
        for key, entry in self._entries.items():
            settled = entry.object.status.observed_generation == entry.object.generation
            self.queue.add(key, _urgency(entry.object, Priority.RESYNC if settled else Priority.CHANGE))

    # Looking at it from outside

    def __len__(self) -> int:
        """Return how many objects there are."""
        return len(self._entries)

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
            step = next_step(self._known(entry), self._policy, time())
            if isinstance(step, Nothing):
                if step.until is not None:
                    self._look_again(key, step.until)
                return
            if isinstance(step, WriteStatus) and step.only_counts and not self._may_write_counts(entry):
                return
            log.debug("step", queue=str(key), step=type(step).__name__)
            await self._take(step, entry)
            if isinstance(step, Declare) and step.cause.is_repair:
                # All repairs go before the statuses that tell of them.
                self.queue.add(key, Priority.RETRY)
                return
        raise ApiError(0, f"it took {STEPS_IN_A_ROW} steps and is not done: is something else changing it?")

    def _known(self, entry: _Entry) -> Known:
        return Known(
            object=entry.object,
            server=self.link.server,
            queue=self.link.queues.get(entry.object.key.queue_name),
            refusal=entry.refusal,
            removed=entry.removed,
            home=entry.home,
            answered=entry.answered,
            counts_written_at=entry.counts_written_at,
        )

    def _look_again(self, key: Key, when: float) -> None:
        if when != float("inf"):
            self.queue.add_at(key, monotonic() + max(when - time(), 0.0), Priority.RESYNC)

    def _may_write_counts(self, entry: _Entry) -> bool:
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

    # The steps

    async def _take(self, step: Step, entry: _Entry) -> None:
        began = monotonic()
        result = "error"
        try:
            match step:
                case AddFinalizer():
                    await self._set_finalizers(entry, (*entry.object.finalizers, FINALIZER))
                case DropFinalizer():
                    await self._drop_finalizer(entry, step)
                case Declare():
                    await self._declare(entry, step)
                case Remove():
                    await self._remove(entry, step)
                case LookAround():
                    entry.home = await self._look_around(entry.object.key.namespace)
                case WriteStatus():
                    await self._write_status(entry, step)
            result = "ok"
        finally:
            self._metrics.steps.labels(type(step).__name__, result).observe(monotonic() - began)

    async def _declare(self, entry: _Entry, step: Declare) -> None:
        known = self._known(entry)
        asked = entry.object.reconcile_requested_at
        declaration = declaration_to_pb(step.definition, queue_id=entry.object.uid, adopt=step.adopt)
        result = await self.link.declare(declaration)
        if result.HasField("queue"):
            self.link.observe(queue_from_pb(result.queue))
        if result.outcome == pb.DeclareResult.OUTCOME_REFUSED:
            entry.refusal = self._refusal(entry, result.error)
            return
        entry.refusal = None
        entry.answered = asked
        self._metrics.declarations.labels(step.cause.value).inc()
        owner = known.queue.definition.owner if known.queue else None
        notice = notice_of_declaration(step, known, owner)
        if notice and result.outcome != pb.DeclareResult.OUTCOME_UNCHANGED:
            self._recorder.post(entry.object, notice)

    def _refusal(self, entry: _Entry, error: pb.Error) -> Refusal:
        is_final = error.code in _FINAL
        delay = 0.0 if is_final else self.queue.retry(entry.object.key)
        message = error.message or f"the server refused the declaration: {error.reason}"
        log.warning("the server refused a declaration", queue=str(entry.object.key), reason=error.reason, error=message)
        return Refusal(reason=error.reason, message=message, is_final=is_final, retry_at=time() + delay)

    async def _remove(self, entry: _Entry, step: Remove) -> None:
        name = entry.object.key.queue_name
        result = await self.link.remove(pb.QueueRemoval(queue_id=name, owner=owner_to_pb(step.owner)))
        removal = _REMOVALS[result.outcome]
        self._metrics.removals.labels(removal.value).inc()
        if removal is not Removal.REFUSED:
            self.link.forget(name)
        entry.removed = Removed(removal=removal, dropped=counts_from_pb(result.dropped), why=result.error.message)

    async def _set_finalizers(self, entry: _Entry, finalizers: tuple[str, ...]) -> bool:
        """Set the finalizers of an object; tell whether that was done, or else it is another by now."""
        an_object = entry.object
        try:
            body = await self._api.set_finalizers(an_object.key, an_object.uid, finalizers, an_object.resource_version)
        except ApiError as error:
            if error.is_conflict:
                # Somebody changed it meanwhile. To read it is sure; to wait for the watch is not.
                self._take_over(entry, await self._api.get_queue(an_object.key))
                return False
            if not error.is_gone:
                raise
            self._forget(an_object.key)
            return False
        self._take_over(entry, body)
        return True

    async def _drop_finalizer(self, entry: _Entry, step: DropFinalizer) -> None:
        an_object = entry.object
        finalizers = tuple(each for each in an_object.finalizers if each != FINALIZER)
        if not await self._set_finalizers(entry, finalizers):
            return
        if step.notice:
            self._recorder.post(an_object, step.notice)
            if step.notice.reason == LEFT:
                self._metrics.left.inc()
        if an_object.is_deleting and not finalizers:
            self._forget(an_object.key)

    async def _write_status(self, entry: _Entry, step: WriteStatus) -> None:
        an_object = entry.object
        patch = status_patch(an_object.status, step.status)
        try:
            body = await self._api.patch_status(an_object.key, an_object.uid, patch)
        except ApiError as error:
            if not (error.is_gone or error.is_conflict):
                raise
            # It was deleted, or is another object of the same name by now: the watch tells of that one.
            self._forget(an_object.key, an_object.uid)
            return
        if "messages" in patch:
            entry.counts_written_at = time()
        self._take_over(entry, body)
        if entry.object.status.is_ready and not an_object.status.is_ready and not an_object.status.queue_id:
            self._metrics.to_ready.observe(monotonic() - entry.seen_at)

    def _take_over(self, entry: _Entry, body: Body) -> None:
        """Take an object as an answer has it, unless the watch was faster."""
        answered = queue_of(body)
        if answered.uid != entry.object.uid:
            self._forget(entry.object.key, entry.object.uid)
        elif answered.resource_version > entry.object.resource_version:
            entry.object = answered

    async def _look_around(self, namespace: str) -> Home:
        """Find out about the namespace and the server's Service; many deletions in one namespace ask once."""
        known = self._homes.get(namespace)
        now = time()
        if known and now < known.seen_at + 1.0:
            return known
        home = Home(
            namespace_is_terminating=await self._is_terminating(namespace),
            server_is_gone=await self._server_is_gone(),
            seen_at=now,
        )
        self._homes = {each: kept for each, kept in self._homes.items() if now < kept.seen_at + 1.0}
        self._homes[namespace] = home
        return home

    async def _is_terminating(self, namespace: str) -> bool:
        try:
            body = await self._api.get_namespace(namespace)
        except ApiError as error:
            if error.is_gone:
                return True
            raise
        return "deletionTimestamp" in body["metadata"]

    async def _server_is_gone(self) -> bool:
        if not self._settings.server_service:
            return False
        namespace, _, name = self._settings.server_service.partition("/")
        try:
            body = await self._api.get_service(namespace, name)
        except ApiError as error:
            if error.is_gone:
                return True
            raise
        return "deletionTimestamp" in body["metadata"]

    def _forget(self, key: Key, uid: str | None = None) -> None:
        entry = self._entries.get(key)
        if entry and uid in {None, entry.object.uid}:
            del self._entries[key]
            self.queue.forget(key)


_REMOVALS = {
    pb.RemoveResult.OUTCOME_REMOVED: Removal.REMOVED,
    pb.RemoveResult.OUTCOME_ABSENT: Removal.ABSENT,
    pb.RemoveResult.OUTCOME_REFUSED: Removal.REFUSED,
}


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


def _defined(entry: _Entry, policy: Policy) -> object:
    return entry.object.spec.definition(entry.object.key.queue_name, policy.owner(entry.object))


def _urgency(an_object: QueueObject, otherwise: Priority) -> Priority:
    return Priority.DELETION if an_object.is_deleting else otherwise
