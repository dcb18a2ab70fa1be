"""Decides the status of a Queue: its conditions, and the observed state of its queue.

A `Verdict` says what the conditions should be. `blocking_verdict`, `verdict_when_paused` and `verdict_when_declared`
return one, and `status_step` turns it into a write, or into nothing if the status says so already.
"""

from __future__ import annotations

from dataclasses import replace

from queuelet.definition import Counts, Owner, StoreKind
from queuelet_operator.plan.declared import Declared
from queuelet_operator.plan.model import Cause, Known, Nothing, Notice, Policy, Reason, Verdict, WriteStatus
from queuelet_operator.plan.observed import ObservedQueue
from queuelet_operator.plan.resources import ADOPT, PAUSED, QueueObject
from queuelet_operator.plan.situation import Outage, Situation
from queuelet_operator.plan.status import (
    READY,
    RECONCILING,
    STALLED,
    Condition,
    Effective,
    QueueStatus,
    with_condition,
    without_condition,
)

MAX_MESSAGE_CHARACTERS = 2_048
"""Characters of a condition's message. Longer ones are truncated, because some of them quote the server."""

_FACTOR = 2
_SHARE_OF_LIMIT = 10

_SETTINGS = {
    StoreKind.MEMORY: "that store",
    StoreKind.DISK: "--data-dir (in the chart: server.persistence.enabled)",
    StoreKind.POSTGRES: "--postgres-file (in the chart: server.postgres.secretName)",
}
"""What a server without a store lacks."""

_OUTAGE_REASONS = {Reason.SERVER_UNAVAILABLE, Reason.STORE_FULL, Reason.STORE_FAILED, Reason.STORE_UNAVAILABLE}
"""Reasons that may describe an outage: a queue that was ready before is ready again after it."""


def blocking_verdict(situation: Situation) -> Verdict | None:
    """Return the verdict if only a change of the object or of the server's configuration can help, else None."""
    known, policy = situation.known, situation.policy
    an_object, queue, epochs = known.object, known.queue, known.server.epochs or {}
    store = an_object.spec.store
    if queue and not is_owned(queue, policy.owner(an_object)) and not _may_adopt(known):
        return _not_owner(known, queue.definition.owner, policy.owner(an_object))
    if queue and queue.definition.store != store:
        return Verdict(
            reason=Reason.STORE_MISMATCH,
            message=(
                f"spec.store: the queue is in store {queue.definition.store.name.title()} and cannot move to "
                f"{store.name.title()}; delete this Queue, which keeps the queue, and apply it with that store, or "
                "use another name"
            ),
            stalled=True,
            clears_queue=True,
        )
    if store not in epochs:
        return Verdict(
            reason=Reason.STORE_UNAVAILABLE,
            message=(
                f"spec.store: the server at {policy.address} has no store {store.name.title()}; start it with "
                f"{_SETTINGS[store]}, or delete this Queue and apply it with another"
            ),
            stalled=True,
        )
    return None


def _not_owner(known: Known, owner: Owner | None, wanted: Owner) -> Verdict:
    whose = f"belongs to {owner.name}" if owner else "has no owner, because it was created by hand"
    if owner and owner.name == wanted.name:
        whose = f"belongs to {owner.name} of an earlier namespace with this name, whose uid was {owner.namespace_uid}"
    if _has_used_adoption(known):
        help_ = (
            "this Queue adopted it once (status.adoptedAt) and cannot do so again: delete the Queue, which keeps the "
            f'queue, and apply it again with the annotation {ADOPT}: "true"'
        )
    else:
        help_ = f'to adopt it with its messages, set the annotation {ADOPT}: "true"'
    return Verdict(
        reason=Reason.NOT_OWNER,
        message=f"queue {known.object.key.queue_name} already exists and {whose}; {help_}",
        stalled=True,
        clears_queue=True,
    )


def is_owned(queue: ObservedQueue, owner: Owner | None) -> bool:
    """Return whether a queue belongs to an object with this name in this namespace, current or earlier."""
    present = queue.definition.owner
    return present is not None and owner is not None and present.may_be(owner)


def is_of_object(queue: ObservedQueue, owner: Owner) -> bool:
    """Return whether a queue belongs to exactly this object and not to an earlier one with its name."""
    present = queue.definition.owner
    return present is not None and is_owned(queue, owner) and present.uid == owner.uid


def _may_adopt(known: Known) -> bool:
    return known.object.adopts and not _has_used_adoption(known)


def _has_used_adoption(known: Known) -> bool:
    """Return whether the object adopted a queue before, even if that is not written to its status yet."""
    return bool(known.object.status.adopted_at) or known.obtained_by is Cause.ADOPTED


