"""What a Queue's status should say: conditions by what stands in the way, and figures as the server tells them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from queuelet.definition import Counts, Owner
from queuelet_operator.plan.declared import Declared
from queuelet_operator.plan.model import Cause, Known, Nothing, Notice, Policy, Reason, WriteStatus
from queuelet_operator.plan.observed import ObservedQueue
from queuelet_operator.plan.resources import ADOPT, PAUSED, QueueObject
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

NOT_TRIED = "it was not reached yet"

LONGEST_MESSAGE = 2_048
"""Characters of a condition's message. Longer ones are cut, because some of them quote the server."""

_FACTOR = 2
_SHARE_OF_LIMIT = 10

_PASSING = {Reason.SERVER_UNAVAILABLE, Reason.STORE_FULL, Reason.STORE_FAILED}
"""What is told of a queue that was ready before, and is again once the trouble is over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the conditions should say."""

    reason: Reason
    message: str
    ready: str = "False"
    reconciling: bool = False
    stalled: bool = False
    forgets_queue: bool = False
    """Whether what the status tells of the queue no longer holds."""
    forgets_counts: bool = False
    """Whether the counts in the status no longer hold."""
    notice: Notice | None = None
    """The Event to post along with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """What is wrong with the server or with one of its stores: it passes without a change of the object."""

    what: str
    """It, as a part of a sentence."""

    verdict: Verdict
    since: float
    cause: str
    """Why it is so, as the end of the verdict's sentence; empty while that is not known."""

    ends_work: bool = True
    """Whether nothing can be done with the queue for as long."""

    def is_told(self, known: Known, policy: Policy, now: float) -> bool:
        """Tell whether the status is to say so: not at first, as most of it is over soon, but once it does it stays."""
        return now >= self.told_at(policy) or known.object.status.reason == self.verdict.reason

    def told_at(self, policy: Policy) -> float:
        """Return when a status says so, in seconds since 1970."""
        return self.since + policy.outage_after


def blocking_verdict(known: Known, policy: Policy) -> Verdict | None:
    """Return what only people can put out of the way, None if nothing is in the way."""
    an_object, queue, epochs = known.object, known.queue, known.server.epochs or {}
    store = an_object.spec.store
    if queue and not is_owned(queue, policy.owner(an_object)) and not _may_adopt(known):
        return _not_owner(known, queue.definition.owner, policy.owner(an_object))
    if queue and queue.definition.store != store:
        return Verdict(
            reason=Reason.STORE_MISMATCH,
            message=(
                f"the queue lives in store {queue.definition.store.name.title()} and cannot move to "
                f"{store.name.title()}: apply this Queue with the store that the queue is in, or under another name"
            ),
            stalled=True,
            forgets_queue=True,
        )
    if store not in epochs:
        return Verdict(
            reason=Reason.STORE_UNAVAILABLE,
            message=(
                f"the server at {policy.address} runs without the store {store.name.title()}: start it with that "
                "store, or apply a Queue with another"
            ),
            stalled=True,
        )
    return None


def _not_owner(known: Known, owner: Owner | None, wanted: Owner) -> Verdict:
    belongs_to = owner.name if owner else "nobody: it was made by hand"
    if owner and owner.name == wanted.name:
        belongs_to = f"{owner.name} of an earlier namespace of this name, which had the uid {owner.namespace_uid}"
    if _has_used_adoption(known):
        help_ = (
            "this Queue took it over once, as status.adoptedAt tells, and does not do so again: delete the Queue, "
            f'which leaves the queue there, and apply it anew with the annotation {ADOPT}: "true"'
        )
    else:
        help_ = f'to take it over with its messages, set the annotation {ADOPT}: "true"'
    return Verdict(
        reason=Reason.NOT_OWNER,
        message=f"the server has a queue of this name that belongs to {belongs_to}; {help_}",
        stalled=True,
        forgets_queue=True,
    )


def is_owned(queue: ObservedQueue, owner: Owner | None) -> bool:
    """Return whether a queue is that of an object of this name in this namespace, whatever the object's uid."""
    present = queue.definition.owner
    return present is not None and owner is not None and present.may_be(owner)


def is_of_object(queue: ObservedQueue, owner: Owner) -> bool:
    """Return whether a queue is that of this very object."""
    present = queue.definition.owner
    return present is not None and is_owned(queue, owner) and present.uid == owner.uid


def _may_adopt(known: Known) -> bool:
    """Tell whether the object may take over another's queue: it may do so once."""
    return known.object.adopts and not _has_used_adoption(known)


def _has_used_adoption(known: Known) -> bool:
    """Tell whether the object took over another's queue before, even if its status could not be told so yet."""
    return bool(known.object.status.adopted_at) or known.got is Cause.ADOPTED


