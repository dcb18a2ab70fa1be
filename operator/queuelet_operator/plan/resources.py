"""The kind Queue as Kubernetes has it, and the plain values that the rest of the operator works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, NamedTuple

from queuelet.bounds import UNBOUNDED
from queuelet.definition import DeliverySettings, Owner, StoreKind
from queuelet.tags import Tag
from queuelet_operator.packed_tags import PackedTags
from queuelet_operator.plan.declared import Declared
from queuelet_operator.plan.status import QueueStatus, status_from

GROUP = "queuelet.dev"
VERSION = "v1alpha1"
PLURAL = "queues"
KIND = "Queue"
API_VERSION = f"{GROUP}/{VERSION}"

FINALIZER = f"{GROUP}/finalizer"
"""Keeps an object until its queue is dropped."""

PAUSED = f"{GROUP}/paused"
"""Set to "true", nothing is done for the object but its deletion."""

ADOPT = f"{GROUP}/adopt"
"""Set to "true", the object takes over a queue of another owner, once."""

RECONCILE_REQUESTED_AT = f"{GROUP}/reconcile-requested-at"
"""Any new value has the queue declared again; the status answers with the value."""

LONGEST_REQUEST = 256
"""Characters of that annotation that count. It may have 262,144 bytes, and the status repeats it."""

Body = Mapping[str, Any]
"""A Kubernetes object as JSON has it."""


class Key(NamedTuple):
    """What an object is known by for as long as it is there."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """As kubectl writes it."""
        return f"{self.namespace}/{self.name}"

    @property
    def queue_name(self) -> str:
        """The name of its queue in the server. A namespace has no dot, so the first one splits it."""
        return f"{self.namespace}.{self.name}"


def key_of_queue(name: str) -> Key:
    """Return the key of the object whose queue has this name."""
    namespace, _, rest = name.partition(".")
    return Key(namespace, rest)


class DeletionPolicy(Enum):
    """What becomes of the queue when its object is deleted."""

    DELETE = "Delete"
    RETAIN = "Retain"
    DRAIN = "Drain"


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueSpec:
    """What a user asks for, with every default filled in."""

    queue_class: str = "default"
    store: StoreKind = StoreKind.MEMORY
    limit: int = UNBOUNDED
    tags: PackedTags = PackedTags()  # noqa: RUF009  # it is frozen
    delivery: DeliverySettings = DeliverySettings()  # noqa: RUF009  # it is frozen
    deletion_policy: DeletionPolicy = DeletionPolicy.DELETE
    drain_seconds: int | None = None
    """How long a drain may take, in seconds; None for as long as it takes."""

    def definition(self, name: str, owner: Owner, *, draining: bool = False) -> Declared:
        """Return what the queue should be."""
        return Declared(
            store=self.store,
            name=name,
            limit=self.limit,
            tags=self.tags,
            owner=owner,
            delivery=self.delivery,
            draining=draining,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueObject:
    """A Queue as it was last seen: only what the operator needs of it."""

    key: Key
    uid: str
    generation: int
    resource_version: int
    spec: QueueSpec
    status: QueueStatus
    finalizers: tuple[str, ...] = ()
    deleted_at: float | None = None
    """When its deletion was asked for, in seconds since 1970; None while it is to stay."""
    is_paused: bool = False
    adopts: bool = False
    reconcile_requested_at: str = ""
    namespace_uid: str = ""
    """The uid of its namespace; empty where it is not known. No object outlives its namespace."""

    @property
    def is_deleting(self) -> bool:
        """Whether its deletion was asked for."""
        return self.deleted_at is not None

    @property
    def is_settled(self) -> bool:
        """Whether its status speaks of the spec as it is now."""
        return self.status.observed_generation == self.generation

    @property
    def has_finalizer(self) -> bool:
        """Whether it stays until we let it go."""
        return FINALIZER in self.finalizers


def queue_of(body: Body) -> QueueObject:
    """Return a Queue from its JSON. The API server has checked it; what is absent takes the default of the schema."""
    meta: Body = body["metadata"]
    annotations: Body = meta.get("annotations") or {}
    deleted_at = meta.get("deletionTimestamp")
    return QueueObject(
        key=Key(meta["namespace"], meta["name"]),
        uid=meta["uid"],
        generation=meta.get("generation", 1),
        resource_version=int(meta["resourceVersion"]),
        spec=spec_of(body.get("spec") or {}),
        status=status_from(body.get("status") or {}),
        finalizers=tuple(meta.get("finalizers") or ()),
        deleted_at=seconds_from(deleted_at) if deleted_at else None,
        is_paused=annotations.get(PAUSED) == "true",
        adopts=annotations.get(ADOPT) == "true",
        reconcile_requested_at=(annotations.get(RECONCILE_REQUESTED_AT) or "")[:LONGEST_REQUEST],
    )


def spec_of(spec: Body) -> QueueSpec:
    """Return a spec from its JSON."""
    default = QueueSpec()
    delivery: Body = spec.get("delivery") or {}
    return QueueSpec(
        queue_class=spec.get("queueClassName", default.queue_class),
        store=StoreKind[spec["store"].upper()] if "store" in spec else default.store,
        limit=spec.get("limit", default.limit),
        tags=PackedTags(Tag(tag["key"], tag["value"]) for tag in spec.get("tags") or ()),
        delivery=DeliverySettings(
            lease_seconds=delivery.get("leaseSeconds", default.delivery.lease_seconds),
            max_deliveries=delivery.get("maxDeliveries", default.delivery.max_deliveries),
            message_ttl_seconds=delivery.get("messageTTLSeconds"),
        ),
        deletion_policy=DeletionPolicy(spec.get("deletionPolicy", default.deletion_policy.value)),
        drain_seconds=spec.get("drainSeconds"),
    )


def seconds_from(timestamp: str) -> float:
    """Return a time of Kubernetes in seconds since 1970."""
    return datetime.fromisoformat(timestamp).astimezone(UTC).timestamp()
