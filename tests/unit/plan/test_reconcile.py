"""The next step for an object: each rule separately, and that repeated steps always reach an end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuelet.definition import Counts, DeliverySettings, Durability, Owner, StoreKind
from queuelet.errors import StoreFailed, StoreFull
from queuelet.tags import Tag
from queuelet.values import DeclareOutcome, RemoveOutcome, StoreState
from queuelet_operator.actions import how_obtained
from queuelet_operator.packed_tags import PackedTags
from queuelet_operator.plan import situation
from queuelet_operator.plan.conditions import counts_matter
from queuelet_operator.plan.declared import Declared
from queuelet_operator.plan.deletion import LEFT, MAX_CONTEXT_AGE
from queuelet_operator.plan.events import notice_of_declaration
from queuelet_operator.plan.model import (
    AddFinalizer,
    Cause,
    Declare,
    DeletionContext,
    DropFinalizer,
    Known,
    Nothing,
    Policy,
    ReadDeletionContext,
    Reason,
    Refusal,
    Remove,
    Removed,
    Step,
    WriteStatus,
)
from queuelet_operator.plan.observed import ObservedQueue, Server, StoreProblem, server_away, server_with
from queuelet_operator.plan.reconcile import next_step
from queuelet_operator.plan.resources import FINALIZER, DeletionPolicy, Key, QueueObject, QueueSpec
from queuelet_operator.plan.situation import Outage, current_outage
from queuelet_operator.plan.status import (
    READY,
    RECONCILING,
    STALLED,
    Condition,
    QueueStatus,
    status_from,
    status_patch,
    status_to,
    timestamp,
)

NOW = 1_800_000_000.0
KEY = Key("shop", "orders")
NAME = "shop.orders"
POLICY = Policy(instance="queuelet", address="queuelet:10002")
OURS = Owner(name="queuelet/shop/orders", uid="uid-1")
EARLIER = Owner(name="queuelet/shop/orders", uid="uid-0")
THEIRS = Owner(name="another/shop/orders", uid="uid-9")
MAX_STEPS = 8

HERE = Server(epochs={StoreKind.MEMORY: "epoch-1"})
HERE_TOO = Server(epochs=dict.fromkeys(StoreKind, "epoch-1"))


def away(seconds: float) -> Server:
    """Return a server that has been unreachable for this long."""
    return Server(away_since=NOW - seconds, why_away="connection refused")


def with_problem(seconds: float, *, is_full: bool) -> Server:
    """Return a server whose store Disk has been full, or failed, for this long."""
    problem = StoreProblem(is_full=is_full, message="the disk is at fault", since=NOW - seconds)
    return Server(epochs=dict.fromkeys(StoreKind, "epoch-1"), problems={StoreKind.DISK: problem})


def a_queue(
    owner: Owner | None = OURS,
    *,
    counts: Counts | None = None,
    epoch: str = "epoch-1",
    id_: str = "uid-1",
    **what: Any,  # noqa: ANN401  # fields of Declared
) -> ObservedQueue:
    """Return a queue as the server reports it."""
    definition = Declared(name=NAME, owner=owner, **what)
    return ObservedQueue(id=id_, definition=definition, revision=1, counts=counts or Counts(), epoch=epoch)


def ready_status() -> QueueStatus:
    """Return the status of an object that is ready."""
    return settled(known()).object.status


def an_object(
    *,
    status: QueueStatus | None = None,
    spec: QueueSpec | None = None,
    **what: Any,  # noqa: ANN401  # fields of QueueObject
) -> QueueObject:
    """Return an object that has the finalizer."""
    defaults: dict[str, Any] = {
        "key": KEY,
        "uid": "uid-1",
        "generation": 1,
        "resource_version": 1,
        "finalizers": (FINALIZER,),
    }
    return QueueObject(**defaults | what, spec=spec or QueueSpec(), status=status or QueueStatus())


def known(an: QueueObject | None = None, **what: Any) -> Known:  # noqa: ANN401  # fields of Known
    """Return the state of an object whose queue exists as wanted."""
    defaults: dict[str, Any] = {"server": HERE, "queue": a_queue()}
    return Known(object=an or an_object(), **defaults | what)


def settled(was: Known) -> Known:
    """Write statuses until there is nothing to do, and return the state then."""
    step = next_step(was, POLICY, NOW)
    for _ in range(MAX_STEPS):
        if isinstance(step, Nothing):
            return was
        assert isinstance(step, WriteStatus)
        was = replace(was, object=replace(was.object, status=step.status))
        step = next_step(was, POLICY, NOW)
    raise AssertionError(f"it goes on: {step}")


def declared(step: Step) -> Declare:
    """Expect a declaration."""
    assert isinstance(step, Declare), step
    return step


def written(step: Step) -> QueueStatus:
    """Expect a write of the status."""
    assert isinstance(step, WriteStatus), step
    return step.status


def shown(status: QueueStatus) -> dict[str, tuple[str, str]]:
    """Return the conditions as type: (status, reason)."""
    return {each.type: (each.status, each.reason) for each in status.conditions}


def deleting(
    policy: DeletionPolicy = DeletionPolicy.DELETE,
    *,
    since: float = 1.0,
    drain_seconds: int | None = None,
    **what: Any,  # noqa: ANN401  # fields of QueueObject
) -> QueueObject:
    """Return an object whose deletion was requested `since` seconds ago."""
    spec = QueueSpec(deletion_policy=policy, drain_seconds=drain_seconds)
    return an_object(spec=spec, deleted_at=NOW - since, **what)


# The life of a queue


def test_a_new_object_gets_its_finalizer_before_its_queue() -> None:
    step = next_step(known(an_object(finalizers=()), queue=None), POLICY, NOW)
    assert step == AddFinalizer()


def test_then_it_gets_its_queue() -> None:
    step = next_step(known(queue=None), POLICY, NOW)
    assert step == Declare(definition=Declared(name=NAME, owner=OURS), cause=Cause.CREATED)


def test_then_its_status_says_so() -> None:
    status = written(next_step(known(), POLICY, NOW))
    assert shown(status) == {READY: ("True", "Ready")}
    assert (status.queue_id, status.queue_name, status.address) == ("uid-1", NAME, "queuelet:10002")
    assert (status.epoch, status.messages, status.observed_generation) == ("epoch-1", Counts(), 1)
    assert status.effective
    assert status.effective.limit == -1
    assert status.condition(READY) == Condition(
        type=READY,
        status="True",
        reason="Ready",
        message="the queue exists as declared",
        observed_generation=1,
        since=timestamp(NOW),
    )


def test_then_there_is_nothing_to_do() -> None:
    assert next_step(settled(known()), POLICY, NOW) == Nothing()


def test_what_is_retained_gets_no_finalizer_and_loses_the_one_it_had() -> None:
    spec = QueueSpec(deletion_policy=DeletionPolicy.RETAIN)
    assert next_step(known(an_object(spec=spec)), POLICY, NOW) == DropFinalizer()
    assert next_step(known(an_object(spec=spec, finalizers=()), queue=None), POLICY, NOW) == Declare(
        definition=Declared(name=NAME, owner=OURS), cause=Cause.CREATED
    )


def test_all_that_the_spec_asks_for_is_declared() -> None:
    delivery = DeliverySettings(lease_seconds=60, max_deliveries=3, message_ttl_seconds=9)
    spec = QueueSpec(store=StoreKind.DISK, limit=7, tags=PackedTags([Tag("a", "1")]), delivery=delivery)
    server = Server(epochs={StoreKind.MEMORY: "epoch-1", StoreKind.DISK: "epoch-2"})
    step = declared(next_step(known(an_object(spec=spec), queue=None, server=server), POLICY, NOW))
    assert step.definition == Declared(
        store=StoreKind.DISK, name=NAME, limit=7, tags=PackedTags([Tag("a", "1")]), owner=OURS, delivery=delivery
    )


# Why a queue is declared


def test_a_changed_object_changes_its_queue() -> None:
    an = an_object(spec=QueueSpec(limit=5), generation=2, status=ready_status())
    step = declared(next_step(known(an), POLICY, NOW))
    assert (step.cause, step.definition.limit, step.adopt) == (Cause.CHANGED, 5, False)


def test_a_queue_that_was_edited_is_repaired() -> None:
    step = declared(next_step(known(an_object(status=ready_status()), queue=a_queue(limit=5)), POLICY, NOW))
    assert step.cause is Cause.EDITED
    assert step.cause.is_repair


def test_the_order_of_tags_is_no_change() -> None:
    spec = QueueSpec(tags=PackedTags([Tag("a", "1"), Tag("a", "2")]))
    queue = a_queue(tags=PackedTags([Tag("a", "2"), Tag("a", "1")]))
    assert isinstance(next_step(known(an_object(spec=spec), queue=queue), POLICY, NOW), WriteStatus)


def test_a_drain_that_is_no_longer_declared_is_undone() -> None:
    step = declared(next_step(known(an_object(status=ready_status()), queue=a_queue(draining=True)), POLICY, NOW))
    assert (step.cause, step.definition.draining) == (Cause.EDITED, False)


def test_a_queue_that_was_deleted_is_created_again() -> None:
    step = declared(next_step(known(an_object(status=ready_status()), queue=None), POLICY, NOW))
    assert step.cause is Cause.DELETED


def test_a_queue_whose_store_was_lost_is_created_again() -> None:
    server = Server(epochs={StoreKind.MEMORY: "epoch-2"})
    step = declared(next_step(known(an_object(status=ready_status()), queue=None, server=server), POLICY, NOW))
    assert step.cause is Cause.STATE_LOST


def test_a_queue_of_an_earlier_object_of_its_name_is_taken_over() -> None:
    step = declared(next_step(known(queue=a_queue(EARLIER)), POLICY, NOW))
    assert (step.cause, step.adopt, step.definition.owner) == (Cause.TAKEN_OVER, False, OURS)


def test_a_queue_of_an_earlier_namespace_is_not_taken_over() -> None:
    before = replace(OURS, uid="uid-0", namespace_uid="ns-0")
    was = known(replace(an_object(), namespace_uid="ns-1"), queue=a_queue(before))
    ready = written(next_step(was, POLICY, NOW)).condition(READY)
    assert ready
    assert ready.reason == "NotOwner"
    assert "an earlier namespace with this name, whose uid was ns-0" in ready.message
    step = declared(next_step(replace(was, object=replace(was.object, adopts=True)), POLICY, NOW))
    assert (step.cause, step.adopt) == (Cause.ADOPTED, True)
    restored = known(replace(an_object(), namespace_uid="ns-0"), queue=a_queue(before))
    assert declared(next_step(restored, POLICY, NOW)).cause is Cause.TAKEN_OVER


def test_the_namespace_of_an_earlier_version_is_noted_without_an_event() -> None:
    step = declared(next_step(known(replace(an_object(), namespace_uid="ns-1")), POLICY, NOW))
    assert (step.cause, step.adopt) == (Cause.CHANGED, False)
    assert step.definition.owner == replace(OURS, namespace_uid="ns-1")
    assert notice_of_declaration(step, "") is None


def test_a_request_is_handled_once() -> None:
    an = an_object(status=ready_status(), reconcile_requested_at="now")
    step = declared(next_step(known(an), POLICY, NOW))
    assert step.cause is Cause.REQUESTED
    handled = known(an, handled_request="now")
    status = written(next_step(handled, POLICY, NOW))
    assert status.last_handled_reconcile_at == "now"
    assert next_step(settled(handled), POLICY, NOW) == Nothing()
    assert next_step(known(replace(an, status=status)), POLICY, NOW) == Nothing(), "after a restart too"


@pytest.mark.parametrize(
    ("was", "reason"),
    [
        ({"queue": a_queue(THEIRS)}, "NotOwner"),
        ({"queue": None, "server": Server(epochs={})}, "StoreUnavailable"),
        ({"queue": a_queue(store=StoreKind.DISK), "server": Server(epochs={StoreKind.DISK: ""})}, "StoreMismatch"),
        (
            {"queue": None, "refusal": Refusal(reason="LIMIT_INVALID", message="no", is_final=True)},
            "DeclarationRefused",
        ),
        ({"an": an_object(is_paused=True)}, "Paused"),
    ],
    ids=["NotOwner", "StoreUnavailable", "StoreMismatch", "refused", "paused"],
)
def test_a_request_is_handled_though_nothing_can_be_declared(was: dict[str, Any], reason: str) -> None:
    rest = settled(known(**was))
    assert rest.object.status.reason == reason
    asked = replace(rest, object=replace(rest.object, reconcile_requested_at="now"))
    status = written(next_step(asked, POLICY, NOW))
    assert status == replace(rest.object.status, last_handled_reconcile_at="now"), "that is all"
    assert next_step(replace(asked, object=replace(asked.object, status=status)), POLICY, NOW) == Nothing()


@pytest.mark.parametrize(
    ("cause", "reason", "is_warning"),
    [
        (Cause.CREATED, None, False),
        (Cause.CHANGED, None, False),
        (Cause.REQUESTED, None, False),
        (Cause.DRAIN, None, False),
        (Cause.EDITED, "DriftRepaired", False),
        (Cause.DELETED, "QueueRestored", True),
        (Cause.STATE_LOST, None, False),
        (Cause.ADOPTED, "QueueAdopted", False),
        (Cause.TAKEN_OVER, "QueueTakenOver", False),
    ],
)
def test_an_event_reports_what_the_user_did_not_ask_for(cause: Cause, reason: str | None, is_warning: bool) -> None:  # noqa: FBT001  # a column
    step = Declare(definition=Declared(name=NAME, owner=OURS), cause=cause)
    notice = notice_of_declaration(step, THEIRS.name)
    assert (notice.reason if notice else None) == reason
    assert notice is None or (notice.is_warning == is_warning and NAME in notice.message)


# Verdicts that block an object until it or the server's configuration is changed


@pytest.mark.parametrize(
    ("owner", "named"), [(THEIRS, "another/shop/orders"), (None, "created by hand")], ids=["another", "no owner"]
)
def test_a_queue_of_another_is_left_alone(owner: Owner | None, named: str) -> None:
    for finalizers in ((), (FINALIZER,)):
        an = an_object(finalizers=finalizers, status=ready_status())
        status = written(next_step(known(an, queue=a_queue(owner)), POLICY, NOW))
        assert shown(status) == {READY: ("False", "NotOwner"), STALLED: ("True", "NotOwner")}
        stalled = status.condition(STALLED)
        assert stalled
        assert named in stalled.message
        assert (status.queue_id, status.effective, status.messages, status.epoch) == ("", None, None, "")
    assert isinstance(next_step(settled(known(queue=a_queue(owner))), POLICY, NOW), Nothing)


@pytest.mark.parametrize("owner", [THEIRS, None], ids=["another", "no owner"])
def test_adoption_takes_it_over_once(owner: Owner | None) -> None:
    an = an_object(adopts=True)
    step = declared(next_step(known(an, queue=a_queue(owner, id_="theirs")), POLICY, NOW))
    assert (step.cause, step.adopt, step.definition.owner) == (Cause.ADOPTED, True, OURS)
    status = written(next_step(known(an, queue=a_queue(OURS, id_="theirs")), POLICY, NOW))
    assert (status.adopted_at, status.queue_id) == (timestamp(NOW), "theirs")
    later = next_step(known(replace(an, status=status), queue=a_queue(THEIRS, id_="theirs")), POLICY, NOW + 60)
    assert shown(written(later))[STALLED] == ("True", "NotOwner"), "it may not take it again"
    assert written(later).adopted_at == status.adopted_at


def test_a_queue_made_for_the_object_was_not_adopted() -> None:
    assert written(next_step(known(an_object(adopts=True)), POLICY, NOW)).adopted_at == ""


def test_what_is_taken_from_the_object_is_taken_back_once_though_the_queue_was_made_for_it() -> None:
    """Its ID is the object's uid, so only the operator that took it back knows of it until the status says so."""
    world = World(server=HERE, queue=None, an_object=an_object(adopts=True))
    world.look()
    assert world.an_object.status.adopted_at == ""
    world.queue = a_queue(THEIRS)
    world.look()
    assert world.queue.definition.owner == OURS
    assert world.an_object.status.adopted_at == timestamp(NOW)
    world.queue, world.obtained_by = a_queue(THEIRS), None
    world.look()
    assert world.queue.definition.owner == THEIRS, "whether or not the operator is the same"
    assert shown(world.an_object.status)[STALLED] == ("True", "NotOwner")