def _has_adopted(known: Known, policy: Policy) -> bool:
    """Tell whether the object has its queue from another owner."""
    if known.got:
        return known.got is Cause.ADOPTED
    # The operator that took it over may have ended before it wrote so. Then a queue that was made for another, or one
    # that the status says is another's, shows it. Where in doubt, the adoption is used up: it must not come twice.
    an_object, queue = known.object, known.queue
    if not (an_object.adopts and queue and is_of_object(queue, policy.owner(an_object))):
        return False
    return queue.id not in {an_object.uid, an_object.status.queue_id} or an_object.status.reason == Reason.NOT_OWNER


def paused(known: Known, policy: Policy, now: float) -> Verdict:
    """Return what to say of an object that is left as it is: what is true of its queue, though nothing is done."""
    trouble = current_outage(known, policy)
    is_told = trouble is not None and trouble.is_told(known, policy, now)
    as_before = _paused(ready=_ready_before(known.object))
    if trouble and trouble.ends_work:
        return _with_present_cause(known, trouble) if is_told else as_before
    if _has_lost_store(known):
        return _lost_while_paused(known)
    if trouble and is_told:
        return _with_present_cause(known, trouble)
    if known.object.status.queue_id and not _has_its_queue(known, policy):
        return _paused(
            ready="False", but="; the queue that status.queueID names is not there, or another's", forgets_counts=True
        )
    return as_before


def _paused(*, ready: str, but: str = "", forgets_counts: bool = False) -> Verdict:
    return Verdict(
        reason=Reason.PAUSED,
        message=f"the annotation {PAUSED} is set: the queue is left as it is until it is taken away{but}",
        ready=ready,
        forgets_counts=forgets_counts,
    )


def _ready_before(an_object: QueueObject) -> str:
    """Return how ready a queue was when its object was paused, whatever trouble was told of meanwhile."""
    was = an_object.status.condition(READY)
    if was is None or not an_object.status.queue_id:
        return "False"
    return "True" if was.reason in _PASSING else was.status


def _has_its_queue(known: Known, policy: Policy) -> bool:
    """Tell whether the queue that the status speaks of is there."""
    queue, an_object = known.queue, known.object
    return queue is not None and queue.id == an_object.status.queue_id and is_owned(queue, policy.owner(an_object))


def _has_lost_store(known: Known) -> bool:
    """Tell whether the store that the status speaks of is not that of the server."""
    was, is_ = known.object.status.epoch, (known.server.epochs or {}).get(known.object.spec.store)
    return bool(was) and is_ is not None and was != is_


def _lost_while_paused(known: Known) -> Verdict:
    lost = _lost(known)
    message = f"{lost.message}; the annotation {PAUSED} is set, so nothing is done about it"
    told = known.object.status.reason == Reason.SERVER_STATE_LOST
    lost = replace(lost, message=message, reconciling=False, forgets_counts=True, notice=None if told else lost.notice)
    return _as_told_first(known, lost)


def current_outage(known: Known, policy: Policy) -> Trouble | None:
    """Return what is wrong with the server, or with the store of the object's queue; None if nothing is."""
    server, problem = known.server, known.problem
    if server.is_away:
        what = f"the server at {policy.address} has not answered since {known.shown(server.away_since)}"
        verdict = Verdict(
            reason=Reason.SERVER_UNAVAILABLE, message=f"{what}: {server.why_away or NOT_TRIED}", reconciling=True
        )
        return Trouble(what=what, verdict=verdict, since=server.away_since, cause=server.why_away)
    if problem is None:
        return None
    since = f"of the server at {policy.address} since {known.shown(problem.since)}"
    if problem.is_full:
        what = f"there is no room in the store {since}"
        verdict = Verdict(reason=Reason.STORE_FULL, message=f"{what}: {problem.message}", reconciling=True)
    else:
        what = f"nothing can be done with the store {since}"
        verdict = Verdict(reason=Reason.STORE_FAILED, message=f"{what}: {problem.message}", reconciling=True)
    return Trouble(
        what=what, verdict=verdict, since=problem.since, cause=problem.message, ends_work=not problem.is_full
    )


def verdict_when_declared(known: Known, policy: Policy, now: float) -> Verdict:
    """Return what to say of an object whose queue was declared."""
    refusal, trouble = known.refusal, current_outage(known, policy)
    if refusal:
        return Verdict(
            reason=Reason.REFUSED if refusal.reason != "NOT_OWNER" else Reason.NOT_OWNER,
            message=refusal.message,
            stalled=refusal.is_final,
            reconciling=not refusal.is_final,
        )
    if is_of_another_store(known) and known.object.status.reason != Reason.SERVER_STATE_LOST:
        return _lost(known)
    if trouble and trouble.is_told(known, policy, now):
        return _with_present_cause(known, trouble)
    return Verdict(reason=Reason.READY, message="the queue is there as declared", ready="True")


