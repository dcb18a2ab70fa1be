"""Between the domain and the wire: protobuf messages checked and turned into values, and values into messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from queuelet.bounds import UNBOUNDED, Bounds
from queuelet.clock import CLOCK
from queuelet.core.manager import Declaration
from queuelet.core.message import Terms
from queuelet.core.stored_form import NewMessage, encode_tags
from queuelet.definition import Definition, DeliverySettings, Owner, State
from queuelet.errors import InvalidArgument, MessageTooLarge
from queuelet.ids import checked_name, parse_uuid, why_not_uuid
from queuelet.tags import Tags, checked_tags
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.values import store_from_pb, tag_from_pb


def limit_from_pb(limit: int) -> int:
    """Return the limit, or raise `InvalidArgument`: 0 would be a queue that is always full."""
    if limit < 1 and limit != UNBOUNDED:
        raise InvalidArgument(f"limit: {limit} is not allowed; use 1 or more, or -1 for unlimited", field="limit")
    return limit


def tags_from_pb(tags: Sequence[pb.Tag], bounds: Bounds, field: str = "tags") -> Tags:
    """Return tags as a set, or raise `InvalidArgument`. Their number is looked at first: reading many takes long."""
    if len(tags) > bounds.tags:
        raise InvalidArgument(f"{field}: {len(tags):,} tags are too many; give at most {bounds.tags}", field=field)
    return checked_tags(map(tag_from_pb, tags), bounds, field)


def owner_from_pb(owner: pb.Owner, bounds: Bounds) -> Owner | None:
    """Return an owner, None where there is neither name nor uid, or raise `InvalidArgument`."""
    if not owner.name and not owner.uid and not owner.namespace_uid:
        return None
    if not owner.name:
        raise InvalidArgument("owner.name: an owner needs a name beside its uid", field="owner.name")
    longest = 3 * bounds.name_length
    for field in ("name", "uid", "namespace_uid"):
        text = getattr(owner, field)
        if len(text) > longest:
            raise InvalidArgument(
                f"owner.{field}: {len(text)} characters are too many; use at most {longest}", field=f"owner.{field}"
            )
    return Owner(name=owner.name, uid=owner.uid, namespace_uid=owner.namespace_uid)


def delivery_from_pb(delivery: pb.DeliverySettings) -> DeliverySettings:
    """Return delivery settings with the defaults filled in, or raise `InvalidArgument`."""
    default = DeliverySettings()
    given = {field.name: value for field, value in delivery.ListFields()}
    for field, most in (
        ("lease_seconds", LONGEST_LEASE),
        ("max_deliveries", 1_000),
        ("message_ttl_seconds", _LONGEST),
    ):
        if field in given and not 1 <= given[field] <= most:
            raise InvalidArgument(
                f"delivery.{field}: {given[field]} is out of range; use 1 to {most:,}, or leave it out",
                field=f"delivery.{field}",
            )
    return DeliverySettings(
        lease_seconds=given.get("lease_seconds", default.lease_seconds),
        max_deliveries=given.get("max_deliveries", default.max_deliveries),
        message_ttl_seconds=given.get("message_ttl_seconds", default.message_ttl_seconds),
    )


def new_queue_from_pb(request: pb.NewQueueRequest, bounds: Bounds) -> Definition:
    """Return the definition of a queue to make, or raise `InvalidArgument`."""
    return Definition(
        store=store_from_pb(request.store),
        limit=limit_from_pb(request.limit),
        tags=tags_from_pb(request.tags, bounds),
        name=checked_name(request.name, bounds) if request.name else "",
        delivery=delivery_from_pb(request.delivery),
    )


def declaration_from_pb(declared: pb.QueueDeclaration, bounds: Bounds) -> Declaration:
    """Return a declaration, or raise `InvalidArgument`."""
    if not declared.name:
        raise InvalidArgument("name: a declaration needs the queue's name", field="name")
    definition = Definition(
        store=store_from_pb(declared.store),
        name=checked_name(declared.name, bounds),
        limit=limit_from_pb(declared.limit),
        tags=tags_from_pb(declared.tags, bounds),
        owner=owner_from_pb(declared.owner, bounds),
        delivery=delivery_from_pb(declared.delivery),
        draining=declared.draining,
    )
    queue_id = checked_uuid(declared.id, "id") if declared.id else ""
    return Declaration(definition=definition, queue_id=queue_id, adopt=declared.adopt)


def check_batch(items: Sized, field: str, bounds: Bounds) -> None:
    """Raise `InvalidArgument` if a batch has no items or too many."""
    if not 0 < len(items) <= bounds.batch:
        raise InvalidArgument(f"{field}: {len(items):,} in one batch; send 1 to {bounds.batch:,}", field=field)


def check_at_most(items: Sized, field: str, bounds: Bounds) -> None:
    """Raise `InvalidArgument` if there are more items than a batch may have."""
    if len(items) > bounds.batch:
        raise InvalidArgument(f"{field}: {len(items):,} are too many; send at most {bounds.batch:,}", field=field)


def page_size_from_pb(size: int, field: str = "page_size") -> int:
    """Return the size, 0 for as many as fit, or raise `InvalidArgument`."""
    if size < 0:
        raise InvalidArgument(f"{field}: {size} is negative; use 1 or more, or 0 for as many as fit", field=field)
    return size


_TOKEN_DIGITS = 18
"""More digits than any number of a queue or message has."""


def number_from_token(token: str) -> int:
    """Return where a page starts, or raise `InvalidArgument`."""
    if token and not (token.isascii() and token.isdecimal() and len(token) <= _TOKEN_DIGITS):
        raise InvalidArgument(
            f"page_token: {token[:40]!r} is not a token of this server; send a next_page_token, or none to begin",
            field="page_token",
        )
    return int(token or 0)


def seconds_from_pb(duration: Duration, field: str) -> float:
    """Return how long a call may wait, in seconds, or raise `InvalidArgument`. Over ten years means for ever."""
    _check_nanos(duration, field)
    if duration.seconds > _LONGEST:
        return float(_LONGEST)
    return nanoseconds_from_pb(duration, field, _LONGEST) / 1e9


_SECOND = 1_000_000_000
"""In nanoseconds."""

_LONGEST = 3650 * 86_400
"""The longest wait, delay or time to live, in seconds: ten years."""


def nanoseconds_from_pb(duration: Duration, field: str, most: int) -> int:
    """Return a duration in nanoseconds, at most so many seconds, or raise `InvalidArgument`."""
    _check_nanos(duration, field)
    if duration.seconds < 0 or duration.nanos < 0:
        raise InvalidArgument(f"{field}: a time cannot be negative; use 0 s or more", field=field)
    if duration.seconds > most:
        raise InvalidArgument(f"{field}: {duration.seconds:,} s are too long; use at most {most:,} s", field=field)
    return duration.seconds * 1_000_000_000 + duration.nanos


LONGEST_LEASE = 12 * 3600
"""In seconds."""


def lease_from_pb(duration: Duration, field: str = "lease") -> int:
    """Return how long a lease is to last, in nanoseconds, 0 for what the queue says, or raise `InvalidArgument`."""
    if not duration.seconds and not duration.nanos:
        return 0
    if not 1 <= duration.seconds <= LONGEST_LEASE:
        raise InvalidArgument(
            f"{field}: {duration.seconds:,} s is out of range; use 1 to {LONGEST_LEASE:,} s, or leave it out",
            field=field,
        )
    return nanoseconds_from_pb(duration, field, LONGEST_LEASE)


def _check_nanos(time: Duration | Timestamp, field: str) -> None:
    """Raise `InvalidArgument` for more nanoseconds than a second has, which protobuf's own rules forbid."""
    if time.nanos >= _SECOND:
        raise InvalidArgument(
            f"{field}: {time.nanos:,} ns are more than a second; use at most 999,999,999 beside the seconds",
            field=field,
        )