def test_an_adoption_is_used_up_before_the_status_could_report_it() -> None:
    was = known(an_object(adopts=True, status=ready_status()), queue=a_queue(THEIRS), obtained_by=Cause.ADOPTED)
    status = written(next_step(was, POLICY, NOW))
    assert shown(status)[STALLED] == ("True", "NotOwner")
    assert status.adopted_at == timestamp(NOW)


@pytest.mark.parametrize("id_", ["uid-1", "theirs"])
def test_an_operator_that_was_killed_between_the_adoption_and_the_status_left_enough_to_report_it(id_: str) -> None:
    stalled = settled(known(queue=a_queue(THEIRS, id_=id_))).object
    status = written(next_step(known(replace(stalled, adopts=True), queue=a_queue(id_=id_)), POLICY, NOW))
    assert (status.adopted_at, status.queue_id) == (timestamp(NOW), id_)


def test_a_queue_of_an_earlier_object_is_not_adopted_though_the_object_may() -> None:
    world = World(server=HERE, queue=a_queue(EARLIER, id_="uid-0"), an_object=an_object(adopts=True))
    world.look()
    assert [each.cause for each in world.steps if isinstance(each, Declare)] == [Cause.TAKEN_OVER]
    assert (world.an_object.status.queue_id, world.an_object.status.adopted_at) == ("uid-0", "")


