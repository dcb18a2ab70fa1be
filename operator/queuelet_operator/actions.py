"""Steps, taken: the calls to the queue server and to the API server that `reconcile` asks for."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

import structlog

from queuelet import clock
from queuelet.errors import StoreFailed
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import Code
from queuelet.wire.values import owner_to_pb
from queuelet_operator.deletion_context import Surroundings
from queuelet_operator.event_recorder import Recorder
from queuelet_operator.kubernetes_api import ApiError, KubernetesApi
from queuelet_operator.metrics import Metrics
from queuelet_operator.plan.deletion import LEFT
from queuelet_operator.plan.events import notice_of_declaration
from queuelet_operator.plan.model import (
    AddFinalizer,
    Cause,
    Declare,
    DropFinalizer,
    Home,
    LookAround,
    Refusal,
    Removal,
    Remove,
    Removed,
    Step,
    WriteStatus,
)
from queuelet_operator.plan.observed import counts_from_pb, declaration_to_pb, queue_from_pb
from queuelet_operator.plan.resources import FINALIZER, Body, QueueObject, queue_of
from queuelet_operator.plan.status import status_patch
from queuelet_operator.server_link import ServerLink
from queuelet_operator.workqueue import backoff

log = structlog.get_logger()

_FINAL = {Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION}


@dataclass(slots=True)
class Entry:
    """An object and what this process has learnt about it since it started."""

    object: QueueObject
    seen_at: float
    refusal: Refusal | None = None
    removed: Removed | None = None
    home: Home | None = None
    refusals: int = 0
    """How often in a row its declaration was refused."""

    answered: str = ""
    got: Cause | None = None
    """How it came by its queue. An adoption stays until the status tells of it, as it is the only one it may have."""

    steps_left: float = 0.0
    steps_left_at: float = float("-inf")
    """How many steps it might take at once, and when that was, of the monotonic clock."""

    is_told: bool = False
    """Whether the Event about its end was posted."""

    is_gone: bool = False
    """Whether it was deleted, as an answer told, or as another of its name is there."""
    namespace_uid: str | None = None
    """The uid of its namespace; None as long as it was not looked up, empty where that cannot be used."""

    counts_written_at: float = 0.0
    counts_turn: float | None = None
    """When a write for counts alone has its turn, of the monotonic clock; None where none waits for it."""


class Actions:
    """Takes steps. What becomes known by one is noted in the object's entry."""

    def __init__(
        self, api: KubernetesApi, link: ServerLink, surroundings: Surroundings, recorder: Recorder, metrics: Metrics
    ) -> None:
        """Take what is called, and where to tell of it."""
        self._api = api
        self._link = link
        self._surroundings = surroundings
        self._recorder = recorder
        self._metrics = metrics

    async def take(self, step: Step, entry: Entry) -> None:
        """Take a step. Raises `ApiError` or `QueueletError` where a call fails."""
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
                    entry.home = await self._surroundings.look_around(entry.object.key.namespace)
                case WriteStatus():
                    await self._write_status(entry, step)
            result = "ok"
        finally:
            self._metrics.steps.labels(type(step).__name__, result).observe(monotonic() - began)

    async def learn_namespace(self, entry: Entry) -> None:
        """Look up the uid of an object's namespace, once for each object. Raises `ApiError`."""
        if entry.namespace_uid is None:
            namespace = entry.object.key.namespace
            entry.namespace_uid = await self._surroundings.uid_of_namespace(namespace, seen_at=entry.seen_at)

    async def _declare(self, entry: Entry, step: Declare) -> None:
        asked = entry.object.reconcile_requested_at
        declaration = declaration_to_pb(step.definition, queue_id=entry.object.uid, adopt=step.adopt)
        result = await self._link.declare(declaration)
        if result.HasField("queue"):
            self._link.observe(queue_from_pb(result.queue))
            if not result.queue.owner.namespace_uid:
                # The server is of an earlier version, and does not keep it.
                entry.namespace_uid = ""
        if result.outcome == pb.DeclareResult.OUTCOME_REFUSED:
            _check_store(result.error)
            self._refused(entry, result.error)
            return
        entry.refusal, entry.refusals = None, 0
        entry.answered = asked
        entry.got = how_it_was_got(entry.got, step.cause, result.outcome)
        self._metrics.declarations.labels(step.cause.value).inc()
        previous = result.previous_owner.name if result.HasField("previous_owner") else ""
        notice = notice_of_declaration(step, previous)
        if notice and result.outcome != pb.DeclareResult.OUTCOME_UNCHANGED:
            self._recorder.post(entry.object, notice)

    def _refused(self, entry: Entry, error: pb.Error) -> None:
        entry.refusals += 1
        message = error.message or f"the server refused the declaration: {error.reason}"
        entry.refusal = Refusal(
            reason=error.reason,
            message=message,
            is_final=error.code in _FINAL,
            retry_at=clock.now() + backoff(entry.refusals),
        )
        log.warning("the server refused a declaration", queue=str(entry.object.key), reason=error.reason, error=message)

    async def _remove(self, entry: Entry, step: Remove) -> None:
        name = entry.object.key.queue_name
        result = await self._link.remove(pb.QueueRemoval(queue_id=name, owner=owner_to_pb(step.owner)))
        removal = _REMOVALS[result.outcome]
        if removal is Removal.REFUSED:
            _check_store(result.error)
        self._metrics.removals.labels(removal.value).inc()
        if removal is not Removal.REFUSED:
            self._link.forget(name)
        entry.removed = Removed(removal=removal, dropped=counts_from_pb(result.dropped), why=result.error.message)

    async def _set_finalizers(self, entry: Entry, finalizers: tuple[str, ...]) -> bool:
        """Set the finalizers of an object; tell whether that was done, or else it is another by now."""
        an_object = entry.object
        try:
            body = await self._api.set_finalizers(an_object.key, an_object.uid, finalizers, an_object.resource_version)
        except ApiError as error:
            await self._read_anew(entry, error)
            return False
        self._take_over(entry, body)
        return True

    async def _read_anew(self, entry: Entry, error: ApiError) -> None:
        """Read an object again of which a write was refused as it was changed meanwhile. Raises any other refusal."""
        an_object = entry.object
        if not (error.is_gone or error.is_conflict):
            raise error
        try:
            # To read it is sure; to wait for the watch is not.
            self._take_over(entry, await self._api.get_queue(an_object.key))
        except ApiError as gone:
            if not gone.is_gone:
                raise
            entry.is_gone = True

    async def _drop_finalizer(self, entry: Entry, step: DropFinalizer) -> None:
        an_object = entry.object
        finalizers = tuple(each for each in an_object.finalizers if each != FINALIZER)
        if step.notice and not entry.is_told:
            # Before, as it is true by now, and as the answer to what follows may be lost.
            entry.is_told = True
            self._recorder.post(an_object, step.notice)
            if step.notice.reason == LEFT:
                self._metrics.left.inc()
        if not await self._set_finalizers(entry, finalizers):
            return
        if an_object.is_deleting and not finalizers:
            entry.is_gone = True

    async def _write_status(self, entry: Entry, step: WriteStatus) -> None:
        an_object = entry.object
        patch = status_patch(an_object.status, step.status)
        try:
            body = await self._api.patch_status(an_object.key, an_object.uid, patch)
        except ApiError as error:
            await self._read_anew(entry, error)
            return
        if step.notice:
            self._recorder.post(an_object, step.notice)
        if "messages" in patch:
            entry.counts_written_at = clock.now()
        self._take_over(entry, body)
        if entry.object.status.is_ready and not an_object.status.is_ready and not an_object.status.queue_id:
            self._metrics.to_ready.observe(monotonic() - entry.seen_at)

    def _take_over(self, entry: Entry, body: Body) -> None:
        """Take an object as an answer has it, unless the watch was faster."""
        answered = queue_of(body)
        if answered.uid != entry.object.uid:
            # Another object of the same name, of which the watch tells.
            entry.is_gone = True
        elif answered.resource_version > entry.object.resource_version:
            entry.object = answered


def how_it_was_got(before: Cause | None, cause: Cause, outcome: pb.DeclareResult.Outcome) -> Cause | None:
    """Return how an object came by its queue, after a declaration that the server took."""
    if before is Cause.ADOPTED or not cause.gets_queue or outcome == pb.DeclareResult.OUTCOME_UNCHANGED:
        return before
    # The queue of another may be gone by the time that it was to be adopted: then it was made.
    return Cause.CREATED if outcome == pb.DeclareResult.OUTCOME_CREATED else cause


def _check_store(error: pb.Error) -> None:
    """Raise `StoreFailed` if that is why the server refused: then the call is made again when the store is back."""
    if error.reason == StoreFailed.reason:
        raise StoreFailed(error.message)


_REMOVALS = {
    pb.RemoveResult.OUTCOME_REMOVED: Removal.REMOVED,
    pb.RemoveResult.OUTCOME_ABSENT: Removal.ABSENT,
    pb.RemoveResult.OUTCOME_REFUSED: Removal.REFUSED,
}