def delay_from_pb(duration: Duration, field: str = "delay") -> int:
    """Return a delay in nanoseconds, or raise `InvalidArgument`."""
    return nanoseconds_from_pb(duration, field, _LONGEST)


def text_from_pb(text: str, field: str, most: int) -> str:
    """Return a text of a client's own, or raise `InvalidArgument` if it is longer than so many bytes."""
    if len(text.encode()) > most:
        raise InvalidArgument(f"{field}: {len(text.encode()):,} bytes are too many; use at most {most:,}", field=field)
    return text


def states_from_pb(numbers: Iterable[int]) -> set[State]:
    """Return states of messages, or raise `InvalidArgument`."""
    try:
        return {State(number) for number in numbers}
    except ValueError as error:
        says = f"states: {error}; use 1 (ready), 2 (delayed), 3 (leased) or 4 (dead)"
        raise InvalidArgument(says, field="states") from None


def checked_uuid(text: str, field: str) -> str:
    """Return a UUID in canonical form, or raise `InvalidArgument`."""
    canonical = parse_uuid(text)
    if not canonical:
        raise InvalidArgument(f"{field}: {text[:80]!r} is not a UUID ({why_not_uuid(text)})", field=field)
    return canonical


def message_from_pb(message: pb.NewMessage, bounds: Bounds, field: str = "message") -> NewMessage:
    """Return a message on its way in.

    Raises:
        InvalidArgument: its tags or its id break a rule.
        MessageTooLarge: with all metadata it would not fit a reply, so nobody could take it again.
    """
    tags = encode_tags(tags_from_pb(message.tags, bounds, f"{field}.tags")) if message.tags else b""
    own_id = checked_uuid(message.id, f"{field}.id").encode() if message.id else b""
    new = NewMessage(message.payload, tags, own_id, _terms_from_pb(message, field))
    if new.size > bounds.message_bytes:
        raise MessageTooLarge(
            f"{field}: with its metadata it takes up to {new.size:,} bytes, and a reply holds "
            f"{bounds.message_bytes:,}: make it smaller, or raise --max-message-bytes",
            field=field,
            size=new.size,
            most=bounds.message_bytes,
        )
    return new