def test_an_object_that_has_used_its_adoption_says_what_helps_then() -> None:
    was = replace(ready_status(), adopted_at=timestamp(NOW - 60))
    for adopts in (True, False):
        an = an_object(adopts=adopts, status=was)
        ready = written(next_step(known(an, queue=a_queue(THEIRS)), POLICY, NOW)).condition(READY)
        assert ready
        assert "adopted it once (status.adoptedAt) and cannot do so again" in ready.message
        assert "to adopt it with its messages, set" not in ready.message


def test_a_queue_in_another_store_is_not_touched() -> None:
    server = Server(epochs={StoreKind.MEMORY: "epoch-1", StoreKind.DISK: "epoch-2"})
    an = an_object(spec=QueueSpec(store=StoreKind.DISK), status=ready_status())
    status = written(next_step(known(an, server=server), POLICY, NOW))
    assert shown(status) == {READY: ("False", "StoreMismatch"), STALLED: ("True", "StoreMismatch")}
    stalled = status.condition(STALLED)
    assert stalled
    assert "is in store Memory and cannot move to Disk" in stalled.message


def test_an_adoption_does_not_move_a_queue_either() -> None:
    an = an_object(spec=QueueSpec(store=StoreKind.DISK), adopts=True)
    server = Server(epochs={StoreKind.MEMORY: "epoch-1", StoreKind.DISK: "epoch-2"})
    status = written(next_step(known(an, queue=a_queue(THEIRS), server=server), POLICY, NOW))
    assert shown(status)[STALLED] == ("True", "StoreMismatch")


def test_a_store_that_the_server_runs_without_is_named() -> None:
    status = written(next_step(known(an_object(spec=QueueSpec(store=StoreKind.DISK)), queue=None), POLICY, NOW))
    assert shown(status) == {READY: ("False", "StoreUnavailable"), STALLED: ("True", "StoreUnavailable")}


# Refusals

FINAL = Refusal(reason="LIMIT_INVALID", message="no", is_final=True)
FOR_NOW = Refusal(reason="RESOURCE_EXHAUSTED", message="later", is_final=False, retry_at=NOW + 5)


def test_what_is_refused_for_good_is_not_tried_again() -> None:
    was = known(queue=None, refusal=FINAL)
    assert shown(written(next_step(was, POLICY, NOW))) == {
        READY: ("False", "DeclarationRefused"),
        STALLED: ("True", "DeclarationRefused"),
    }
    assert next_step(settled(was), POLICY, NOW + 10_000) == Nothing()


def test_what_is_refused_for_now_is_tried_again_when_it_is_time() -> None:
    was = known(queue=None, refusal=FOR_NOW)
    assert shown(written(next_step(was, POLICY, NOW))) == {
        READY: ("False", "DeclarationRefused"),
        RECONCILING: ("True", "DeclarationRefused"),
    }
    assert next_step(settled(was), POLICY, NOW) == Nothing(until=NOW + 5)
    assert isinstance(next_step(settled(was), POLICY, NOW + 5), Declare)


def test_a_refusal_for_its_owner_has_that_reason() -> None:
    refusal = Refusal(reason="NOT_OWNER", message="it belongs to another", is_final=True)
    assert shown(written(next_step(known(queue=None, refusal=refusal), POLICY, NOW)))[READY] == ("False", "NotOwner")


# Paused


def test_a_paused_object_is_left_as_it_is() -> None:
    for was in (None, a_queue(limit=99), a_queue(THEIRS)):
        for finalizers in ((), (FINALIZER,)):
            an = an_object(is_paused=True, finalizers=finalizers, generation=2)
            status = written(next_step(known(an, queue=was), POLICY, NOW))
            assert shown(status) == {READY: ("False", "Paused")}
            assert status.observed_generation == -1, "nothing was done for this generation"


def test_a_paused_object_stays_as_ready_as_it_was() -> None:
    an = an_object(is_paused=True, generation=2, status=ready_status())
    status = written(next_step(known(an, queue=a_queue(limit=99)), POLICY, NOW))
    assert shown(status) == {READY: ("True", "Paused")}
    assert (status.observed_generation, status.queue_id) == (1, "uid-1")
    assert next_step(known(replace(an, status=status)), POLICY, NOW + 60) == Nothing()


def paused(counts: Counts | None = None) -> Known:
    """Return the state of an object that was ready and was then paused."""
    was = settled(known(queue=a_queue(counts=counts)))
    return settled(replace(was, object=replace(was.object, is_paused=True)))


def test_a_paused_object_reports_an_outage_and_is_as_ready_as_before_when_it_is_over() -> None:
    was = paused(FULL)
    assert next_step(replace(was, server=away(9), queue=None), POLICY, NOW) == Nothing(until=NOW + 1)
    reported = settled(replace(was, server=away(10), queue=None))
    assert shown(reported.object.status) == {
        READY: ("False", "ServerUnavailable"),
        RECONCILING: ("True", "ServerUnavailable"),
    }
    assert reported.object.status.messages == FULL, "what was known stays"
    back = settled(replace(reported, server=HERE, queue=a_queue(counts=FULL)))
    assert shown(back.object.status) == {READY: ("True", "Paused")}


@pytest.mark.parametrize(("is_full", "reason"), [(True, "StoreFull"), (False, "StoreFailed")], ids=["full", "failed"])
def test_a_paused_object_reports_an_outage_of_a_store(is_full: bool, reason: str) -> None:  # noqa: FBT001  # a column
    ready = settled(on_disk(HERE_TOO))
    was = settled(replace(ready, object=replace(ready.object, is_paused=True)))
    short = replace(was, server=with_problem(9, is_full=is_full))
    assert next_step(short, POLICY, NOW) == Nothing(until=NOW + 1)
    reported = settled(replace(was, server=with_problem(10, is_full=is_full)))
    assert shown(reported.object.status)[READY] == ("False", reason)
    assert shown(settled(replace(reported, server=HERE_TOO)).object.status) == {READY: ("True", "Paused")}


def test_a_paused_object_whose_database_is_out_of_reach_is_as_before_afterwards() -> None:
    ready = settled(in_postgres(replicated()))
    was = settled(replace(ready, object=replace(ready.object, is_paused=True)))
    problem = StoreProblem(is_full=False, message="connection refused", was_opened=False, since=NOW - 10)
    epochs = {StoreKind.MEMORY: "epoch-1", StoreKind.POSTGRES: ""}
    server = Server(epochs=epochs, problems={StoreKind.POSTGRES: problem})
    reported = settled(replace(was, server=server, queue=None))
    assert shown(reported.object.status)[READY] == ("False", "StoreUnavailable")
    again = settled(replace(reported, server=was.server, queue=was.queue))
    assert shown(again.object.status) == {READY: ("True", "Paused")}


def test_a_paused_object_whose_store_was_lost_says_so_once_and_nothing_is_created_again() -> None:
    was = replace(paused(FULL), server=Server(epochs={StoreKind.MEMORY: "epoch-2"}), queue=None)
    step = next_step(was, POLICY, NOW)
    assert isinstance(step, WriteStatus)
    assert shown(step.status) == {READY: ("False", "ServerStateLost")}, "nothing works on it"
    assert (step.status.messages, step.status.epoch) == (None, "epoch-1")
    assert step.notice
    assert "this queue held 2 ready" in step.notice.message
    reported = replace(was, object=replace(was.object, status=step.status))
    assert next_step(reported, POLICY, NOW + 60) == Nothing()
    asked = next_step(replace(reported, object=replace(reported.object, reconcile_requested_at="now")), POLICY, NOW)
    assert isinstance(asked, WriteStatus)
    assert asked.notice is None, "one Event is enough"
    on = replace(reported, object=replace(reported.object, is_paused=False))
    assert declared(next_step(on, POLICY, NOW)).cause is Cause.STATE_LOST
    again = settled(replace(on, queue=a_queue(epoch="epoch-2"), obtained_by=Cause.STATE_LOST))
    assert shown(again.object.status) == {READY: ("True", "Ready")}


