"""A status survives the conversion to JSON and back, and the patch between two statuses changes one to the other."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuelet.definition import Counts, DeliverySettings, Durability, StoreKind
from queuelet_operator.plan.status import (
    READY,
    STALLED,
    UNSEEN,
    Condition,
    Effective,
    QueueStatus,
    status_from,
    status_patch,
    status_to,
    timestamp,
    with_condition,
    without_condition,
)

Json = dict[str, Any]

texts = st.text(max_size=4)
counts = st.builds(Counts, *[st.integers(0, 3)] * 4)
conditions = st.builds(
    Condition,
    type=st.sampled_from([READY, "Reconciling", STALLED, "Audited"]),
    status=st.sampled_from(["True", "False", "Unknown"]),
    reason=st.sampled_from(["Ready", "Paused"]),
    message=texts,
    observed_generation=st.integers(0, 2),
    since=st.sampled_from(["2026-11-23T07:00:00Z", "2026-11-23T08:00:00Z"]),
)
effectives = st.builds(
    Effective,
    store=st.sampled_from(StoreKind),
    limit=st.sampled_from([-1, 1, 2]),
    tag_count=st.integers(0, 2),
    tags_hash=texts,
    delivery=st.builds(
        DeliverySettings,
        lease_seconds=st.sampled_from([30, 60]),
        max_deliveries=st.sampled_from([5, 6]),
        message_ttl_seconds=st.sampled_from([None, 1, 2]),
    ),
)
statuses = st.builds(
    QueueStatus,
    observed_generation=st.integers(UNSEEN, 3),
    conditions=st.lists(conditions, max_size=3, unique_by=lambda each: each.type).map(tuple),
    queue_id=texts,
    queue_name=texts,
    address=texts,
    effective=st.none() | effectives,
    messages=st.none() | counts,
    durability=st.sampled_from([None, *Durability]),
    epoch=texts,
    adopted_at=texts,
    last_handled_reconcile_at=texts,
)


def merged(target: Any, patch: Any) -> Any:  # noqa: ANN401  # JSON
    """Apply a merge patch, by the pseudocode of RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


@given(status=statuses)
def test_a_status_comes_out_as_it_went_in(status: QueueStatus) -> None:
    assert status_from(status_to(status)) == status


@given(old=statuses, new=statuses)
def test_the_patch_makes_the_new_one_of_the_old_one(old: QueueStatus, new: QueueStatus) -> None:
    before = status_to(old)
    kept = deepcopy(before)
    assert merged(before, status_patch(old, new)) == status_to(new)
    assert before == kept


@given(old=statuses, new=statuses, theirs=st.dictionaries(st.sampled_from(["a", "b"]), st.integers(), max_size=2))
def test_the_patch_leaves_fields_alone_that_it_does_not_know(old: QueueStatus, new: QueueStatus, theirs: Json) -> None:
    assert merged(status_to(old) | theirs, status_patch(old, new)) == status_to(new) | theirs


@given(status=statuses)
def test_there_is_no_patch_between_equals(status: QueueStatus) -> None:
    assert status_patch(status, status_from(status_to(status))) == {}


@given(old=statuses, new=statuses)
def test_the_patch_names_what_changed_and_nothing_else(old: QueueStatus, new: QueueStatus) -> None:
    before, after = status_to(old), status_to(new)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert status_patch(old, new).keys() == changed


def test_new_counts_are_a_small_patch() -> None:
    old = QueueStatus(messages=Counts(ready=1), queue_id="1", queue_name="shop.orders")
    new = QueueStatus(messages=Counts(ready=3), queue_id="1", queue_name="shop.orders")
    assert status_patch(old, new) == {"messages": {"ready": 3, "delayed": 0, "leased": 0, "dead": 0, "total": 3}}


def test_a_time_to_live_that_is_gone_is_named() -> None:
    def status(ttl: int | None) -> QueueStatus:
        delivery = DeliverySettings(message_ttl_seconds=ttl)
        return QueueStatus(
            effective=Effective(store=StoreKind.MEMORY, limit=1, tag_count=0, tags_hash="", delivery=delivery)
        )

    assert status_patch(status(5), status(None))["effective"]["delivery"]["messageTTLSeconds"] is None
    assert "messageTTLSeconds" not in merged(status_to(status(5)), status_patch(status(5), status(None)))["effective"]


# Fields that other programs wrote


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"conditions": None},
        {"effective": {}},
        {"effective": None, "messages": None},
        {"messages": {}},
        {"effective": {"limit": 1}},
        {"unknown": 1, "conditions": []},
    ],
)
def test_what_is_not_there_is_empty(status: Json) -> None:
    assert status_from(status) == QueueStatus()


def test_what_is_partly_there_takes_defaults() -> None:
    status = status_from({"effective": {"store": "Disk"}, "messages": {"dead": 2}})
    assert status.effective == Effective(
        store=StoreKind.DISK, limit=0, tag_count=0, tags_hash="", delivery=DeliverySettings()
    )
    assert status.messages == Counts(dead=2)


# Conditions

AT = "2026-11-23T07:00:00Z"
LATER = "2026-11-23T08:00:00Z"


def a_condition(type_: str = READY, status: str = "True", reason: str = "Ready", since: str = AT) -> Condition:
    """Return a condition."""
    return Condition(type=type_, status=status, reason=reason, message="", since=since)


def test_a_condition_whose_status_stays_keeps_its_time() -> None:
    old = (a_condition(),)
    assert with_condition(old, a_condition(reason="Paused", since=LATER)) == (a_condition(reason="Paused"),)
    assert with_condition(old, a_condition(status="False", since=LATER)) == (a_condition(status="False", since=LATER),)


def test_other_conditions_stay_as_they_are_and_where_they_are() -> None:
    theirs = a_condition("Audited", "Unknown")
    old = (theirs, a_condition(), a_condition(STALLED))
    assert with_condition(old, a_condition(status="False", since=LATER)) == (
        theirs,
        a_condition(status="False", since=LATER),
        a_condition(STALLED),
    )
    assert without_condition(old, STALLED) == old[:2]
    assert without_condition(old, "Missing") == old


@given(old=st.lists(conditions, max_size=3, unique_by=lambda each: each.type).map(tuple), new=conditions)
def test_there_is_one_condition_of_a_type(old: tuple[Condition, ...], new: Condition) -> None:
    types = [each.type for each in with_condition(old, new)]
    assert len(types) == len(set(types)) == len({each.type for each in old} | {new.type})
    assert with_condition(with_condition(old, new), new) == with_condition(old, new)


def test_it_reads_readiness_from_ready_alone() -> None:
    assert not QueueStatus().is_ready
    assert QueueStatus().reason == ""
    status = QueueStatus(conditions=(a_condition(STALLED, reason="NotOwner"), a_condition()))
    assert status.is_ready
    assert status.reason == "Ready"
    assert not QueueStatus(conditions=(a_condition(status="Unknown"),)).is_ready


def test_times_are_as_kubernetes_writes_them() -> None:
    assert timestamp(0) == "1970-01-01T00:00:00Z"
    assert timestamp(1795420549.89) == "2026-11-23T07:55:49Z"
