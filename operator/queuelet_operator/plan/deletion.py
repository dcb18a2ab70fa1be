"""The next step of an object that is being deleted: what happens to its queue, and when its finalizer is removed.

Every deletion ends, even if the server never comes back, because a Queue that is never deleted blocks the deletion of
its namespace too.
"""

from __future__ import annotations

from dataclasses import replace

from queuelet_operator.plan.conditions import (
    Outage,
    Verdict,
    current_outage,
    is_of_object,
    is_owned,
    report_outage,
    status_step,
    verdict_when_declared,
)
from queuelet_operator.plan.model import (
    Cause,
    Declare,
    DeletionContext,
    DropFinalizer,
    Known,
    LookAround,
    Nothing,
    Notice,
    Policy,
    Reason,
    Removal,
    Remove,
    Removed,
    Step,
)
from queuelet_operator.plan.observed import ObservedQueue
from queuelet_operator.plan.resources import DeletionPolicy, QueueObject
from queuelet_operator.plan.status import timestamp

CONTEXT_MAX_AGE = 10.0
"""Seconds after which a waiting deletion looks up its `DeletionContext` again."""

LEFT = "QueueLeft"
"""The reason of the Event that reports a queue that remains on the server."""


def next_step_of_deletion(known: Known, policy: Policy, now: float) -> Step:
    """Return the next step of a deletion. The last one removes the finalizer."""
    if not known.object.has_finalizer:
        return Nothing()
    if known.removed:
        return DropFinalizer(notice=_notice_of_removal(known, policy, known.removed))
    if known.object.spec.deletion_policy is DeletionPolicy.RETAIN:
        return _retain(known, policy)
    outage = current_outage(known, policy)
    if outage and outage.blocks_calls:
        return _release(outage, known, policy, now)
    if known.object.spec.deletion_policy is DeletionPolicy.DRAIN:
        step = _drain(known, policy, now)
        if step:
            return step
    return Remove(owner=policy.owner(known.object))


def _retain(known: Known, policy: Policy) -> Step:
    """Return the next step if the queue is retained. A drain that had begun is undone first if that is possible."""
    an_object, queue, outage = known.object, known.queue, current_outage(known, policy)
    if outage and outage.blocks_calls:
        was_drained = an_object.status.reason == Reason.DRAINING
        return DropFinalizer(notice=_left_closed(an_object) if was_drained else None)
    if queue is None or not is_of_object(queue, policy.owner(an_object)) or not queue.definition.draining:
        return DropFinalizer()
    if known.refusal:
        return DropFinalizer(notice=_left_closed(an_object))
    return Declare(definition=replace(queue.definition, draining=False), cause=Cause.CHANGED)


def _left_closed(an_object: QueueObject) -> Notice:
    name = an_object.key.queue_name
    return Notice(
        reason=LEFT,
        message=f"queue {name} remains on the server, closed to new messages, because it could not be reopened",
        is_warning=True,
    )


def _drain(known: Known, policy: Policy, now: float) -> Step | None:
    """Return the next step of a drain, None once the queue may be removed."""
    an_object, queue = known.object, known.queue
    owner = policy.owner(an_object)
    if queue is None or not is_of_object(queue, owner):
        return None
    deadline = _drain_ends(an_object)
    if now >= deadline or (queue.definition.draining and not queue.counts.total):
        return None
    if not queue.definition.draining:
        return _close(known, queue, policy, now, deadline)
    if not _is_fresh(known.deletion_context, now):
        return LookAround()
    if known.deletion_context and known.deletion_context.namespace_is_terminating:
        return DropFinalizer(notice=_left_draining(an_object, queue))
    return _wait_for_drain(known, policy, now, deadline)


def _close(known: Known, queue: ObservedQueue, policy: Policy, now: float, deadline: float) -> Step:
    if known.refusal and (known.refusal.is_final or now < known.refusal.retry_at):
        return _wait(known, policy, verdict_when_declared(known, policy, now), now, deadline)
    # With its present definition instead of the wanted one, because the server may have refused that.
    return Declare(definition=replace(queue.definition, draining=True), cause=Cause.DRAIN)


def _left_draining(an_object: QueueObject, queue: ObservedQueue) -> Notice:
    return Notice(
        reason=LEFT,
        message=(
            f"the namespace is being deleted, so its deletion does not wait for the drain: queue "
            f"{an_object.key.queue_name} remains on the server, closed to new messages, with {queue.counts}"
        ),
        is_warning=True,
    )


def _wait_for_drain(known: Known, policy: Policy, now: float, deadline: float) -> Step:
    by_then = "" if deadline == float("inf") else f", or at {timestamp(deadline)} with the messages left"
    verdict = Verdict(
        reason=Reason.DRAINING,
        message=(
            f"the queue refuses new messages and is removed once it is empty{by_then}; status.messages counts them"
        ),
        reconciling=True,
    )
    return _wait(known, policy, verdict, now, deadline)


def _wait(known: Known, policy: Policy, verdict: Verdict, now: float, deadline: float) -> Step:
    step = status_step(known, policy, verdict, now)
    if not isinstance(step, Nothing):
        return step
    return Nothing(until=min(deadline, now + CONTEXT_MAX_AGE, step.until or deadline))


def _drain_ends(an_object: QueueObject) -> float:
    if an_object.spec.drain_seconds is None or an_object.deleted_at is None:
        return float("inf")
    return an_object.deleted_at + an_object.spec.drain_seconds


def _release(outage: Outage, known: Known, policy: Policy, now: float) -> Step:
    """Return the next step of a deletion during an outage: remove the finalizer without the queue, or wait."""
    if not _is_fresh(known.deletion_context, now):
        return LookAround()
    why = ""
    if known.deletion_context and known.deletion_context.namespace_is_terminating:
        why = f"the namespace is being deleted, and {outage.clause}"
    elif known.deletion_context and known.deletion_context.server_is_gone:
        why = "the Service of the server was deleted"
    elif now >= outage.since + policy.release_after:
        why = outage.clause
    if why:
        return DropFinalizer(
            notice=Notice(
                reason=LEFT,
                message=f"{why}: queue {known.object.key.queue_name} may remain on the server, with its messages",
                is_warning=True,
            )
        )
    step = report_outage(outage, known, policy, now)
    if not isinstance(step, Nothing):
        return step
    return Nothing(until=min(outage.since + policy.release_after, now + CONTEXT_MAX_AGE, step.until or float("inf")))


def _is_fresh(context: DeletionContext | None, now: float) -> bool:
    return context is not None and now < context.seen_at + CONTEXT_MAX_AGE


def _never_owned(known: Known, policy: Policy) -> bool:
    """Return whether the queue with the object's name has another owner and never belonged to the object."""
    queue, an_object = known.queue, known.object
    return bool(queue and not is_owned(queue, policy.owner(an_object)) and not an_object.status.queue_id)


def _notice_of_removal(known: Known, policy: Policy, removed: Removed) -> Notice | None:
    name = known.object.key.queue_name
    if removed.removal is Removal.REFUSED:
        if _never_owned(known, policy):
            return None
        return Notice(reason=LEFT, message=f"queue {name} remains on the server: {removed.why}", is_warning=True)
    if removed.dropped and removed.dropped.total:
        messages = "1 message" if removed.dropped.total == 1 else f"{removed.dropped.total:,} messages"
        return Notice(
            reason="MessagesDropped",
            message=f"dropped queue {name} with {messages}: {removed.dropped}",
            is_warning=True,
        )
    return None
