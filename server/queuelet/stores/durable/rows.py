"""Converts between rows of the small tables and the values that queues use."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from queuelet.bounds import UNBOUNDED
from queuelet.core.message import DeliveryRecord, Rank, Tally
from queuelet.definition import DeathReason, DeliverySettings, MessageState, Owner, QueueDefinition, StoreKind
from queuelet.limits import END_OF_TIME
from queuelet.stores.durable import checksums
from queuelet.stores.durable.places import MAX_NUMBER, SEQ_BITS
from queuelet.tags import Tag
from queuelet.v1 import queue_pb2 as pb

T = TypeVar("T")

FAR = (1 << 63) - 1
"""SQLite's largest integer, stored for times that never come."""

_MAX_SECONDS = 1 << 33
"""The longest duration in a definition, in seconds: one that fits into 63 bits in nanoseconds."""

_MAX_COUNT = (1 << 31) - 1
"""The most deliveries of a message that the protocol can report."""

MAX_SEQ = (1 << SEQ_BITS - 1) - 1
"""The highest valid sequence number of a stored queue: half of all sequence numbers."""

_ID_PREFIX = re.compile(rb"[0-9a-f-]{24}")

DeliveryRow = tuple[int, int, int, int, int, int, str, str, int, bytes, int, int]
RankRow = tuple[int, int, int, int, int, int]
QueueRow = tuple[int, int, str, int, int, str, bytes, int]
TallyRow = tuple[int, int, int, str, int]
ResponseRow = tuple[int, bytes, int, bytes, int]


@dataclass(kw_only=True, slots=True)
class QueueRecord:
    """What a store has of a queue apart from its messages."""

    ordinal: int
    """Its position in the order of creation."""
    number: int
    """The upper bits of the places of its messages."""
    queue_id: str
    created: int
    revision: int
    definition: QueueDefinition
    id_prefix: bytes

    def row(self) -> QueueRow:
        """Return the row of `queues`."""
        return queue_row(
            self.ordinal,
            self.number,
            self.queue_id,
            self.created,
            self.revision,
            definition_to_json(self.definition),
            self.id_prefix,
        )

    @classmethod
    def of_row(cls, row: Sequence[Any], store: StoreKind) -> QueueRecord:
        """Return the record of a row of `queues` of a store, without its checksum.

        Raises:
            KeyError, TypeError, ValueError: the row has an invalid value; the error says which.
        """
        ordinal, number, queue_id, created, revision, definition, id_prefix = row
        if not queue_id or not _ID_PREFIX.fullmatch(id_prefix):
            raise ValueError("the ID of the queue or the prefix of its message IDs is invalid")
        return cls(
            ordinal=checked_int(ordinal, 0, FAR - 1, "ordinal"),
            number=checked_int(number, 1, MAX_NUMBER, "number"),
            queue_id=queue_id,
            created=checked_int(created, 0, FAR, "created"),
            revision=checked_int(revision, 1, FAR - 1, "revision"),
            definition=definition_of_json(definition, store),
            id_prefix=id_prefix,
        )


def checked_int(value: object, least: int, most: int, name: str) -> int:
    """Return a value if it is an integer from `least` to `most`. Raises ValueError if not."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} is {str(value)[:80]}, and must be an integer from {least} to {most}")
    return value


def _checked(value: object, kind: type[T], name: str) -> T:
    """Return a value if it has a type. Raises ValueError if not."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} is not a {kind.__name__}")  # noqa: TRY004  # the file is wrong, not the program
    return value


def queue_row(  # noqa: PLR0913, PLR0917  # the columns of the table
    ordinal: int, number: int, queue_id: str, created: int, revision: int, definition: str, id_prefix: bytes
) -> QueueRow:
    """Return a row of `queues` with its checksum."""
    checksum = checksums.of_row(ordinal, number, queue_id.encode(), created, revision, definition.encode(), id_prefix)
    return ordinal, number, queue_id, created, revision, definition, id_prefix, checksum


