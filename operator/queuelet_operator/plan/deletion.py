"""How an object goes: what becomes of its queue, and when its finalizer is dropped.

There is always a way to the end: a deletion that waits for ever keeps a namespace from going, too.
"""

from __future__ import annotations

from dataclasses import replace

from queuelet_operator.plan.conditions import (
    Trouble,
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
    DropFinalizer,
    Home,
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

LOOK_AROUND_EVERY = 10.0
"""Seconds between two looks at the namespace and the Service of a deletion that waits."""

LEFT = "QueueLeft"
"""The reason of the Event that tells of a queue that is left in the server."""


def next_step_of_deletion(known: Known, policy: Policy, now: float) -> Step:
    """Return the next step of a deletion. It ends when the finalizer is dropped, and there is always a way to that."""
    if not known.object.has_finalizer:
        return Nothing()
    if known.removed:
        return DropFinalizer(notice=_notice_of_removal(known, policy, known.removed))
    if known.object.spec.deletion_policy is DeletionPolicy.RETAIN:
        return _retain(known, policy)
    trouble = current_outage(known, policy)
    if trouble and trouble.ends_work:
        return _release(trouble, known, policy, now)
    if known.object.spec.deletion_policy is DeletionPolicy.DRAIN:
        step = _drain(known, policy, now)
        if step:
            return step
    return Remove(owner=policy.owner(known.object))


def _retain(known: Known, policy: Policy) -> Step:
    """Return what lets go of an object whose queue stays: one that was drained is opened again, if that can be now."""
    an_object, queue, trouble = known.object, known.queue, current_outage(known, policy)
    if trouble and trouble.ends_work:
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
        message=f"queue {name} is left in the server, closed to new messages: it could not be opened again now",
        is_warning=True,
    )


def _drain(known: Known, policy: Policy, now: float) -> Step | None:
    """Return what a drain needs next, None once the queue may be removed."""
    an_object, queue = known.object, known.queue
    owner = policy.owner(an_object)
    if queue is None or not is_of_object(queue, owner):
        return None
    deadline = _drain_ends(an_object)
    if now >= deadline or (queue.definition.draining and not queue.counts.total):
        return None
    if not queue.definition.draining:
        return _close(known, queue, policy, now, deadline)
    if not _has_news(known.home, now):
        return LookAround()
    if known.home and known.home.namespace_is_terminating:
        return DropFinalizer(notice=_left_draining(an_object, queue))
    return _wait_for_drain(known, policy, now, deadline)


def _close(known: Known, queue: ObservedQueue, policy: Policy, now: float, deadline: float) -> Step:
    if known.refusal and (known.refusal.is_final or now < known.refusal.retry_at):
        return _wait(known, policy, verdict_when_declared(known, policy, now), now, deadline)
    # As it is, and not as the object asks for: what was asked for last may have been refused.
    return Declare(definition=replace(queue.definition, draining=True), cause=Cause.DRAIN)


def _left_draining(an_object: QueueObject, queue: ObservedQueue) -> Notice:
    return Notice(
        reason=LEFT,
        message=(
            f"the namespace is being deleted, so the drain is not waited for: queue {an_object.key.queue_name} "
            f"is left in the server, closed to new messages, with {queue.counts}"
        ),
        is_warning=True,
    )


def _wait_for_drain(known: Known, policy: Policy, now: float, deadline: float) -> Step:
    by_then = "" if deadline == float("inf") else f", or at {timestamp(deadline)} with what is left in it"
    verdict = Verdict(
        reason=Reason.DRAINING,
        message=(
            f"the queue takes no new messages and is removed once it is empty{by_then}; status.messages counts them"
        ),
        reconciling=True,
    )
    return _wait(known, policy, verdict, now, deadline)


def _wait(known: Known, policy: Policy, verdict: Verdict, now: float, deadline: float) -> Step:
    step = status_step(known, policy, verdict, now)
    if not isinstance(step, Nothing):
        return step
    return Nothing(until=min(deadline, now + LOOK_AROUND_EVERY, step.until or deadline))


def _drain_ends(an_object: QueueObject) -> float:
    if an_object.spec.drain_seconds is None or an_object.deleted_at is None:
        return float("inf")
    return an_object.deleted_at + an_object.spec.drain_seconds


def _release(trouble: Trouble, known: Known, policy: Policy, now: float) -> Step:
    """Return what to do for a deletion while the queue cannot be removed: let go at once, later, or wait."""
    if not _has_news(known.home, now):
        return LookAround()
    why = ""
    if known.home and known.home.namespace_is_terminating:
        why = f"the namespace is being deleted, and {trouble.what}"
    elif known.home and known.home.server_is_gone:
        why = "the Service of the server was deleted"
    elif now >= trouble.since + policy.release_after:
        why = trouble.what
    if why:
        return DropFinalizer(
            notice=Notice(
                reason=LEFT,
                message=f"{why}: queue {known.object.key.queue_name} may be left in it, with its messages",
                is_warning=True,
            )
        )
    step = report_outage(trouble, known, policy, now)
    if not isinstance(step, Nothing):
        return step
    return Nothing(until=min(trouble.since + policy.release_after, now + LOOK_AROUND_EVERY, step.until or float("inf")))


def _has_news(home: Home | None, now: float) -> bool:
    return home is not None and now < home.seen_at + LOOK_AROUND_EVERY


def _never_owned(known: Known, policy: Policy) -> bool:
    """Tell whether the queue of the object's name is another's, and no status said that it is the object's."""
    queue, an_object = known.queue, known.object
    return bool(queue and not is_owned(queue, policy.owner(an_object)) and not an_object.status.queue_id)


def _notice_of_removal(known: Known, policy: Policy, removed: Removed) -> Notice | None:
    name = known.object.key.queue_name
    if removed.removal is Removal.REFUSED:
        if _never_owned(known, policy):
            return None
        return Notice(reason=LEFT, message=f"queue {name} is left in the server: {removed.why}", is_warning=True)
    if removed.dropped and removed.dropped.total:
        messages = "1 message" if removed.dropped.total == 1 else f"{removed.dropped.total:,} messages"
        return Notice(
            reason="MessagesDropped",
            message=f"dropped queue {name} with {messages}: {removed.dropped}",
            is_warning=True,
        )
    return None