def _has_adopted(known: Known, policy: Policy) -> bool:
    """Return whether the object obtained its queue by adoption."""
    if known.obtained_by:
        return known.obtained_by is Cause.ADOPTED
    # The operator that adopted the queue may have stopped before it wrote the status. Two signs show it then: the queue
    # has the ID of another object, or the status still says NotOwner. If in doubt, the adoption counts as used, because
    # it must not happen twice.
    an_object, queue = known.object, known.queue
    if not (an_object.adopts and queue and is_of_object(queue, policy.owner(an_object))):
        return False
    return queue.id not in {an_object.uid, an_object.status.queue_id} or an_object.status.reason == Reason.NOT_OWNER


def verdict_when_paused(situation: Situation) -> Verdict:
    """Return the verdict for a paused object. It reports outages and losses, although the operator does nothing."""
    known, outage = situation.known, situation.outage
    as_before = _verdict_of_pause(ready=_ready_before(known.object))
    if outage and outage.blocks_calls:
        return _keep_message_of_outage(known, outage) if situation.reports_outage else as_before
    if _has_lost_store(known):
        return _lost_while_paused(known)
    if outage and situation.reports_outage:
        return _keep_message_of_outage(known, outage)
    if known.object.status.queue_id and not _has_its_queue(known, situation.policy):
        return _verdict_of_pause(
            ready="False",
            but="; the queue with the id status.queueID no longer exists, or has another owner",
            clears_counts=True,
        )
    return as_before


def _verdict_of_pause(*, ready: str, but: str = "", clears_counts: bool = False) -> Verdict:
    return Verdict(
        reason=Reason.PAUSED,
        message=f"the annotation {PAUSED} is set; until it is removed, the operator leaves the queue unchanged{but}",
        ready=ready,
        clears_counts=clears_counts,
    )


def _ready_before(an_object: QueueObject) -> str:
    """Return the status of Ready from when the object was paused, ignoring outages that were reported since."""
    was = an_object.status.condition(READY)
    if was is None or not an_object.status.queue_id:
        return "False"
    return "True" if was.reason in _OUTAGE_REASONS else was.status


def _has_its_queue(known: Known, policy: Policy) -> bool:
    """Return whether the queue that the status describes still exists and belongs to the object."""
    queue, an_object = known.queue, known.object
    return queue is not None and queue.id == an_object.status.queue_id and is_owned(queue, policy.owner(an_object))


def _has_lost_store(known: Known) -> bool:
    """Return whether the server's store is not the one that the status describes."""
    was, is_ = known.object.status.epoch, (known.server.epochs or {}).get(known.object.spec.store)
    return bool(was) and is_ is not None and was != is_


def _lost_while_paused(known: Known) -> Verdict:
    lost = _lost(known)
    message = f"{lost.message}; the annotation {PAUSED} is set, so the operator does not repair this"
    is_first = known.object.status.reason != Reason.SERVER_STATE_LOST
    notice = lost.notice if is_first else None
    return _keep_message(known, replace(lost, message=message, reconciling=False, clears_counts=True, notice=notice))


def verdict_when_declared(situation: Situation) -> Verdict:
    """Return the verdict for an object whose queue was declared: refused, lost, in an outage, or ready."""
    known, outage, refusal = situation.known, situation.outage, situation.known.refusal
    if refusal:
        return Verdict(
            reason=Reason.REFUSED if refusal.reason != "NOT_OWNER" else Reason.NOT_OWNER,
            message=refusal.message,
            stalled=refusal.is_final,
            reconciling=not refusal.is_final,
        )
    if is_of_another_store(known) and known.object.status.reason != Reason.SERVER_STATE_LOST:
        return _lost(known)
    if outage and situation.reports_outage:
        return _keep_message_of_outage(known, outage)
    return Verdict(reason=Reason.READY, message="the queue exists as declared", ready="True")


def is_of_another_store(known: Known) -> bool:
    """Return whether the queue's store is not the one that the status describes: it was lost, or a backup restored."""
    return known.queue is not None and known.object.status.epoch not in {"", known.queue.epoch}


def _lost(known: Known) -> Verdict:
    queue, counted = known.queue, known.object.status.messages
    held = "an unknown number of messages" if counted is None else f"{counted} when last counted"
    message = (
        f"the server's store was lost or replaced, for example by a backup; this queue held {held}, and now holds "
        f"{queue.counts if queue else Counts()}"
    )
    return Verdict(
        reason=Reason.SERVER_STATE_LOST,
        message=message,
        reconciling=True,
        notice=Notice(reason=Reason.SERVER_STATE_LOST.value, message=message, is_warning=True),
    )


def report_outage(situation: Situation, outage: Outage) -> Nothing | WriteStatus:
    """Return the write that reports an outage in the status, or `Nothing` until it has lasted long enough."""
    if not situation.reports_outage:
        return Nothing(until=situation.report_outage_at)
    return status_step(situation, _keep_message_of_outage(situation.known, outage))