def definition_to_json(definition: QueueDefinition) -> str:
    """Return a definition as JSON, without the fields that have their defaults."""
    delivery, default = definition.delivery, DeliverySettings()
    fields: dict[str, Any] = {
        "name": definition.name,
        "limit": definition.limit,
        "tags": definition.tags,
        "owner": definition.owner and _owner_to_json(definition.owner),
        "lease_seconds": delivery.lease_seconds if delivery.lease_seconds != default.lease_seconds else None,
        "max_deliveries": delivery.max_deliveries if delivery.max_deliveries != default.max_deliveries else None,
        "message_ttl_seconds": delivery.message_ttl_seconds,
        "draining": definition.draining or None,
    }
    return json.dumps({key: value for key, value in fields.items() if value is not None}, ensure_ascii=False)


def _owner_to_json(owner: Owner) -> list[str]:
    return [owner.name, owner.uid, owner.namespace_uid] if owner.namespace_uid else [owner.name, owner.uid]


def _owner_of_json(name: str, uid: str, namespace_uid: str = "") -> Owner:
    """Return an owner. Earlier versions did not write the UID of the namespace."""
    return Owner(name=name, uid=uid, namespace_uid=namespace_uid)


def definition_of_json(text: str, store: StoreKind) -> QueueDefinition:
    """Return the definition from the JSON of `definition_to_json`.

    Raises:
        KeyError, TypeError, ValueError: the JSON is invalid.
    """
    fields = _checked(json.loads(text), dict, "the definition")
    default = DeliverySettings()
    owner = fields.get("owner")
    ttl = fields.get("message_ttl_seconds")
    return QueueDefinition(
        store=store,
        name=_checked(fields["name"], str, "name"),
        limit=checked_int(fields["limit"], UNBOUNDED, FAR, "limit"),
        tags=tuple(
            Tag(_checked(key, str, "a tag's key"), _checked(value, str, "a tag's value"))
            for key, value in fields["tags"]
        ),
        owner=_owner_of_json(*(_checked(each, str, "owner") for each in owner)) if owner else None,
        delivery=DeliverySettings(
            lease_seconds=checked_int(
                fields.get("lease_seconds", default.lease_seconds), 0, _MAX_SECONDS, "lease_seconds"
            ),
            max_deliveries=checked_int(fields.get("max_deliveries", default.max_deliveries), 0, FAR, "max_deliveries"),
            message_ttl_seconds=None if ttl is None else checked_int(ttl, 0, _MAX_SECONDS, "message_ttl_seconds"),
        ),
        draining=_checked(fields.get("draining", False), bool, "draining"),
    )


def delivery_row(place: int, delivery: DeliveryRecord) -> DeliveryRow:
    """Return the row of `deliveries` for a delivery."""
    row = (
        place,
        int(delivery.state),
        delivery.count,
        delivery.token,
        min(delivery.until, FAR),
        delivery.since,
        delivery.consumer,
        json.dumps(delivery.superseded) if delivery.superseded else "",
        int(delivery.reason),
        delivery.history,
        int(delivery.by_stream),
    )
    return (*row, delivery_checksum(*row))


def delivery_checksum(  # noqa: PLR0913, PLR0917  # the columns of the table
    place: int,
    state: int,
    count: int,
    token: int,
    until: int,
    since: int,
    consumer: str,
    superseded: str,
    reason: int,
    history: bytes,
    by_stream: int,
) -> int:
    """Return the checksum of a row of `deliveries`."""
    numbers = (place, state, count, token, until, since, reason, by_stream)
    return checksums.of_delivery(numbers, consumer.encode(), superseded.encode(), history)


