"""Rows of the small tables, and the values that the queues know them as."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from queuelet.clock import END_OF_TIME
from queuelet.definition import Definition, DeliverySettings, Owner, State, StoreKind
from queuelet.message import Delivery, Rank, Tally
from queuelet.stores.disk import checksums
from queuelet.tags import Tag

FAR = (1 << 63) - 1
"""The largest integer of SQLite, for times that never come."""

DeliveryRow = tuple[int, int, int, int, int, int, str, str, int, bytes, int, int]
RankRow = tuple[int, int, int, int, int, int]
QueueRow = tuple[int, int, str, int, int, str, bytes, int]
TallyRow = tuple[int, int, int, str, int]
AnswerRow = tuple[int, bytes, int, bytes, int]


@dataclass(kw_only=True, slots=True)
class QueueRecord:
    """What a store keeps of a queue beside its messages."""

    ordinal: int
    """Its place among the queues, by creation."""
    number: int
    """The upper bits of its messages' places."""
    queue_id: str
    created: int
    revision: int
    definition: Definition
    id_prefix: bytes

    def row(self) -> QueueRow:
        """Return it as a row of `queues`."""
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
    def of_row(cls, row: QueueRow) -> QueueRecord:
        """Return a row of `queues` as what it was made of."""
        ordinal, number, queue_id, created, revision, definition, id_prefix, _ = row
        return cls(
            ordinal=ordinal,
            number=number,
            queue_id=queue_id,
            created=created,
            revision=revision,
            definition=definition_of_json(definition),
            id_prefix=id_prefix,
        )


def queue_row(  # noqa: PLR0913, PLR0917  # the columns of the table
    ordinal: int, number: int, queue_id: str, created: int, revision: int, definition: str, id_prefix: bytes
) -> QueueRow:
    """Return a row of `queues` with its checksum."""
    checksum = checksums.of_row(ordinal, number, queue_id.encode(), created, revision, definition.encode(), id_prefix)
    return ordinal, number, queue_id, created, revision, definition, id_prefix, checksum


def definition_to_json(definition: Definition) -> str:
    """Return a definition as JSON. What has its default is left out."""
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
    """Return an owner. Earlier versions wrote no uid of the namespace."""
    return Owner(name=name, uid=uid, namespace_uid=namespace_uid)


def definition_of_json(text: str) -> Definition:
    """Return the definition that JSON of `definition_to_json` tells."""
    fields = json.loads(text)
    default = DeliverySettings()
    owner = fields.get("owner")
    return Definition(
        store=StoreKind.DISK,
        name=fields["name"],
        limit=fields["limit"],
        tags=tuple(Tag(key, value) for key, value in fields["tags"]),
        owner=_owner_of_json(*owner) if owner else None,
        delivery=DeliverySettings(
            lease_seconds=fields.get("lease_seconds", default.lease_seconds),
            max_deliveries=fields.get("max_deliveries", default.max_deliveries),
            message_ttl_seconds=fields.get("message_ttl_seconds"),
        ),
        draining=fields.get("draining", False),
    )


def delivery_row(place: int, delivery: Delivery) -> DeliveryRow:
    """Return a delivery as a row of `deliveries`."""
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


def delivery_of_row(row: DeliveryRow) -> Delivery:
    """Return a row of `deliveries` as what it was made of."""
    _, state, count, token, until, since, consumer, superseded, reason, history, by_stream, _ = row
    tokens = tuple(json.loads(superseded)) if superseded else ()
    return Delivery(State(state), count, token, until, since, consumer, tokens, reason, history, bool(by_stream))


def rank_row(place: int, rank: Rank) -> RankRow:
    """Return a rank as a row of `ranks`."""
    priority, due, created, ttl = rank
    due, ttl = min(due, FAR), min(ttl, FAR)
    return place, priority, due, created, ttl, checksums.of_rank(place, priority, due, created, ttl)


def tally_row(ordinal: int, depth: int, stored_bytes: int, counts: str) -> TallyRow:
    """Return a row of `tallies` with its checksum."""
    return ordinal, depth, stored_bytes, counts, checksums.of_row(ordinal, depth, stored_bytes, counts.encode())


def answer_row(number: int, key: bytes, until: int, answer: bytes) -> AnswerRow:
    """Return a row of `answers` with its checksum, but for its place in their order."""
    return number, key, until, answer, checksums.of_row(number, key, until, answer)


def dropped_row(number: int) -> tuple[int, int]:
    """Return a row of `dropped` with its checksum."""
    return number, checksums.of_row(number)


def meta_row(name: str, content: str | int) -> tuple[str, str | int, int]:
    """Return a row of `meta` with its checksum."""
    value = content if isinstance(content, int) else content.encode()
    return name, content, checksums.of_row(name.encode(), value)


def tally_to_json(tally: Tally, at: int) -> str:
    """Return all counts of a tally as JSON, and the time."""
    return json.dumps({**{name: getattr(tally, name) for name in Tally.__slots__}, "at": at})


def time_of_json(text: str) -> int:
    """Return the time that `tally_to_json` was given, 0 where there is none that can be."""
    at = json.loads(text).get("at", 0)
    return at if isinstance(at, int) and 0 <= at < END_OF_TIME else 0


def tally_of_json(text: str) -> Tally:
    """Return a tally of kept counts; what was not kept begins at its default."""
    tally = Tally()
    for name, value in json.loads(text).items():
        if name in Tally.__slots__:
            setattr(tally, name, value)
    return tally