def _keep_message_of_outage(known: Known, outage: Outage) -> Verdict:
    """Return the outage's verdict, but keep the message of the status if it names the same cause.

    Each operator process measures the start of an outage itself, and a different start time alone justifies no write.
    """
    old = known.object.status.condition(READY)
    if old and old.reason == outage.verdict.reason and old.message.endswith(_end_of_sentence(outage.cause)):
        return replace(outage.verdict, message=old.message)
    return outage.verdict


def _end_of_sentence(cause: str) -> str:
    return f": {cause}"[:MAX_MESSAGE_CHARACTERS] if cause else ""


def _keep_message(known: Known, verdict: Verdict) -> Verdict:
    """Return the verdict, but keep the message of the status if it has the same reason.

    The first message contains the last counts, which the status itself no longer has after the first write.
    """
    old = known.object.status.condition(READY)
    return replace(verdict, message=old.message) if old and old.reason == verdict.reason else verdict


def status_step(situation: Situation, verdict: Verdict) -> Nothing | WriteStatus:
    """Return the write that brings the status up to date with a verdict, or `Nothing` if it is already."""
    known = situation.known
    old = known.object.status
    wanted = _status(situation, verdict)
    if replace(wanted, messages=old.messages) != old:
        return WriteStatus(status=wanted, notice=verdict.notice)
    again = _due_times(situation)
    if wanted.messages is None or not counts_matter(old.messages, wanted.messages, known.object.spec.limit):
        return Nothing(until=min(again, default=None))
    due = known.counts_written_at + situation.policy.counts_every
    return Nothing(until=min([due, *again])) if situation.now < due else WriteStatus(status=wanted, only_counts=True)


def _due_times(situation: Situation) -> list[float]:
    """Return the times at which the status may have to change although nothing else does."""
    refusal = situation.known.refusal
    times = [refusal.retry_at] if refusal and not refusal.is_final else []
    if situation.outage and not situation.reports_outage:
        times.append(situation.report_outage_at)
    return times


def counts_matter(old: Counts | None, new: Counts, limit: int) -> bool:
    """Return whether counts changed enough to justify a write.

    They did if one of them changed to or from 0, by a factor of 2, or by a tenth of the limit.
    """
    if old is None:
        return True
    return any(
        before != after
        and (
            not before
            or not after
            or max(before, after) >= _FACTOR * min(before, after)
            or (limit > 0 and abs(before - after) * _SHARE_OF_LIMIT >= limit)
        )
        for before, after in zip(old, new, strict=True)
    )


def _status(situation: Situation, verdict: Verdict) -> QueueStatus:
    known, policy = situation.known, situation.policy
    now = known.wall_time(situation.now)
    an_object, queue = known.object, known.queue
    old = an_object.status
    is_paused = an_object.is_paused and not an_object.is_deleting
    generation = old.observed_generation if is_paused else an_object.generation
    asked = an_object.reconcile_requested_at
    # A paused or stalled object is not declared. The request counts as handled, because the operator looked at it.
    is_handled = asked and (is_paused or verdict.stalled or asked == known.handled_request)
    new = replace(
        old,
        observed_generation=generation,
        conditions=_conditions(old, verdict, generation, now),
        queue_name=an_object.key.queue_name,
        address=policy.address,
        adopted_at=old.adopted_at or (now if _has_adopted(known, policy) else ""),
        last_handled_reconcile_at=asked if is_handled else old.last_handled_reconcile_at,
    )
    if verdict.clears_queue:
        return replace(new, queue_id="", effective=None, durability=None, messages=None, epoch="")
    if is_paused:
        return replace(new, messages=None) if verdict.clears_counts else new
    if known.server.is_away or queue is None or not is_owned(queue, policy.owner(an_object)):
        return new
    return replace(
        new,
        queue_id=queue.id,
        effective=_effective(queue.definition),
        durability=known.server.durabilities.get(queue.definition.store, old.durability),
        messages=queue.counts,
        # The old epoch stays until ServerStateLost has been reported, because it shows that the store was lost.
        epoch=old.epoch if verdict.reason is Reason.SERVER_STATE_LOST else queue.epoch,
    )


def _effective(definition: Declared) -> Effective:
    return Effective(
        store=definition.store,
        limit=definition.limit,
        tag_count=len(definition.tags),
        tags_hash=definition.tags.hash,
        delivery=definition.delivery,
    )


def _conditions(old: QueueStatus, verdict: Verdict, generation: int, now: str) -> tuple[Condition, ...]:
    def condition(type_: str, status: str) -> Condition:
        return Condition(
            type=type_,
            status=status,
            reason=verdict.reason.value,
            message=verdict.message[:MAX_MESSAGE_CHARACTERS],
            observed_generation=max(generation, 0),
            since=now,
        )

    conditions = with_condition(old.conditions, condition(READY, verdict.ready))
    for type_, is_true in ((RECONCILING, verdict.reconciling), (STALLED, verdict.stalled)):
        if is_true:
            conditions = with_condition(conditions, condition(type_, "True"))
        else:
            conditions = without_condition(conditions, type_)
    return conditions
