"""The next step for one object: a pure function of the object, its queue and the server.

The operator is level-triggered: it compares the current state with the wanted one instead of replaying changes. The
controller calls `next_step`, executes the step, and calls it again with the new state until it returns `Nothing`. An
operator that is killed between two steps therefore needs no recovery: the next one continues from the same state.
"""

from __future__ import annotations

from dataclasses import replace

from queuelet_operator.plan.conditions import (
    blocking_verdict,
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
from queuelet_operator.plan.situation import Situation


def next_step(known: Known, policy: Policy, now: float) -> Step:
    """Return the next step for an object. `now` is in seconds since 1970 by `queuelet.clock`, which never steps."""
    situation = Situation.at(now, known, policy)
    if known.object.is_deleting:
        return next_step_of_deletion(situation)
    if known.object.is_paused:
        return status_step(situation, verdict_when_paused(situation))
    if situation.outage and situation.outage.blocks_calls:
        return report_outage(situation, situation.outage)
    verdict = blocking_verdict(situation)
    if verdict:
        return status_step(situation, verdict)
    wants_finalizer = known.object.spec.deletion_policy is not DeletionPolicy.RETAIN
    if wants_finalizer != known.object.has_finalizer:
        return AddFinalizer() if wants_finalizer else DropFinalizer()
    return _declaration(situation) or status_step(situation, verdict_when_declared(situation))


def _declaration(situation: Situation) -> Declare | None:
    """Return the declaration to make, None if the queue is as wanted or the server refused it and no retry is due."""
    if situation.is_refused:
        return None
    wanted = situation.policy.wanted(situation.known.object)
    cause = _cause(situation.known, wanted)
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
