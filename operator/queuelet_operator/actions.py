"""Executes steps: makes the calls to the queue server and to the API server that `plan/reconcile.py` decided on."""

from __future__ import annotations

from time import monotonic

import structlog

from queuelet import clock
from queuelet.backoff import next_backoff, with_jitter
from queuelet.errors import QueueletError, StoreFailed
from queuelet.values import DeclareOutcome, QueueRemoval, RemoveOutcome
from queuelet.wire.errors import Code, code_of, reason_of
from queuelet_operator.deletion_context import DeletionContextReader
from queuelet_operator.entry import Entry
from queuelet_operator.event_recorder import EventRecorder
from queuelet_operator.kubernetes_api import ApiError, KubernetesApi
from queuelet_operator.metrics import Metrics
from queuelet_operator.plan.deletion import LEFT
from queuelet_operator.plan.events import notice_of_declaration
from queuelet_operator.plan.model import (
    AddFinalizer,
    Cause,
    Declare,
    DropFinalizer,
    ReadDeletionContext,
    Refusal,
    Remove,
    Removed,
    Step,
    WriteStatus,
)
from queuelet_operator.plan.observed import observed_queue
from queuelet_operator.plan.resources import FINALIZER, Body, queue_of
from queuelet_operator.plan.status import status_patch
from queuelet_operator.server_link import ServerLink
from queuelet_operator.workqueue import FIRST_BACKOFF, MAX_BACKOFF

log = structlog.get_logger()

_FINAL = {Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION}


class Actions:
    """Executes steps and stores their results in the object's entry."""

    def __init__(
        self,
        api: KubernetesApi,
        link: ServerLink,
        contexts: DeletionContextReader,
        recorder: EventRecorder,
        metrics: Metrics,
    ) -> None:
        self._api = api
        self._link = link
        self._contexts = contexts
        self._recorder = recorder
        self._metrics = metrics

    async def execute(self, step: Step, entry: Entry) -> None:
        """Execute a step. Raises `ApiError` or `QueueletError` if a call fails."""
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
                case ReadDeletionContext():
                    entry.deletion_context = await self._contexts.read(entry.object.key.namespace)
                case WriteStatus():
                    await self._write_status(entry, step)
            result = "ok"
        finally:
            self._metrics.steps.labels(type(step).__name__, result).observe(monotonic() - began)

    async def learn_namespace(self, entry: Entry) -> None:
        """Look up the uid of an object's namespace unless that was done. Raises `ApiError` if that fails."""
        if entry.namespace_uid is None:
            namespace = entry.object.key.namespace
            entry.namespace_uid = await self._contexts.uid_of_namespace(namespace, seen_at=entry.seen_at)

    async def _declare(self, entry: Entry, step: Declare) -> None:
        asked = entry.object.reconcile_requested_at
        result = await self._link.declare(step.definition.declaration(queue_id=entry.object.uid, adopt=step.adopt))
        if result.queue:
            self._link.observe(observed_queue(result.queue))
            if not (result.queue.owner and result.queue.owner.namespace_uid):
                # The server runs an earlier version, which does not store it.
                entry.namespace_uid = ""
        if result.error:
            _check_store(result.error)
            self._refused(entry, result.error)
            return
        entry.refusal, entry.backoff = None, 0.0
        entry.handled_request = asked
        entry.obtained_by = how_obtained(entry.obtained_by, step.cause, result.outcome)
        self._metrics.declarations.labels(step.cause.value).inc()
        previous = result.previous_owner.name if result.previous_owner else ""
        notice = notice_of_declaration(step, previous)
        if notice and result.outcome is not DeclareOutcome.UNCHANGED:
            self._recorder.post(entry.object, notice)

    def _refused(self, entry: Entry, error: QueueletError) -> None:
        entry.backoff = next_backoff(entry.backoff, FIRST_BACKOFF, MAX_BACKOFF)
        reason = reason_of(error)
        entry.refusal = Refusal(
            reason=reason,
            message=error.message,
            is_final=code_of(error) in _FINAL,
            retry_at=clock.now() + with_jitter(entry.backoff),
        )
        log.warning("declaration refused", queue=str(entry.object.key), reason=reason, error=error.message)

    async def _remove(self, entry: Entry, step: Remove) -> None:
        name = entry.object.key.queue_name
        result = await self._link.remove(QueueRemoval(queue=name, owner=step.owner))
        if result.error:
            _check_store(result.error)
        self._metrics.removals.labels(result.outcome.value).inc()
        if result.outcome is not RemoveOutcome.REFUSED:
            self._link.forget(name)
        why = result.error.message if result.error else ""
        entry.removed = Removed(outcome=result.outcome, dropped=result.dropped, why=why)

    async def _set_finalizers(self, entry: Entry, finalizers: tuple[str, ...]) -> bool:
        """Set the finalizers of an object. Return False if it changed meanwhile; then the entry has the new version."""
        an_object = entry.object
        try:
            body = await self._api.set_finalizers(an_object.key, an_object.uid, finalizers, an_object.resource_version)
        except ApiError as error:
            await self._reread(entry, error)
            return False
        self._update_entry(entry, body)
        return True

    async def _reread(self, entry: Entry, error: ApiError) -> None:
        """Read an object again after a write failed because it was changed or deleted. Raise any other error."""
        an_object = entry.object
        if not (error.is_gone or error.is_conflict):
            raise error
        try:
            # Instead of waiting for the watch, which may be late or interrupted.
            self._update_entry(entry, await self._api.get_queue(an_object.key))
        except ApiError as gone:
            if not gone.is_gone:
                raise
            entry.is_gone = True

    async def _drop_finalizer(self, entry: Entry, step: DropFinalizer) -> None:
        an_object = entry.object
        finalizers = tuple(each for each in an_object.finalizers if each != FINALIZER)
        if step.notice and not entry.is_end_reported:
            # Before the patch, because the response to that may be lost, and the Event is already true.
            entry.is_end_reported = True
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
            await self._reread(entry, error)
            return
        if step.notice:
            self._recorder.post(an_object, step.notice)
        if "messages" in patch:
            entry.counts_written_at = clock.now()
        self._update_entry(entry, body)
        if entry.object.status.is_ready and not an_object.status.is_ready and not an_object.status.queue_id:
            self._metrics.to_ready.observe(monotonic() - entry.seen_at)

    def _update_entry(self, entry: Entry, body: Body) -> None:
        """Update an entry from a response of the API server, unless the watch was faster."""
        received = queue_of(body)
        if received.uid != entry.object.uid:
            # Another object with the same name, which the watch will report.
            entry.is_gone = True
        elif received.resource_version > entry.object.resource_version:
            entry.object = received


def how_obtained(before: Cause | None, cause: Cause, outcome: DeclareOutcome) -> Cause | None:
    """Return how an object obtained its queue, after a declaration that the server accepted."""
    if before is Cause.ADOPTED or not cause.gets_queue or outcome is DeclareOutcome.UNCHANGED:
        return before
    # A queue that was to be adopted may have been deleted before: then the declaration created a new one.
    return Cause.CREATED if outcome is DeclareOutcome.CREATED else cause


def _check_store(error: QueueletError) -> None:
    """Raise the error if a store failed, so that the call is retried after the recovery."""
    if isinstance(error, StoreFailed):
        raise error
