"""A Queue's status as plain values: conversion from and to JSON, and the merge patch between two statuses.

The conditions follow kstatus (sigs.k8s.io/cli-utils): Ready is always present, Reconciling and Stalled only while they
are true, so that `kubectl wait`, Flux and Argo CD understand them without configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from queuelet.definition import Counts, DeliverySettings, Durability, StoreKind

Json = dict[str, Any]

_DURABILITIES = {each.name.title(): each for each in Durability}

UNSEEN = -1
"""The observedGeneration of an object that no operator has handled yet: the default in the CRD."""

READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """One condition of a status."""

    type: str
    status: str
    """True, False or Unknown."""
    reason: str
    message: str
    observed_generation: int = 0
    since: str = ""
    """When `status` last changed, as a Kubernetes timestamp."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Effective:
    """The queue's definition as the server reports it."""

    store: StoreKind
    limit: int
    tag_count: int
    tags_hash: str
    """A hash of the tags, independent of their order, because the tags themselves would double the object's size."""
    delivery: DeliverySettings


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueStatus:
    """A Queue's status."""

    observed_generation: int = UNSEEN
    conditions: tuple[Condition, ...] = ()
    queue_id: str = ""
    queue_name: str = ""
    address: str = ""
    effective: Effective | None = None
    durability: Durability | None = None
    """What committed changes of the queue survive; None if that is unknown."""
    messages: Counts | None = None
    epoch: str = ""
    adopted_at: str = ""
    last_handled_reconcile_at: str = ""

    def condition(self, type_: str) -> Condition | None:
        """Return the condition with this type, None if there is none."""
        return next((each for each in self.conditions if each.type == type_), None)

    @property
    def reason(self) -> str:
        """The reason of the condition Ready; empty before the first status."""
        ready = self.condition(READY)
        return ready.reason if ready else ""

    @property
    def is_ready(self) -> bool:
        """Whether the condition Ready is True."""
        ready = self.condition(READY)
        return ready is not None and ready.status == "True"


def with_condition(conditions: tuple[Condition, ...], new: Condition) -> tuple[Condition, ...]:
    """Return the conditions with `new` added or replaced. It keeps its transition time if its status did not change."""
    old = next((each for each in conditions if each.type == new.type), None)
    if old and old.status == new.status:
        new = Condition(
            type=new.type,
            status=new.status,
            reason=new.reason,
            message=new.message,
            observed_generation=new.observed_generation,
            since=old.since,
        )
    if old is None:
        return (*conditions, new)
    return tuple(new if each is old else each for each in conditions)


def without_condition(conditions: tuple[Condition, ...], type_: str) -> tuple[Condition, ...]:
    """Return the conditions without the one with this type."""
    return tuple(each for each in conditions if each.type != type_)


# JSON


def status_from(status: Mapping[str, Any]) -> QueueStatus:
    """Convert a status from JSON."""
    counts = status.get("messages")
    return QueueStatus(
        observed_generation=status.get("observedGeneration", UNSEEN),
        conditions=tuple(_condition_from(each) for each in status.get("conditions") or ()),
        queue_id=status.get("queueID", ""),
        queue_name=status.get("queueName", ""),
        address=status.get("address", ""),
        effective=_effective_from(status.get("effective")),
        durability=_DURABILITIES.get(status.get("durability", "")),
        messages=Counts(*(counts.get(state, 0) for state in Counts._fields)) if counts else None,
        epoch=status.get("epoch", ""),
        adopted_at=status.get("adoptedAt", ""),
        last_handled_reconcile_at=status.get("lastHandledReconcileAt", ""),
    )


def status_to(status: QueueStatus) -> Json:
    """Convert a status to JSON, without empty fields."""
    shown: Json = {
        "observedGeneration": status.observed_generation,
        "conditions": [_condition_to(each) for each in status.conditions],
        "queueID": status.queue_id,
        "queueName": status.queue_name,
        "address": status.address,
        "effective": _effective_to(status.effective),
        "durability": status.durability.name.title() if status.durability else None,
        "messages": _messages_to(status.messages),
        "epoch": status.epoch,
        "adoptedAt": status.adopted_at,
        "lastHandledReconcileAt": status.last_handled_reconcile_at,
    }
    return {name: value for name, value in shown.items() if value not in ("", None)}


def status_patch(old: QueueStatus, new: QueueStatus) -> Json:
    """Return the merge patch (RFC 7386) that changes `old` to `new`; empty if they are equal."""
    if old == new:
        return {}
    before, after = status_to(old), status_to(new)
    changed = {name: _replaced(before.get(name), value) for name, value in after.items() if value != before.get(name)}
    return changed | dict.fromkeys(before.keys() - after.keys())


def _replaced(old: object, new: object) -> object:
    """Return a merge patch from one value to another. Removed fields appear in it as null, as RFC 7386 requires."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return {name: _replaced(old.get(name), value) for name, value in new.items()} | dict.fromkeys(
        old.keys() - new.keys()
    )


def timestamp(seconds: float) -> str:
    """Convert seconds since 1970 to a Kubernetes timestamp (RFC 3339, whole seconds)."""
    return _timestamp(int(seconds))


@lru_cache(maxsize=64)
def _timestamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _condition_from(condition: Mapping[str, Any]) -> Condition:
    return Condition(
        type=condition["type"],
        status=condition["status"],
        reason=condition["reason"],
        message=condition["message"],
        observed_generation=condition.get("observedGeneration", 0),
        since=condition["lastTransitionTime"],
    )


def _condition_to(condition: Condition) -> Json:
    return {
        "type": condition.type,
        "status": condition.status,
        "observedGeneration": condition.observed_generation,
        "lastTransitionTime": condition.since,
        "reason": condition.reason,
        "message": condition.message,
    }


def _effective_from(effective: Mapping[str, Any] | None) -> Effective | None:
    if not effective or "store" not in effective:
        return None
    delivery = effective.get("delivery") or {}
    default = DeliverySettings()
    return Effective(
        store=StoreKind[effective["store"].upper()],
        limit=effective.get("limit", 0),
        tag_count=effective.get("tagCount", 0),
        tags_hash=effective.get("tagsHash", ""),
        delivery=DeliverySettings(
            lease_seconds=delivery.get("leaseSeconds", default.lease_seconds),
            max_deliveries=delivery.get("maxDeliveries", default.max_deliveries),
            message_ttl_seconds=delivery.get("messageTTLSeconds"),
        ),
    )


def _effective_to(effective: Effective | None) -> Json | None:
    if effective is None:
        return None
    delivery: Json = {
        "leaseSeconds": effective.delivery.lease_seconds,
        "maxDeliveries": effective.delivery.max_deliveries,
    }
    if effective.delivery.message_ttl_seconds is not None:
        delivery["messageTTLSeconds"] = effective.delivery.message_ttl_seconds
    return {
        "store": effective.store.name.title(),
        "limit": effective.limit,
        "tagCount": effective.tag_count,
        "tagsHash": effective.tags_hash,
        "delivery": delivery,
    }


def _messages_to(counts: Counts | None) -> Json | None:
    return None if counts is None else {**counts._asdict(), "total": counts.total}