def _terms_from_pb(message: pb.NewMessage, field: str) -> Terms | None:
    """Return what a producer asks for beside the content, None for nothing, or raise `InvalidArgument`."""
    has_time, has_delay, has_ttl = message.HasField("not_before"), message.HasField("delay"), message.HasField("ttl")
    if not (message.priority or has_time or has_delay or has_ttl):
        return None
    if has_time and has_delay:
        raise InvalidArgument(f"{field}: give not_before or delay, not both", field=f"{field}.delay")
    _check_nanos(message.not_before, f"{field}.not_before")
    # protobuf's own conversions raise for a time that it cannot show.
    not_before = message.not_before.seconds * 1_000_000_000 + message.not_before.nanos if has_time else 0
    if message.not_before.nanos < 0 or not 0 <= not_before < _END_OF_TIME:
        raise InvalidArgument(
            f"{field}.not_before: the time is out of range; use one from 1970 to 2200", field=f"{field}.not_before"
        )
    if not_before:
        # It is a wall time. From here on it is waited for as a duration is.
        not_before = max(0, not_before - CLOCK.behind_ns())
    ttl = nanoseconds_from_pb(message.ttl, f"{field}.ttl", _LONGEST)
    if has_ttl and not ttl:
        raise InvalidArgument(f"{field}.ttl: a message needs some time to live, or leave it out", field=f"{field}.ttl")
    return Terms(message.priority, not_before, delay_from_pb(message.delay, f"{field}.delay"), ttl)


_END_OF_TIME = 7_258_118_400 * 1_000_000_000
"""2200-01-01: past it a time in nanoseconds would soon not fit 64 bits."""
