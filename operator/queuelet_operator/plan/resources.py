"""The kind Queue: its names in Kubernetes, and its objects as plain values for the rest of the operator."""

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
"""The finalizer: the API server deletes the object only after the operator has removed the queue and this."""

PAUSED = f"{GROUP}/paused"
"""The annotation that pauses an object if it is "true": the operator then handles only its deletion."""

ADOPT = f"{GROUP}/adopt"
"""The annotation that lets an object take over a queue of another owner, once, if it is "true"."""

RECONCILE_REQUESTED_AT = f"{GROUP}/reconcile-requested-at"
"""The annotation that requests a new declaration of the queue. The status repeats each value that was handled."""

MAX_REQUEST_CHARACTERS = 256
"""Characters of that annotation that are used, because it may have 262,144 bytes and the status repeats it."""

Body = Mapping[str, Any]
"""A Kubernetes object as parsed JSON."""


class Key(NamedTuple):
    """The namespace and name of an object."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def queue_name(self) -> str:
        """The name of the object's queue on the server. A namespace contains no dot, so the first dot ends it."""
        return f"{self.namespace}.{self.name}"


def key_of_queue(name: str) -> Key:
    """Return the key of the object to which a queue with this name belongs."""
    namespace, _, rest = name.partition(".")
    return Key(namespace, rest)


class DeletionPolicy(Enum):
    """What happens to the queue when its object is deleted."""

    DELETE = "Delete"
    RETAIN = "Retain"
    DRAIN = "Drain"


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueSpec:
    """The spec of a Queue, with every default filled in."""

    queue_class: str = "default"
    store: StoreKind = StoreKind.MEMORY
    limit: int = UNBOUNDED
    tags: PackedTags = PackedTags()  # noqa: RUF009  # it is frozen
    delivery: DeliverySettings = DeliverySettings()  # noqa: RUF009  # it is frozen
    deletion_policy: DeletionPolicy = DeletionPolicy.DELETE
    drain_seconds: int | None = None
    """Seconds after which a drain ends even if messages are left; None for no time limit."""

    def definition(self, name: str, owner: Owner, *, draining: bool = False) -> Declared:
        """Return the definition of the queue that this spec asks for."""
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
    """A Queue object as last seen, reduced to the fields that the operator needs."""

    key: Key
    uid: str
    generation: int
    resource_version: int
    spec: QueueSpec
    status: QueueStatus
    finalizers: tuple[str, ...] = ()
    deleted_at: float | None = None
    """When its deletion was requested, in seconds since 1970; None if it was not."""
    is_paused: bool = False
    adopts: bool = False
    reconcile_requested_at: str = ""
    namespace_uid: str = ""
    """The uid of its namespace, empty if unknown. It cannot change, because no object outlives its namespace."""

    @property
    def is_deleting(self) -> bool:
        """Whether its deletion was requested."""
        return self.deleted_at is not None

    @property
    def is_settled(self) -> bool:
        """Whether its status describes the current spec."""
        return self.status.observed_generation == self.generation

    @property
    def has_finalizer(self) -> bool:
        """Whether the object has the operator's finalizer."""
        return FINALIZER in self.finalizers


def queue_of(body: Body) -> QueueObject:
    """Convert a Queue from JSON that the API server has validated. Absent fields get the defaults of the schema."""
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
        reconcile_requested_at=(annotations.get(RECONCILE_REQUESTED_AT) or "")[:MAX_REQUEST_CHARACTERS],
    )


def spec_of(spec: Body) -> QueueSpec:
    """Convert a spec from JSON."""
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
    """Convert a Kubernetes timestamp to seconds since 1970."""
    return datetime.fromisoformat(timestamp).astimezone(UTC).timestamp()