@pytest.mark.parametrize(
    "queue", [None, a_queue(THEIRS), a_queue(id_="uid-7")], ids=["deleted", "another's", "another"]
)
def test_a_paused_object_whose_queue_is_gone_is_not_ready(queue: ObservedQueue | None) -> None:
    was = replace(paused(FULL), queue=queue)
    status = written(next_step(was, POLICY, NOW))
    assert shown(status) == {READY: ("False", "Paused")}
    assert (status.messages, status.queue_id) == (None, "uid-1")
    ready = status.condition(READY)
    assert ready
    assert "the queue with the id status.queueID no longer exists" in ready.message
    assert next_step(replace(was, object=replace(was.object, status=status)), POLICY, NOW) == Nothing()


# Outages


def test_a_restart_is_no_outage() -> None:
    was = replace(settled(known()), server=away(9.9), queue=None)
    assert next_step(was, POLICY, NOW) == Nothing(until=NOW - 9.9 + 10)


def test_an_outage_is_reported_after_ten_seconds_and_once() -> None:
    was = replace(settled(known()), server=away(10), queue=None)
    status = written(next_step(was, POLICY, NOW))
    assert shown(status) == {
        READY: ("False", "ServerUnavailable"),
        RECONCILING: ("True", "ServerUnavailable"),
    }
    assert (status.queue_id, status.epoch, status.messages) == ("uid-1", "epoch-1", Counts()), "what was known stays"
    reported = replace(was, object=replace(was.object, status=status))
    assert next_step(reported, POLICY, NOW + 600) == Nothing()
    another_operator = replace(reported.server, away_since=NOW + 5)
    assert next_step(replace(reported, server=another_operator), POLICY, NOW + 600) == Nothing()
    not_tried_yet = Server(away_since=NOW + 5)
    assert next_step(replace(reported, server=not_tried_yet), POLICY, NOW + 600) == Nothing()


def test_an_outage_is_reported_again_when_it_has_another_cause() -> None:
    was = replace(settled(known()), server=away(10), queue=None)
    reported = replace(was, object=replace(was.object, status=written(next_step(was, POLICY, NOW))))
    expired = replace(reported.server, why_away="the server's certificate expired")
    ready = written(next_step(replace(reported, server=expired), POLICY, NOW + 20)).condition(READY)
    assert ready
    assert ready.message.endswith(": the server's certificate expired")
    assert ready.since == timestamp(NOW), "its status did not change"


def test_a_cause_must_last_before_it_is_reported() -> None:
    def fails(why: str, now: float, before: Server) -> Server:
        return server_away(why, before, now, lasts=5)

    first = fails("refused", 1, HERE)
    assert (first.away_since, first.why_away) == (1, "refused")
    other = fails("expired", 4, fails("expired", 2, first))
    assert (other.away_since, other.why_away) == (1, "refused")
    assert fails("expired", 7, other) == Server(away_since=1, why_away="expired")
    restless = other
    for now in range(10, 100, 2):
        restless = fails(f"error {now}", now, restless)
    assert restless.why_away == "refused"
    assert fails("refused", 5, Server(away_since=3)) == Server(away_since=3, why_away="refused"), "the first is at once"


def test_after_an_outage_it_is_ready_as_before() -> None:
    was = settled(replace(settled(known()), server=away(10), queue=None))
    status = written(next_step(replace(was, server=HERE, queue=a_queue()), POLICY, NOW + 60))
    assert shown(status) == {READY: ("True", "Ready")}
    ready = status.condition(READY)
    assert ready
    assert ready.since == timestamp(NOW + 60)