def is_of_another_store(known: Known) -> bool:
    """Tell whether the queue is not in the store that the status speaks of: that was lost, or another was restored."""
    return known.queue is not None and known.object.status.epoch not in {"", known.queue.epoch}


def _lost(known: Known) -> Verdict:
    queue, counted = known.queue, known.object.status.messages
    held = "what this queue held is not known" if counted is None else f"this queue held {counted} when last counted"
    message = (
        f"the server lost its store or was given another, such as a backup: {held}, and it now holds "
        f"{queue.counts if queue else Counts()}"
    )
    return Verdict(
        reason=Reason.SERVER_STATE_LOST,
        message=message,
        reconciling=True,
        notice=Notice(reason=Reason.SERVER_STATE_LOST.value, message=message, is_warning=True),
    )


def report_outage(trouble: Trouble, known: Known, policy: Policy, now: float) -> Nothing | WriteStatus:
    """Say what is wrong with the server or its store, once it has been for long."""
    if not trouble.is_told(known, policy, now):
        return Nothing(until=trouble.told_at(policy))
    return status_step(known, policy, _with_present_cause(known, trouble), now)


def _with_present_cause(known: Known, trouble: Trouble) -> Verdict:
    """Return a trouble's verdict, with the sentence that the status has already if it names the present cause.

    Another operator knows another time since when it is so, and that alone is no reason to write.
    """
    old = known.object.status.condition(READY)
    if old and old.reason == trouble.verdict.reason and old.message.endswith(_end_of_sentence(trouble.cause)):
        return replace(trouble.verdict, message=old.message)
    return trouble.verdict


def _end_of_sentence(cause: str) -> str:
    return f": {cause}"[:LONGEST_MESSAGE] if cause else ""


def _as_told_first(known: Known, verdict: Verdict) -> Verdict:
    """Return a verdict with the sentence that the status has for it already, or else it would be written every time."""
    old = known.object.status.condition(READY)
    return replace(verdict, message=old.message) if old and old.reason == verdict.reason else verdict


def status_step(known: Known, policy: Policy, verdict: Verdict, now: float) -> Nothing | WriteStatus:
    """Return the write that makes the status say so, or nothing where it does."""
    old = known.object.status
    wanted = _status(known, policy, verdict, now)
    if replace(wanted, messages=old.messages) != old:
        return WriteStatus(status=wanted, notice=verdict.notice)
    again = _look_again_at(known, policy, now)
    if wanted.messages is None or not counts_matter(old.messages, wanted.messages, known.object.spec.limit):
        return Nothing(until=min(again, default=None))
    due = known.counts_written_at + policy.counts_every
    return Nothing(until=min([due, *again])) if now < due else WriteStatus(status=wanted, only_counts=True)


def _look_again_at(known: Known, policy: Policy, now: float) -> list[float]:
    """Return when a status may be another by itself."""
    refusal, trouble = known.refusal, current_outage(known, policy)
    times = [refusal.retry_at] if refusal and not refusal.is_final else []
    if trouble and not trouble.is_told(known, policy, now):
        times.append(trouble.told_at(policy))
    return times


def counts_matter(old: Counts | None, new: Counts, limit: int) -> bool:
    """Tell whether counts changed enough to be written.

    They did if one went to or from 0, changed by a factor of 2, or changed by a tenth of the limit.
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


def _status(known: Known, policy: Policy, verdict: Verdict, now: float) -> QueueStatus:
    """Return what the status should be."""
    an_object, queue = known.object, known.queue
    old = an_object.status
    is_paused = an_object.is_paused and not an_object.is_deleting
    generation = old.observed_generation if is_paused else an_object.generation
    asked = an_object.reconcile_requested_at
    # Where only people can help there is nothing to declare: the look was the answer.
    is_answered = asked and (is_paused or verdict.stalled or asked == known.answered)
    new = replace(
        old,
        observed_generation=generation,
        conditions=_conditions(old, verdict, generation, known.shown(now)),
        queue_name=an_object.key.queue_name,
        address=policy.address,
        adopted_at=old.adopted_at or (known.shown(now) if _has_adopted(known, policy) else ""),
        last_handled_reconcile_at=asked if is_answered else old.last_handled_reconcile_at,
    )
    if verdict.forgets_queue:
        return replace(new, queue_id="", effective=None, messages=None, epoch="")
    if is_paused:
        return replace(new, messages=None) if verdict.forgets_counts else new
    if known.server.is_away or queue is None or not is_owned(queue, policy.owner(an_object)):
        return new
    return replace(
        new,
        queue_id=queue.id,
        effective=_effective(queue.definition),
        messages=queue.counts,
        # Until it is said that the old store is lost, its epoch stays.
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
            message=verdict.message[:LONGEST_MESSAGE],
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
