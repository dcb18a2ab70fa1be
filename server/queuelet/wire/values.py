"""Conversion between protobuf messages and values, for server, client and operator."""

from __future__ import annotations

from queuelet.definition import Counts, DeliverySettings, Owner, StoreKind
from queuelet.errors import InvalidArgument
from queuelet.tags import Tag
from queuelet.v1 import queue_pb2 as pb


def counts_to_pb(counts: Counts) -> pb.MessageCounts:
    """Return counts as protobuf."""
    return pb.MessageCounts(**counts._asdict())


def owner_to_pb(owner: Owner) -> pb.Owner:
    """Return an owner as protobuf."""
    return pb.Owner(name=owner.name, uid=owner.uid, namespace_uid=owner.namespace_uid)


_STORES = {StoreKind.MEMORY: pb.Queue.MEMORY, StoreKind.DISK: pb.Queue.DISK}


def store_to_pb(kind: StoreKind) -> pb.Queue.Store:
    """Return a store as protobuf."""
    return _STORES[kind]


def store_from_pb(number: int) -> StoreKind:
    """Return a store from its number. Raises `InvalidArgument` if there is none with it."""
    try:
        return StoreKind(number)
    except ValueError:
        raise InvalidArgument(f"store: there is no store {number}; use MEMORY (1) or DISK (2)", field="store") from None


def tag_from_pb(tag: pb.Tag) -> Tag:
    """Return a tag from protobuf."""
    return Tag(tag.key, tag.value)


def delivery_to_pb(delivery: DeliverySettings) -> pb.DeliverySettings:
    """Return delivery settings as protobuf."""
    return pb.DeliverySettings(
        lease_seconds=delivery.lease_seconds,
        max_deliveries=delivery.max_deliveries,
        message_ttl_seconds=delivery.message_ttl_seconds,
    )
