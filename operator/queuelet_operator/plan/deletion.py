"""The next step of an object that is being deleted: what happens to its queue, and when its finalizer is removed.

Every deletion ends, even if the server never comes back, because a Queue that is never deleted blocks the deletion of
its namespace too.
"""

from __future__ import annotations

from dataclasses import replace

from queuelet.values import RemoveOutcome
from queuelet_operator.plan.conditions import (
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
    Nothing,
    Notice,
    Policy,
    ReadDeletionContext,
    Reason,
    Remove,
    Removed,
    Step,
    Verdict,
)
from queuelet_operator.plan.observed import ObservedQueue
from queuelet_operator.plan.resources import DeletionPolicy, QueueObject
from queuelet_operator.plan.situation import Outage, Situation
from queuelet_operator.plan.status import timestamp

MAX_CONTEXT_AGE = 10.0
"""Seconds after which a waiting deletion looks up its `DeletionContext` again."""

LEFT = "QueueLeft"
"""The reason of the Event that reports a queue that remains on the server."""


def next_step_of_deletion(situation: Situation) -> Step:
    """Return the next step of a deletion. The last one removes the finalizer."""
    known, policy, outage = situation.known, situation.policy, situation.outage
    if not known.object.has_finalizer:
        return Nothing()
    if known.removed:
        return DropFinalizer(notice=_notice_of_removal(known, policy, known.removed))
    if known.object.spec.deletion_policy is DeletionPolicy.RETAIN:
        return _retain(situation)
    if outage and outage.blocks_calls:
        return _release(situation, outage)
    if known.object.spec.deletion_policy is DeletionPolicy.DRAIN:
        step = _drain(situation)
        if step:
            return step
    return Remove(owner=policy.owner(known.object))


def _retain(situation: Situation) -> Step:
    """Return the next step if the queue is retained. A drain that had begun is undone first if that is possible."""
    an_object, queue, outage = situation.known.object, situation.known.queue, situation.outage
    if outage and outage.blocks_calls:
        was_drained = an_object.status.reason == Reason.DRAINING
        return DropFinalizer(notice=_left_closed(an_object) if was_drained else None)
    if queue is None or not queue.definition.draining or not is_of_object(queue, situation.policy.owner(an_object)):
        return DropFinalizer()
    if situation.known.refusal:
        return DropFinalizer(notice=_left_closed(an_object))
    return Declare(definition=replace(queue.definition, draining=False), cause=Cause.CHANGED)


def _left_closed(an_object: QueueObject) -> Notice:
    name = an_object.key.queue_name
    return Notice(
        reason=LEFT,
        message=f"queue {name} remains on the server, closed to new messages, because it could not be reopened",
        is_warning=True,
    )


def _drain(situation: Situation) -> Step | None:
    """Return the next step of a drain, None once the queue may be removed."""
    an_object, queue, context = situation.known.object, situation.known.queue, situation.known.deletion_context
    if queue is None or not is_of_object(queue, situation.policy.owner(an_object)):
        return None
    deadline = _drain_ends(an_object)
    if situation.now >= deadline or (queue.definition.draining and not queue.counts.total):
        return None
    if not queue.definition.draining:
        return _close(situation, queue, deadline)
    if context is None or not _is_fresh(context, situation.now):
        return ReadDeletionContext()
    if context.namespace_is_terminating:
        return DropFinalizer(notice=_left_draining(an_object, queue))
    return _wait_for_drain(situation, deadline)


def _close(situation: Situation, queue: ObservedQueue, deadline: float) -> Step:
    if situation.is_refused:
        return _wait(situation, verdict_when_declared(situation), deadline)
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


def _wait_for_drain(situation: Situation, deadline: float) -> Step:
    by_then = "" if deadline == float("inf") else f", or at {timestamp(deadline)} with the messages left"
    verdict = Verdict(
        reason=Reason.DRAINING,
        message=(
            f"the queue refuses new messages and is removed once it is empty{by_then}; status.messages counts them"
        ),
        reconciling=True,
    )
    return _wait(situation, verdict, deadline)


def _wait(situation: Situation, verdict: Verdict, deadline: float) -> Step:
    step = status_step(situation, verdict)
    if not isinstance(step, Nothing):
        return step
    return Nothing(until=min(deadline, situation.now + MAX_CONTEXT_AGE, step.until or deadline))


def _drain_ends(an_object: QueueObject) -> float:
    if an_object.spec.drain_seconds is None or an_object.deleted_at is None:
        return float("inf")
    return an_object.deleted_at + an_object.spec.drain_seconds


def _release(situation: Situation, outage: Outage) -> Step:
    """Return the next step of a deletion during an outage: remove the finalizer without the queue, or wait."""
    context, give_up_at = situation.known.deletion_context, outage.since + situation.policy.release_after
    if context is None or not _is_fresh(context, situation.now):
        return ReadDeletionContext()
    why, name = "", situation.known.object.key.queue_name
    if context.namespace_is_terminating:
        why = f"the namespace is being deleted, and {outage.clause}"
    elif context.server_is_gone:
        why = "the Service of the server was deleted"
    elif situation.now >= give_up_at:
        why = outage.clause
    if why:
        return DropFinalizer(
            notice=Notice(
                reason=LEFT,
                message=f"{why}: queue {name} may remain on the server, with its messages",
                is_warning=True,
            )
        )
    step = report_outage(situation, outage)
    if not isinstance(step, Nothing):
        return step
    return Nothing(until=min(give_up_at, situation.now + MAX_CONTEXT_AGE, step.until or give_up_at))


def _is_fresh(context: DeletionContext, now: float) -> bool:
    return now < context.seen_at + MAX_CONTEXT_AGE


def _never_owned(known: Known, policy: Policy) -> bool:
    """Return whether the queue with the object's name has another owner and never belonged to the object."""
    queue, an_object = known.queue, known.object
    return bool(queue and not is_owned(queue, policy.owner(an_object)) and not an_object.status.queue_id)


def _notice_of_removal(known: Known, policy: Policy, removed: Removed) -> Notice | None:
    name = known.object.key.queue_name
    if removed.outcome is RemoveOutcome.REFUSED:
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
