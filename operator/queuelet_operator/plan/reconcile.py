"""The next step for one object: a pure function of the object, its queue and the server.

The operator is level-triggered: it compares the current state with the wanted one instead of replaying changes. The
controller calls `next_step`, executes the step, and calls it again with the new state until it returns `Nothing`. An
operator that is killed between two steps therefore needs no recovery: the next one continues from the same state.
"""

from __future__ import annotations

from dataclasses import replace

from queuelet_operator.plan.conditions import (
    blocking_verdict,
    current_outage,
    is_of_another_store,
    is_owned,
    report_outage,
    status_step,
    verdict_when_declared,
    verdict_when_paused,
)
from queuelet_operator.plan.declared import Declared
from queuelet_operator.plan.deletion import next_step_of_deletion
from queuelet_operator.plan.model import AddFinalizer, Cause, Declare, DropFinalizer, Known, Policy, Step
from queuelet_operator.plan.resources import DeletionPolicy


def next_step(known: Known, policy: Policy, now: float) -> Step:
    """Return the next step for an object. `now` is in seconds since 1970 by `queuelet.clock`, which never steps."""
    if known.object.is_deleting:
        return next_step_of_deletion(known, policy, now)
    if known.object.is_paused:
        return status_step(known, policy, verdict_when_paused(known, policy, now), now)
    outage = current_outage(known, policy)
    if outage and outage.blocks_calls:
        return report_outage(outage, known, policy, now)
    verdict = blocking_verdict(known, policy)
    if verdict:
        return status_step(known, policy, verdict, now)
    wants_finalizer = known.object.spec.deletion_policy is not DeletionPolicy.RETAIN
    if wants_finalizer != known.object.has_finalizer:
        return AddFinalizer() if wants_finalizer else DropFinalizer()
    verdict = verdict_when_declared(known, policy, now)
    return _declaration(known, policy, now) or status_step(known, policy, verdict, now)


def _declaration(known: Known, policy: Policy, now: float) -> Declare | None:
    """Return the declaration to make, None if the queue is as wanted or the server refused it and no retry is due."""
    if known.refusal and (known.refusal.is_final or now < known.refusal.retry_at):
        return None
    wanted = policy.wanted(known.object)
    cause = _cause(known, wanted)
    if cause is None:
        return None
    return Declare(definition=wanted, cause=cause, adopt=cause is Cause.ADOPTED)


def _cause(known: Known, wanted: Declared) -> Cause | None:
    """Return why the queue has to be declared, None if it is as wanted."""
    if known.queue is None:
        return _cause_of_absence(known, wanted)
    present, status = known.queue.definition, known.object.status
    asked = known.object.reconcile_requested_at
    cause = None
    if not is_owned(known.queue, wanted.owner):
        cause = Cause.ADOPTED
    elif present.owner and wanted.owner and present.owner.uid != wanted.owner.uid:
        cause = Cause.TAKEN_OVER
    elif replace(present, owner=wanted.owner) == wanted and present != wanted:
        # An earlier version did not record the namespace's uid. Recording it is no repair, so it gets no Event.
        cause = Cause.CHANGED
    elif present != wanted:
        cause = _cause_of_difference(known)
    elif asked and asked not in {status.last_handled_reconcile_at, known.handled_request}:
        cause = Cause.REQUESTED
    return cause


def _cause_of_difference(known: Known) -> Cause:
    """Return why the queue differs: if the object did not change since the last status, another client changed it."""
    if is_of_another_store(known):
        return Cause.STATE_LOST
    return Cause.EDITED if known.object.is_settled else Cause.CHANGED


def _cause_of_absence(known: Known, wanted: Declared) -> Cause:
    """Return why the queue does not exist. The epoch in the status shows whether it existed before, and where."""
    was_in = known.object.status.epoch
    if not was_in:
        return Cause.CREATED
    is_in = (known.server.epochs or {}).get(wanted.store)
    return Cause.DELETED if was_in == is_in else Cause.STATE_LOST