def delivery_of_row(row: Sequence[Any]) -> DeliveryRecord:
    """Return the delivery of a row of `deliveries` without its checksum.

    Raises:
        TypeError, ValueError: the row has an invalid value.
    """
    _, state, count, token, until, since, consumer, superseded, reason, history, by_stream = row
    tokens = _checked(json.loads(superseded), list, "superseded") if superseded else ()
    try:
        pb.BrowsedMessage.FromString(history)
    except DecodeError as error:
        raise ValueError("history is not a list of delivery attempts") from error
    return DeliveryRecord(
        MessageState(state),
        checked_int(count, 0, _MAX_COUNT, "count"),
        checked_int(token, 0, FAR, "token"),
        checked_int(until, 0, FAR, "until"),
        checked_int(since, 0, FAR, "since"),
        consumer,
        tuple(checked_int(each, 0, FAR, "superseded") for each in tokens),
        DeathReason(reason) if reason else 0,
        history,
        bool(checked_int(by_stream, 0, 1, "by_stream")),
    )


def rank_of_row(row: Sequence[Any]) -> Rank:
    """Return the rank of a row of `ranks` without its checksum. Raises ValueError if a value is invalid."""
    _, priority, due, created, ttl = row
    return Rank(
        checked_int(priority, -(1 << 31), (1 << 31) - 1, "priority"),
        checked_int(due, 0, FAR, "due"),
        checked_int(created, 0, FAR, "created"),
        checked_int(ttl, 0, FAR, "ttl"),
    )


def rank_row(place: int, rank: Rank) -> RankRow:
    """Return the row of `ranks` for a rank."""
    priority, due, created, ttl = rank
    due, ttl = min(due, FAR), min(ttl, FAR)
    return place, priority, due, created, ttl, checksums.of_rank(place, priority, due, created, ttl)


def tally_row(ordinal: int, depth: int, stored_bytes: int, counts: str) -> TallyRow:
    """Return a row of `tallies` with its checksum."""
    return ordinal, depth, stored_bytes, counts, checksums.of_row(ordinal, depth, stored_bytes, counts.encode())


def response_row(number: int, key: bytes, until: int, response: bytes) -> ResponseRow:
    """Return a row of `answers` with its checksum, but without the column `kept`."""
    return number, key, until, response, checksums.of_row(number, key, until, response)


def dropped_row(number: int) -> tuple[int, int]:
    """Return a row of `dropped` with its checksum."""
    return number, checksums.of_row(number)


def meta_row(name: str, content: str | int) -> tuple[str, str | int, int]:
    """Return a row of `meta` with its checksum."""
    value = content if isinstance(content, int) else content.encode()
    return name, content, checksums.of_row(name.encode(), value)


def tally_to_json(tally: Tally, at: int, **more: int) -> str:
    """Return the counts of a tally and the time, in ns, as JSON, with other values that a store saves with them."""
    return json.dumps({**{name: getattr(tally, name) for name in Tally.__slots__}, "at": at, **more})


def time_of_json(text: str) -> int:
    """Return the time in JSON of `tally_to_json`, in ns; 0 if it is missing or invalid."""
    at = json.loads(text).get("at", 0)
    return at if isinstance(at, int) and 0 <= at < END_OF_TIME else 0


def hints_of_json(text: str) -> tuple[int, bool]:
    """Return the first sequence number at which a message in line may be, and whether messages may have own IDs.

    Raises:
        TypeError, ValueError: the JSON is invalid.
    """
    fields = _checked(json.loads(text), dict, "the counts")
    return checked_int(fields.get("first", 1), 1, MAX_SEQ, "first"), bool(fields.get("own_ids", True))


def tally_of_json(text: str) -> Tally:
    """Return the tally from the JSON of `tally_to_json`. Missing counts have their defaults.

    Raises:
        TypeError, ValueError: the JSON is invalid.
    """
    tally = Tally()
    for name, value in _checked(json.loads(text), dict, "the counts").items():
        if name in Tally.__slots__:
            setattr(tally, name, checked_int(value, 0, MAX_SEQ if name == "next_seq" else FAR, name))
    return tally