@pytest.mark.parametrize("an", [an_object(), deleting(), an_object(is_paused=True)], ids=["stays", "goes", "paused"])
@pytest.mark.parametrize("server", [HERE, away(1), away(60)], ids=["here", "away", "away for long"])
def test_one_look_computes_the_outage_once(an: QueueObject, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[Known] = []

    def counted(known: Known, policy: Policy) -> Outage | None:
        computed.append(known)
        return current_outage(known, policy)

    monkeypatch.setattr(situation, "current_outage", counted)
    next_step(known(an, server=server), POLICY, NOW)
    assert len(computed) == 1


def test_nothing_is_declared_while_the_server_is_away() -> None:
    assert isinstance(next_step(known(an_object(finalizers=()), server=away(1), queue=None), POLICY, NOW), Nothing)


# A store that is full or has failed

DISK = QueueSpec(store=StoreKind.DISK)


def on_disk(server: Server, **what: Any) -> Known:  # noqa: ANN401  # fields of Known
    """Return the state of an object whose queue exists on disk as wanted."""
    defaults: dict[str, Any] = {"an": an_object(spec=DISK), "queue": a_queue(store=StoreKind.DISK)}
    return known(server=server, **defaults | what)


@pytest.mark.parametrize("is_full", [True, False], ids=["full", "failed"])
def test_a_problem_of_a_store_is_no_news_at_first(is_full: bool) -> None:  # noqa: FBT001  # a column
    was = settled(on_disk(with_problem(0, is_full=is_full)) if is_full else on_disk(HERE_TOO))
    assert shown(was.object.status) == {READY: ("True", "Ready")}
    short = replace(was, server=with_problem(9.5, is_full=is_full))
    assert next_step(short, POLICY, NOW) == Nothing(until=NOW + 0.5)


@pytest.mark.parametrize(("is_full", "reason"), [(True, "StoreFull"), (False, "StoreFailed")], ids=["full", "failed"])
def test_a_problem_of_a_store_is_reported_after_ten_seconds_and_once(is_full: bool, reason: str) -> None:  # noqa: FBT001  # a column
    was = replace(settled(on_disk(HERE_TOO)), server=with_problem(10, is_full=is_full))
    status = written(next_step(was, POLICY, NOW))
    assert shown(status) == {READY: ("False", reason), RECONCILING: ("True", reason)}
    ready = status.condition(READY)
    assert ready
    assert "the disk is at fault" in ready.message
    reported = replace(was, object=replace(was.object, status=status))
    assert next_step(reported, POLICY, NOW) == Nothing()
    same = StoreProblem(is_full=is_full, message="the disk is at fault", since=NOW + 5)
    later = replace(reported, server=replace(reported.server, problems={StoreKind.DISK: same}))
    assert next_step(later, POLICY, NOW + 5) == Nothing(), "another operator is no news"
    other = replace(same, message="the disk was taken out")
    later = replace(reported, server=replace(reported.server, problems={StoreKind.DISK: other}))
    ready = written(next_step(later, POLICY, NOW + 5)).condition(READY)
    assert ready
    assert "the disk was taken out" in ready.message
    back = written(next_step(replace(reported, server=HERE_TOO), POLICY, NOW + 60))
    assert shown(back) == {READY: ("True", "Ready")}


def test_queues_in_another_store_do_not_notice() -> None:
    for is_full in (True, False):
        assert next_step(replace(settled(known()), server=with_problem(60, is_full=is_full)), POLICY, NOW) == Nothing()


def test_a_full_store_takes_declarations() -> None:
    full = on_disk(with_problem(60, is_full=True), queue=None)
    assert declared(next_step(full, POLICY, NOW)).cause is Cause.CREATED
    limited = a_queue(store=StoreKind.DISK, limit=7)
    status = replace(full.object, status=ready_status(), generation=2)
    assert declared(next_step(replace(full, object=status, queue=limited), POLICY, NOW)).cause is Cause.CHANGED


def test_nothing_is_declared_in_a_full_database_because_it_can_write_nothing() -> None:
    server = replicated(problem="full", reason=StoreFull.reason)
    was = replace(in_postgres(server), queue=None)
    assert shown(written(next_step(was, POLICY, NOW)))[RECONCILING] == ("True", "StoreFull")


def test_nothing_is_declared_in_a_store_that_has_failed() -> None:
    for queue in (None, a_queue(store=StoreKind.DISK, limit=7)):
        failed = on_disk(with_problem(1, is_full=False), an=an_object(spec=DISK, finalizers=()), queue=queue)
        assert next_step(failed, POLICY, NOW) == Nothing(until=NOW + 9)


def test_a_deletion_waits_for_a_store_that_has_failed() -> None:
    an = replace(deleting(), spec=DISK)
    was = on_disk(with_problem(30, is_full=False), an=an)
    assert next_step(was, POLICY, NOW) == ReadDeletionContext()
    status = written(next_step(replace(was, deletion_context=context()), POLICY, NOW))
    assert shown(status)[RECONCILING] == ("True", "StoreFailed")
    assert next_step(replace(was, server=with_problem(30, is_full=True)), POLICY, NOW) == Remove(owner=OURS)


def test_a_problem_is_as_old_as_it_was_before() -> None:
    def reported(now: float, before: Server, problem: str = "", reason: str = "") -> Server:
        disk = StoreState(store=StoreKind.DISK, epoch="epoch-2", problem=problem, reason=reason)
        return server_with([StoreState(store=StoreKind.MEMORY, epoch="epoch-1"), disk], before, now)

    well = reported(1, away(1))
    assert well == Server(epochs={StoreKind.MEMORY: "epoch-1", StoreKind.DISK: "epoch-2"})
    full = reported(2, well, "full", StoreFull.reason)
    assert full.problems == {StoreKind.DISK: StoreProblem(is_full=True, message="full", since=2, message_since=2)}
    assert reported(3, full, "fuller", StoreFull.reason) == full, "a message stays for a minute"
    fuller = reported(62, full, "fuller", StoreFull.reason).problems[StoreKind.DISK]
    assert (fuller.message, fuller.since, fuller.message_since) == ("fuller", 2, 62)
    failed = reported(4, full, "failed", StoreFailed.reason)
    assert failed.problems == {StoreKind.DISK: StoreProblem(is_full=False, message="failed", since=4, message_since=4)}
    assert not reported(5, failed).problems


def test_a_database_that_was_never_reached_is_another_problem_than_one_that_fails() -> None:
    def reported(now: float, before: Server, problem: str, epoch: str) -> Server:
        state = StoreState(store=StoreKind.POSTGRES, epoch=epoch, problem=problem, reason=StoreFailed.reason)
        return server_with([StoreState(store=StoreKind.MEMORY, epoch="epoch-1"), state], before, now)

    server = reported(NOW - 10, away(60), "connection refused", "")
    was = known(an_object(spec=QueueSpec(store=StoreKind.POSTGRES)), server=server, queue=None)
    assert next_step(was, POLICY, NOW - 1) == Nothing(until=NOW)
    status = written(next_step(was, POLICY, NOW))
    assert shown(status) == {READY: ("False", "StoreUnavailable"), RECONCILING: ("True", "StoreUnavailable")}
    failed = reported(NOW, server, "connection refused", "epoch-1").problems[StoreKind.POSTGRES]
    assert (failed.was_opened, failed.since) == (True, NOW)
    damaged = StoreState(store=StoreKind.DISK, epoch="", problem="damaged", reason=StoreFailed.reason)
    assert server_with([damaged], server, NOW).problems[StoreKind.DISK].was_opened


# What changes survive


def replicated(*, is_replicated: bool = True, problem: str = "", reason: str = StoreFailed.reason) -> Server:
    """Return a server with a database, whose commits may wait for a standby."""
    durability = Durability.REPLICATED if is_replicated else Durability.DISK
    state = StoreState(
        store=StoreKind.POSTGRES,
        epoch="epoch-1",
        problem=problem,
        reason=reason if problem else "",
        durability=durability,
    )
    return server_with([StoreState(store=StoreKind.MEMORY, epoch="epoch-1"), state], HERE, NOW - 60)


def in_postgres(server: Server) -> Known:
    """Return the state of an object whose queue is in the server's database."""
    spec = QueueSpec(store=StoreKind.POSTGRES)
    return known(an_object(spec=spec), server=server, queue=a_queue(store=StoreKind.POSTGRES))


def test_the_status_says_what_changes_survive_and_changes_with_it() -> None:
    was = settled(in_postgres(replicated()))
    assert was.object.status.durability is Durability.REPLICATED
    assert status_to(was.object.status)["durability"] == "Replicated"
    less = replace(was, server=replicated(is_replicated=False))
    status = written(next_step(less, POLICY, NOW))
    assert status_patch(was.object.status, status) == {"durability": "Disk"}, "one field of one write"
    assert shown(status) == {READY: ("True", "Ready")}


def test_a_database_that_fails_keeps_its_durability_because_its_settings_cannot_be_read() -> None:
    was = settled(in_postgres(replicated()))
    failed = replace(was, server=replicated(is_replicated=False, problem="away"))
    status = written(next_step(failed, POLICY, NOW))
    assert (status.reason, status.durability) == ("StoreFailed", Durability.REPLICATED)
    full = replace(was, server=replicated(is_replicated=False, problem="full", reason=StoreFull.reason))
    status = written(next_step(full, POLICY, NOW))
    assert (status.reason, status.durability) == ("StoreFull", Durability.DISK)


def test_a_server_that_is_too_old_to_say_leaves_the_field_out() -> None:
    assert "durability" not in status_to(settled(known()).object.status)


# A server that lost its store


def test_a_lost_store_is_reported_before_the_queue_is_ready_again() -> None:
    server = Server(epochs={StoreKind.MEMORY: "epoch-2"})
    held = settled(known(queue=a_queue(counts=Counts(ready=3))))
    was = replace(held, server=server, queue=a_queue(epoch="epoch-2"))
    first = written(next_step(was, POLICY, NOW))
    assert shown(first) == {READY: ("False", "ServerStateLost"), RECONCILING: ("True", "ServerStateLost")}
    assert first.epoch == "epoch-1", "an operator that is killed now says it again"
    ready = first.condition(READY)
    assert ready
    assert "this queue held 3 ready" in ready.message
    was = replace(was, object=replace(was.object, status=first))
    second = written(next_step(was, POLICY, NOW))
    assert shown(second) == {READY: ("True", "Ready")}
    assert second.epoch == "epoch-2"
    assert next_step(replace(was, object=replace(was.object, status=second)), POLICY, NOW) == Nothing()


def test_a_restored_backup_is_reported_with_what_is_in_it() -> None:
    held = settled(known(queue=a_queue(counts=Counts(ready=3))))
    server = Server(epochs={StoreKind.MEMORY: "epoch-2"})
    was = replace(held, server=server, queue=a_queue(epoch="epoch-2", counts=Counts(ready=2)))
    step = next_step(was, POLICY, NOW)
    assert isinstance(step, WriteStatus)
    assert step.notice
    assert (step.notice.reason, step.notice.is_warning) == ("ServerStateLost", True)
    assert "held 3 ready" in step.notice.message
    assert "now holds 2 ready" in step.notice.message


def test_a_restored_queue_that_is_not_as_declared_does_not_count_as_edited() -> None:
    server = Server(epochs={StoreKind.MEMORY: "epoch-2"})
    was = known(an_object(status=ready_status()), queue=a_queue(epoch="epoch-2", limit=7), server=server)
    assert declared(next_step(was, POLICY, NOW)).cause is Cause.STATE_LOST


# Counts


@pytest.mark.parametrize(
    ("old", "new", "limit", "matters"),
    [
        (None, Counts(), -1, True),
        (Counts(), Counts(), -1, False),
        (Counts(ready=5), Counts(ready=5), 1, False),
        (Counts(), Counts(ready=1), -1, True),
        (Counts(ready=1), Counts(), -1, True),
        (Counts(ready=10), Counts(ready=19), -1, False),
        (Counts(ready=10), Counts(ready=20), -1, True),
        (Counts(ready=10), Counts(ready=5), -1, True),
        (Counts(ready=10), Counts(ready=6), -1, False),
        (Counts(ready=50), Counts(ready=59), 100, False),
        (Counts(ready=50), Counts(ready=60), 100, True),
        (Counts(ready=60), Counts(ready=50), 100, True),
        (Counts(ready=50), Counts(ready=60), -1, False),
        (Counts(ready=100, dead=0), Counts(ready=99, dead=1), -1, True),
        (Counts(ready=100, leased=4), Counts(ready=100, leased=5), -1, False),
    ],
)
def test_counts_matter_if_they_changed_much(old: Counts | None, new: Counts, limit: int, matters: bool) -> None:  # noqa: FBT001  # a column
    assert counts_matter(old, new, limit) is matters


def test_counts_that_matter_are_written_and_now_and_then_only() -> None:
    was = replace(settled(known()), queue=a_queue(counts=Counts(ready=5)), counts_written_at=NOW - 29)
    assert next_step(was, POLICY, NOW) == Nothing(until=NOW + 1)
    step = next_step(was, POLICY, NOW + 1)
    assert isinstance(step, WriteStatus)
    assert step.only_counts
    assert step.status.messages == Counts(ready=5)


def test_counts_that_do_not_matter_are_not_written() -> None:
    was = settled(known(queue=a_queue(counts=Counts(ready=10))))
    assert next_step(replace(was, queue=a_queue(counts=Counts(ready=11))), POLICY, NOW + 3600) == Nothing()


def test_counts_go_along_with_what_is_written_anyway() -> None:
    was = replace(settled(known()), queue=a_queue(counts=Counts(ready=5)), counts_written_at=NOW)
    was = replace(was, object=replace(was.object, generation=2))
    step = next_step(was, POLICY, NOW)
    assert written(step).messages == Counts(ready=5)
    assert isinstance(step, WriteStatus)
    assert not step.only_counts


# Deletion


def test_a_deletion_without_our_finalizer_is_no_matter_of_ours() -> None:
    for policy in DeletionPolicy:
        assert next_step(known(deleting(policy, finalizers=("theirs",))), POLICY, NOW) == Nothing()


def test_delete_removes_the_queue_and_then_lets_go() -> None:
    assert next_step(known(deleting()), POLICY, NOW) == Remove(owner=OURS)
    assert next_step(known(deleting(is_paused=True)), POLICY, NOW) == Remove(owner=OURS), "though it is paused"
    absent = Removed(outcome=RemoveOutcome.ABSENT)
    assert next_step(known(deleting(), queue=None, removed=absent), POLICY, NOW) == DropFinalizer()


def test_a_queue_that_was_never_seen_is_removed_all_the_same() -> None:
    assert next_step(known(deleting(), queue=None), POLICY, NOW) == Remove(owner=OURS)


def test_retain_lets_go_at_once_whatever_the_server_does() -> None:
    for server in (HERE, away(1), away(3600)):
        an = deleting(DeletionPolicy.RETAIN)
        assert next_step(known(an, server=server, queue=None), POLICY, NOW) == DropFinalizer()


@pytest.mark.parametrize(
    ("removed", "reason", "message"),
    [
        (Removed(outcome=RemoveOutcome.REMOVED, dropped=Counts()), None, ""),
        (
            Removed(outcome=RemoveOutcome.REMOVED, dropped=Counts(ready=1, dead=1)),
            "MessagesDropped",
            "2 messages: 1 ready",
        ),
        (Removed(outcome=RemoveOutcome.REMOVED, dropped=Counts(dead=1)), "MessagesDropped", "with 1 message: 0 ready"),
        (Removed(outcome=RemoveOutcome.ABSENT), None, ""),
        (Removed(outcome=RemoveOutcome.REFUSED, why="it belongs to another"), LEFT, "it belongs to another"),
    ],
)
def test_an_event_reports_what_was_lost_or_left(removed: Removed, reason: str | None, message: str) -> None:
    step = next_step(known(deleting(), removed=removed), POLICY, NOW)
    assert isinstance(step, DropFinalizer)
    assert (step.notice.reason if step.notice else None) == reason
    assert step.notice is None or (step.notice.is_warning and message in step.notice.message)


def test_no_event_reports_a_queue_that_was_never_the_objects() -> None:
    refused = Removed(outcome=RemoveOutcome.REFUSED, why="it belongs to another")
    for status, is_reported in ((QueueStatus(), False), (ready_status(), True)):
        was = known(deleting(status=status), queue=a_queue(THEIRS), removed=refused)
        step = next_step(was, POLICY, NOW)
        assert isinstance(step, DropFinalizer)
        assert (step.notice is not None) is is_reported


def test_a_removal_that_has_its_response_drops_the_finalizer_though_the_server_is_away_now() -> None:
    removed = Removed(outcome=RemoveOutcome.REMOVED, dropped=Counts())
    assert next_step(known(deleting(), removed=removed, server=away(1)), POLICY, NOW) == DropFinalizer()


# Deletion without a server


def context(seen_before: float = 0.0, *, terminating: bool = False, server_is_gone: bool = False) -> DeletionContext:
    """Return a context that was looked up `seen_before` seconds ago."""
    return DeletionContext(
        namespace_is_terminating=terminating, server_is_gone=server_is_gone, seen_at=NOW - seen_before
    )


@pytest.mark.parametrize("policy", [DeletionPolicy.DELETE, DeletionPolicy.DRAIN])
def test_a_deletion_waits_for_the_server_and_looks_around(policy: DeletionPolicy) -> None:
    was = known(deleting(policy), server=away(5), queue=None)
    assert next_step(was, POLICY, NOW) == ReadDeletionContext()
    waits = replace(was, deletion_context=context())
    assert next_step(waits, POLICY, NOW) == Nothing(until=NOW + 5), "until the outage is reported"
    assert next_step(replace(was, deletion_context=context(MAX_CONTEXT_AGE)), POLICY, NOW) == ReadDeletionContext()


def test_a_deletion_that_waits_reports_the_outage_and_waits_on() -> None:
    was = known(deleting(), server=away(30), queue=None, deletion_context=context())
    status = written(next_step(was, POLICY, NOW))
    assert shown(status)[RECONCILING] == ("True", "ServerUnavailable")
    reported = replace(was, object=replace(was.object, status=status))
    assert next_step(reported, POLICY, NOW) == Nothing(until=NOW + MAX_CONTEXT_AGE)
    near = replace(reported, server=away(595))
    assert next_step(near, POLICY, NOW) == Nothing(until=NOW + 5)


FAILED = with_problem(600, is_full=False)


@pytest.mark.parametrize(
    ("server", "around", "why"),
    [
        (
            away(1),
            context(terminating=True),
            "the namespace is being deleted, and the server at queuelet:10002 has not",
        ),
        (away(1), context(server_is_gone=True), "the Service of the server was deleted"),
        (away(600), context(), f"has not responded since {timestamp(NOW - 600)}"),
        (FAILED, context(terminating=True), "the namespace is being deleted, and the store of the server at"),
        (FAILED, context(server_is_gone=True), "the Service of the server was deleted"),
        (
            FAILED,
            context(),
            f"the store of the server at queuelet:10002 has been unusable since {timestamp(NOW - 600)}",
        ),
    ],
    ids=["namespace", "Service", "time", "namespace, store", "Service, store", "time, store"],
)
def test_a_deletion_is_let_go_without_the_server(server: Server, around: DeletionContext, why: str) -> None:
    queue = None if server.is_away else a_queue(store=StoreKind.DISK)
    for policy in (DeletionPolicy.DELETE, DeletionPolicy.DRAIN):
        step = next_step(known(deleting(policy), server=server, queue=queue, deletion_context=around), POLICY, NOW)
        assert isinstance(step, DropFinalizer)
        assert step.notice
        assert (step.notice.reason, step.notice.is_warning) == (LEFT, True)
        assert why in step.notice.message
        assert "may remain on the server" in step.notice.message


def test_with_the_server_there_a_terminating_namespace_is_no_reason_to_leave_a_queue() -> None:
    assert next_step(known(deleting(), deletion_context=context(terminating=True)), POLICY, NOW) == Remove(owner=OURS)


# Drain

FULL = Counts(ready=2)


def draining(counts: Counts = FULL) -> ObservedQueue:
    """Return a queue that refuses new messages."""
    return a_queue(counts=counts, draining=True)


def test_a_drain_closes_the_queue_first() -> None:
    for counts in (FULL, Counts()):
        step = declared(next_step(known(deleting(DeletionPolicy.DRAIN), queue=a_queue(counts=counts)), POLICY, NOW))
        assert (step.cause, step.definition.draining) == (Cause.DRAIN, True)


def test_a_drain_that_is_refused_for_now_is_tried_again_when_it_is_time() -> None:
    was = known(deleting(DeletionPolicy.DRAIN), queue=a_queue(counts=FULL), refusal=FOR_NOW)
    assert not isinstance(next_step(was, POLICY, NOW), Declare)
    assert isinstance(next_step(was, POLICY, NOW + 5), Declare)


def test_a_drain_ends_though_the_server_would_not_take_the_object_any_more() -> None:
    """The queue is closed with its present definition, because the server may have refused the wanted one."""
    an = deleting(DeletionPolicy.DRAIN, generation=2)
    an = replace(an, spec=replace(an.spec, limit=5, tags=PackedTags([Tag("a", "refused")])))
    step = declared(next_step(known(an, queue=a_queue(counts=FULL, limit=3)), POLICY, NOW))
    assert (step.definition.limit, step.definition.tags, step.definition.draining) == (3, PackedTags(), True)


def test_a_drain_looks_around_and_reports_what_it_waits_for() -> None:
    was = known(deleting(DeletionPolicy.DRAIN), queue=draining())
    assert next_step(was, POLICY, NOW) == ReadDeletionContext()
    was = replace(was, deletion_context=context())
    status = written(next_step(was, POLICY, NOW))
    assert shown(status) == {READY: ("False", "WaitingForDrain"), RECONCILING: ("True", "WaitingForDrain")}
    assert status.messages == FULL
    reported = replace(was, object=replace(was.object, status=status))
    assert next_step(reported, POLICY, NOW) == Nothing(until=NOW + MAX_CONTEXT_AGE)


def test_a_queue_that_is_drained_is_removed() -> None:
    was = known(deleting(DeletionPolicy.DRAIN), queue=draining(Counts()))
    assert next_step(was, POLICY, NOW) == Remove(owner=OURS)


@pytest.mark.parametrize("queue", [a_queue(counts=FULL), draining()], ids=["open", "draining"])
def test_a_drain_ends_at_its_deadline(queue: ObservedQueue) -> None:
    an = deleting(DeletionPolicy.DRAIN, since=60, drain_seconds=60)
    assert next_step(known(an, queue=queue, deletion_context=context()), POLICY, NOW) == Remove(owner=OURS)


def test_a_drain_is_looked_at_again_at_its_deadline() -> None:
    an = deleting(DeletionPolicy.DRAIN, since=57, drain_seconds=60)
    was = known(an, queue=draining(), deletion_context=context())
    reported = replace(was, object=replace(an, status=written(next_step(was, POLICY, NOW))))
    assert next_step(reported, POLICY, NOW) == Nothing(until=NOW + 3)


def test_a_drain_that_waits_names_its_deadline_if_it_has_one() -> None:
    for seconds, by_then in ((60, f"or at {timestamp(NOW + 50)} with the messages left"), (None, "")):
        an = deleting(DeletionPolicy.DRAIN, since=10, drain_seconds=seconds)
        ready = written(next_step(known(an, queue=draining(), deletion_context=context()), POLICY, NOW)).condition(
            READY
        )
        assert ready
        assert by_then in ready.message
        assert ("or at" in ready.message) is (seconds is not None)


def test_what_is_retained_in_the_midst_of_a_drain_is_opened_before_the_object_goes() -> None:
    was = known(deleting(DeletionPolicy.RETAIN), queue=draining())
    step = declared(next_step(was, POLICY, NOW))
    assert (step.cause, step.definition) == (Cause.CHANGED, a_queue().definition)
    assert next_step(replace(was, queue=a_queue(counts=FULL)), POLICY, NOW) == DropFinalizer()
    assert (
        next_step(
            replace(was, queue=replace(draining(), definition=a_queue(THEIRS, draining=True).definition)), POLICY, NOW
        )
        == DropFinalizer()
    )


def test_a_store_that_cannot_be_opened_again_is_reported() -> None:
    drained = known(deleting(DeletionPolicy.DRAIN), queue=draining(), deletion_context=context())
    status = written(next_step(drained, POLICY, NOW))
    an = deleting(DeletionPolicy.RETAIN, status=status)
    for was in (known(an, queue=draining(), refusal=FOR_NOW), known(an, queue=None, server=away(1))):
        step = next_step(was, POLICY, NOW)
        assert isinstance(step, DropFinalizer)
        assert step.notice
        assert (step.notice.reason, step.notice.is_warning) == (LEFT, True)
        assert "closed to new messages" in step.notice.message


def test_in_a_terminating_namespace_a_drain_leaves_the_queue() -> None:
    """Its consumers are deleted with the namespace, and keeping the messages matters more than a clean server."""
    was = known(deleting(DeletionPolicy.DRAIN), queue=draining(), deletion_context=context(terminating=True))
    step = next_step(was, POLICY, NOW)
    assert isinstance(step, DropFinalizer)
    assert step.notice
    assert step.notice.reason == LEFT
    assert "closed to new messages, with 2 ready" in step.notice.message


@pytest.mark.parametrize("queue", [None, a_queue(THEIRS), a_queue(EARLIER), a_queue(None)])
def test_a_queue_that_is_not_ours_is_not_drained(queue: ObservedQueue | None) -> None:
    assert next_step(known(deleting(DeletionPolicy.DRAIN), queue=queue), POLICY, NOW) == Remove(owner=OURS)


# From anywhere to an end


@dataclass
class World:
    """A fake of the server and of the API server, as far as the steps need them."""

    server: Server
    queue: ObservedQueue | None
    an_object: QueueObject
    namespace_is_terminating: bool = False
    service_is_gone: bool = False
    refuses: Refusal | None = None
    """The refusal of every declaration; None if the server accepts them."""
    now: float = NOW

    is_gone: bool = False
    steps: list[Step] = field(default_factory=list)
    refusal: Refusal | None = None
    removed: Removed | None = None
    around: DeletionContext | None = None
    handled_request: str = ""
    obtained_by: Cause | None = None
    counts_written_at: float = 0.0

    def known(self) -> Known:
        """Return the state that the operator sees."""
        return Known(
            object=self.an_object,
            server=self.server,
            queue=None if self.server.is_away else self.queue,
            refusal=self.refusal,
            removed=self.removed,
            deletion_context=self.around,
            handled_request=self.handled_request,
            obtained_by=self.obtained_by,
            counts_written_at=self.counts_written_at,
        )

    def look(self) -> Nothing:
        """Execute steps until there is nothing to do, as the controller does."""
        for _ in range(MAX_STEPS):
            step = Nothing() if self.is_gone else next_step(self.known(), POLICY, self.now)
            if isinstance(step, Nothing):
                return step
            self.steps.append(step)
            self.take(step)
        raise AssertionError(f"more than {MAX_STEPS} steps: {self.steps}")

    def take(self, step: Step) -> None:
        """Execute a step."""
        match step:
            case AddFinalizer():
                assert FINALIZER not in self.an_object.finalizers
                self._change(finalizers=(*self.an_object.finalizers, FINALIZER))
            case DropFinalizer():
                kept = tuple(each for each in self.an_object.finalizers if each != FINALIZER)
                assert kept != self.an_object.finalizers
                self._change(finalizers=kept)
                self.is_gone = self.an_object.is_deleting and not kept
            case Declare():
                self._declare(step)
            case Remove():
                self._remove(step)
            case ReadDeletionContext():
                self.around = DeletionContext(
                    namespace_is_terminating=self.namespace_is_terminating,
                    server_is_gone=self.service_is_gone,
                    seen_at=self.now,
                )
            case WriteStatus():
                self._write(step)

    def _change(self, **what: Any) -> None:  # noqa: ANN401  # fields of QueueObject
        self.an_object = replace(self.an_object, resource_version=self.an_object.resource_version + 1, **what)

    def _declare(self, step: Declare) -> None:
        assert not self.server.is_away
        wanted, queue = step.definition, self.queue
        epoch = (self.server.epochs or {}).get(wanted.store)
        refusal = self.refuses
        if epoch is None or (queue and queue.definition.store != wanted.store):
            refusal = FINAL
        elif queue and not step.adopt and not (queue.definition.owner and queue.definition.owner.name == OURS.name):
            refusal = replace(FINAL, reason="NOT_OWNER")
        if refusal:
            self.refusal = replace(refusal, retry_at=self.now + 1)
            return
        self.refusal, self.handled_request = None, self.an_object.reconcile_requested_at
        outcome = DeclareOutcome.UPDATED if queue else DeclareOutcome.CREATED
        self.obtained_by = how_obtained(self.obtained_by, step.cause, outcome)
        new = ObservedQueue(id="uid-1", definition=wanted, revision=1, counts=Counts(), epoch=epoch or "")
        self.queue = replace(queue, definition=wanted) if queue else new

    def _remove(self, step: Remove) -> None:
        assert not self.server.is_away
        if self.queue is None:
            self.removed = Removed(outcome=RemoveOutcome.ABSENT)
        elif self.queue.definition.owner != step.owner:
            self.removed = Removed(outcome=RemoveOutcome.REFUSED, why="it belongs to another")
        else:
            self.removed = Removed(outcome=RemoveOutcome.REMOVED, dropped=self.queue.counts)
            self.queue = None

    def _write(self, step: WriteStatus) -> None:
        old = self.an_object.status
        patch = status_patch(old, step.status)
        assert patch, "a write changes something"
        if "messages" in patch:
            self.counts_written_at = self.now
        self._change(status=status_from(_merged(status_to(old), patch)))
        assert self.an_object.status == step.status


def _merged(target: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    result = dict(target)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            result[name] = _merged(result.get(name) or {}, value)
        else:
            result[name] = value
    return result


times = st.sampled_from([timestamp(NOW - 60), timestamp(NOW - 3600)])
some_counts = st.builds(Counts, st.integers(0, 3), st.just(0), st.integers(0, 1), st.integers(0, 1))
delivery = st.builds(
    DeliverySettings, lease_seconds=st.sampled_from([30, 60]), message_ttl_seconds=st.sampled_from([None, 5])
)
some_tags = st.builds(PackedTags, st.sampled_from([(), (Tag("a", "1"),), (Tag("a", "2"), Tag("a", "1"))]))
stores = st.sampled_from(StoreKind)
epochs = st.sampled_from(["epoch-1", "epoch-2"])
some_conditions = st.builds(
    Condition,
    type=st.sampled_from([READY, RECONCILING, STALLED, "Audited"]),
    status=st.sampled_from(["True", "False", "Unknown"]),
    reason=st.sampled_from([each.value for each in Reason]),
    message=st.sampled_from(["", "as it was"]),
    observed_generation=st.integers(0, 2),
    since=times,
)
some_statuses = st.builds(
    QueueStatus,
    observed_generation=st.integers(-1, 2),
    conditions=st.lists(some_conditions, max_size=3, unique_by=lambda each: each.type).map(tuple),
    queue_id=st.sampled_from(["", "uid-1", "theirs"]),
    queue_name=st.sampled_from(["", NAME]),
    address=st.sampled_from(["", POLICY.address, "elsewhere:1"]),
    messages=st.none() | some_counts,
    epoch=st.sampled_from(["", "epoch-1", "epoch-2"]),
    adopted_at=st.sampled_from(["", timestamp(NOW - 60)]),
    last_handled_reconcile_at=st.sampled_from(["", "once", "again"]),
)
some_objects = st.builds(
    QueueObject,
    key=st.just(KEY),
    uid=st.just("uid-1"),
    generation=st.integers(1, 2),
    resource_version=st.just(1),
    spec=st.builds(
        QueueSpec,
        store=stores,
        limit=st.sampled_from([-1, 10]),
        tags=some_tags,
        delivery=delivery,
        deletion_policy=st.sampled_from(DeletionPolicy),
        drain_seconds=st.sampled_from([None, 30]),
    ),
    status=some_statuses,
    finalizers=st.sampled_from([(), (FINALIZER,), ("theirs", FINALIZER), ("theirs",)]),
    deleted_at=st.sampled_from([None, None, NOW - 1, NOW - 60]),
    is_paused=st.booleans(),
    adopts=st.booleans(),
    reconcile_requested_at=st.sampled_from(["", "once", "again"]),
)
some_queues = st.builds(
    ObservedQueue,
    id=st.sampled_from(["uid-1", "theirs"]),
    definition=st.builds(
        Declared,
        store=stores,
        name=st.just(NAME),
        limit=st.sampled_from([-1, 10]),
        tags=some_tags,
        owner=st.sampled_from([OURS, OURS, EARLIER, THEIRS, None]),
        delivery=delivery,
        draining=st.booleans(),
    ),
    revision=st.just(1),
    counts=some_counts,
    epoch=epochs,
)
some_servers = st.one_of(
    st.builds(
        Server,
        epochs=st.sampled_from(
            [
                {StoreKind.MEMORY: "epoch-1"},
                {StoreKind.MEMORY: "epoch-2", StoreKind.DISK: "epoch-1"},
                {StoreKind.DISK: "epoch-2"},
            ]
        ),
    ),
    st.sampled_from([away(1), away(11), away(601)]),
    st.builds(with_problem, st.sampled_from([1, 11, 601]), is_full=st.booleans()),
)
worlds = st.builds(
    World,
    server=some_servers,
    queue=st.none() | some_queues,
    an_object=some_objects,
    namespace_is_terminating=st.booleans(),
    service_is_gone=st.booleans(),
    refuses=st.sampled_from([None, None, FINAL, FOR_NOW]),
)


@given(world=worlds)
def test_from_anywhere_it_comes_to_rest_within_eight_steps(world: World) -> None:
    rest = world.look()
    status, an = world.an_object.status, world.an_object
    if world.is_gone or an.is_deleting:
        assert world.is_gone or not an.has_finalizer or rest.until is not None, "a deletion that waits is looked at"
        return
    says = shown(status)
    outage = current_outage(world.known(), POLICY)
    if an.is_paused:
        assert not any(isinstance(each, Declare | Remove) for each in world.steps)
        is_there = outage is not None or (world.queue is not None and world.queue.id == status.queue_id)
        assert says[READY][0] == "False" or is_there, "it does not say that a queue is there that is not"
        return
    if outage and outage.blocks_calls and rest.until is not None:
        return
    assert status.observed_generation == an.generation
    is_ready, is_stalled = says[READY] == ("True", "Ready"), STALLED in says
    is_waiting = RECONCILING in says
    assert [is_ready, is_stalled, is_waiting].count(True) == 1, "it is one of three"
    assert rest.until is not None or is_ready or is_stalled or outage, "what waits is looked at again"
    if is_ready:
        assert world.queue
        wanted = an.spec.definition(NAME, OURS)
        have = world.queue.definition
        assert have == wanted
        assert status.queue_id == world.queue.id
        assert an.has_finalizer is (an.spec.deletion_policy is not DeletionPolicy.RETAIN)


@given(world=worlds)
def test_at_rest_it_stays_at_rest(world: World) -> None:
    rest = world.look()
    taken = len(world.steps)
    assert world.look() == rest
    assert len(world.steps) == taken


@given(world=worlds)
def test_an_operator_that_is_restarted_at_rest_has_nothing_to_repair(world: World) -> None:
    world.look()
    if world.is_gone or world.refusal:
        return
    world.removed, world.around, world.handled_request, world.obtained_by = None, None, "", None
    world.counts_written_at = 0.0
    taken = len(world.steps)
    world.look()
    assert not [each for each in world.steps[taken:] if isinstance(each, Declare | AddFinalizer)]


@given(world=worlds)
def test_it_touches_no_queue_of_another_unless_it_may_adopt_it(world: World) -> None:
    before = world.queue
    if before is None or (before.definition.owner and before.definition.owner.name == OURS.name):
        return
    if world.an_object.adopts and not world.an_object.status.adopted_at:
        return
    world.look()
    assert world.queue == before


def cannot_work(world: World) -> bool:
    """Return whether an outage blocks calls on the queue of a world."""
    outage = current_outage(world.known(), POLICY)
    return outage is not None and outage.blocks_calls


@given(world=worlds)
def test_a_deletion_comes_to_an_end_unless_it_drains_a_server_that_is_there(world: World) -> None:
    an = world.an_object
    drains_for_ever = an.spec.deletion_policy is DeletionPolicy.DRAIN and an.spec.drain_seconds is None
    if not (an.is_deleting and an.has_finalizer) or (drains_for_ever and not cannot_work(world)):
        return
    world.refuses = None
    for _ in range(200):
        rest = world.look()
        if world.is_gone or not world.an_object.has_finalizer:
            return
        assert rest.until is not None
        assert rest.until > world.now
        world.now = rest.until
    raise AssertionError(f"it waits since {world.now - NOW} s")


@pytest.mark.parametrize("refusal", [FINAL, FOR_NOW], ids=["for good", "for now"])
def test_a_drain_that_is_refused_does_not_go_round_in_circles(refusal: Refusal) -> None:
    an = deleting(DeletionPolicy.DRAIN)
    world = World(server=HERE, queue=a_queue(counts=FULL), an_object=an, refuses=refusal)
    rest = world.look()
    assert rest.until is not None
    assert rest.until > NOW
