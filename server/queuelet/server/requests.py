"""Parses requests: checks protobuf messages and turns them into values.

Every function here raises `InvalidArgument` with the field's name if a value is not allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from queuelet.bounds import UNBOUNDED, Bounds
from queuelet.clock import CLOCK
from queuelet.core.message import PastDeliveries, Terms
from queuelet.core.stored_form import HISTORY, NewMessage, encode_tags, stored_try
from queuelet.definition import DeathReason, DeliverySettings, MessageState, Owner, QueueDefinition, TryOutcome
from queuelet.errors import InvalidArgument, MessageTooLarge
from queuelet.ids import checked_name, parse_uuid, why_not_uuid
from queuelet.limits import (
    END_OF_TIME,
    MAX_CONSUMER_BYTES,
    MAX_COUNT,
    MAX_DELIVERIES,
    MAX_LEASE_SECONDS,
    MAX_REASON_BYTES,
    MAX_TIME_SECONDS,
    SECOND_NS,
)
from queuelet.tags import Tags, checked_tags
from queuelet.v1 import queue_pb2 as pb
from queuelet.values import QueueDeclaration
from queuelet.wire.values import store_from_pb, tag_from_pb


def limit_from_pb(limit: int) -> int:
    """Return a queue's limit. 0 is refused, because such a queue would always be full."""
    if limit < 1 and limit != UNBOUNDED:
        raise InvalidArgument(f"limit: {limit} is not allowed; use 1 or more, or -1 for unlimited", field="limit")
    return limit


def tags_from_pb(tags: Sequence[pb.Tag], bounds: Bounds, field: str = "tags") -> Tags:
    """Return tags as a set. Their number is checked first, because reading many takes long."""
    if len(tags) > bounds.tags:
        raise InvalidArgument(f"{field}: {len(tags):,} tags are too many; give at most {bounds.tags}", field=field)
    return checked_tags(map(tag_from_pb, tags), bounds, field)


def checked_owner(owner: pb.Owner, bounds: Bounds) -> Owner | None:
    """Return an owner, None if all of its fields are empty."""
    if not owner.name and not owner.uid and not owner.namespace_uid:
        return None
    if not owner.name:
        raise InvalidArgument("owner.name: missing; give the owner's name together with its uid", field="owner.name")
    longest = 3 * bounds.name_length
    for field in ("name", "uid", "namespace_uid"):
        text = getattr(owner, field)
        if len(text) > longest:
            raise InvalidArgument(
                f"owner.{field}: {len(text)} characters are too many; use at most {longest}", field=f"owner.{field}"
            )
    return Owner(name=owner.name, uid=owner.uid, namespace_uid=owner.namespace_uid)


def checked_delivery(delivery: pb.DeliverySettings) -> DeliverySettings:
    """Return delivery settings with the defaults filled in."""
    default = DeliverySettings()
    given = {field.name: value for field, value in delivery.ListFields()}
    for field, most in (
        ("lease_seconds", MAX_LEASE_SECONDS),
        ("max_deliveries", MAX_DELIVERIES),
        ("message_ttl_seconds", MAX_TIME_SECONDS),
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


def new_queue_from_pb(request: pb.NewQueueRequest, bounds: Bounds) -> QueueDefinition:
    """Return the definition of a new queue."""
    return QueueDefinition(
        store=store_from_pb(request.store),
        limit=limit_from_pb(request.limit),
        tags=tags_from_pb(request.tags, bounds),
        name=checked_name(request.name, bounds) if request.name else "",
        delivery=checked_delivery(request.delivery),
    )


def declaration_from_pb(declared: pb.QueueDeclaration, bounds: Bounds) -> QueueDeclaration:
    """Return a declaration."""
    if not declared.name:
        raise InvalidArgument("name: missing; give the queue's name", field="name")
    definition = QueueDefinition(
        store=store_from_pb(declared.store),
        name=checked_name(declared.name, bounds),
        limit=limit_from_pb(declared.limit),
        tags=tags_from_pb(declared.tags, bounds),
        owner=checked_owner(declared.owner, bounds),
        delivery=checked_delivery(declared.delivery),
        draining=declared.draining,
    )
    queue_id = checked_uuid(declared.id, "id") if declared.id else ""
    return QueueDeclaration(definition=definition, queue_id=queue_id, adopt=declared.adopt)


def check_batch(items: Sized, field: str, bounds: Bounds) -> None:
    """Raise `InvalidArgument` if a batch is empty or too large."""
    if not 0 < len(items) <= bounds.batch:
        raise InvalidArgument(f"{field}: {len(items):,} in one batch; send 1 to {bounds.batch:,}", field=field)


def check_at_most(items: Sized, field: str, bounds: Bounds) -> None:
    """Raise `InvalidArgument` if there are more items than fit one batch."""
    if len(items) > bounds.batch:
        raise InvalidArgument(f"{field}: {len(items):,} are too many; send at most {bounds.batch:,}", field=field)


def page_size_from_pb(size: int, field: str = "page_size") -> int:
    """Return a page size; 0 means as many as fit."""
    if size < 0:
        raise InvalidArgument(f"{field}: {size} is negative; use 1 or more, or 0 for as many as fit", field=field)
    return size


_TOKEN_DIGITS = 18
"""The most digits of a page token; the number of a queue or message has fewer."""


_DESCENDING = "d"
"""What a page token begins with if the pages are in descending order."""


def number_from_token(token: str) -> int:
    """Return the number of the queue or message after which a page starts."""
    if token and not _is_number(token):
        raise _not_a_token(token)
    return int(token or 0)


def place_from_token(token: str, *, descending: bool) -> int | None:
    """Return the number of the message after which a page starts, or before which if `descending`. None: no token."""
    if not token:
        return None
    number = token.removeprefix(_DESCENDING)
    if not _is_number(number):
        raise _not_a_token(token)
    if token.startswith(_DESCENDING) != descending:
        first = "oldest" if descending else "newest"
        raise InvalidArgument(
            f"page_token: {token!r} continues pages with the {first} messages first; "
            "send it with the descending of its first page, or leave it out to start again",
            field="page_token",
        )
    return int(number)


def token_of_place(place: int, *, descending: bool) -> str:
    """Return the token for which `place_from_token` returns a number."""
    return f"{_DESCENDING}{place}" if descending else str(place)


def _is_number(token: str) -> bool:
    return token.isascii() and token.isdecimal() and len(token) <= _TOKEN_DIGITS


def _not_a_token(token: str) -> InvalidArgument:
    return InvalidArgument(
        f"page_token: {token[:40]!r} is not a token of this server; "
        "send a next_page_token, or leave it out for the first page",
        field="page_token",
    )


def payload_bytes_from_pb(size: int) -> int:
    """Return the maximum number of bytes of a payload."""
    if size < 0:
        raise InvalidArgument(
            f"payload_bytes: {size} is negative; use 0 or more, or leave it out for whole payloads",
            field="payload_bytes",
        )
    return size


def seconds_from_pb(duration: Duration, field: str) -> float:
    """Return how long a call may wait, in seconds. Values above ten years become ten years."""
    _check_nanos(duration, field)
    if duration.seconds > MAX_TIME_SECONDS:
        return float(MAX_TIME_SECONDS)
    return nanoseconds_from_pb(duration, field, MAX_TIME_SECONDS) / 1e9


def nanoseconds_from_pb(duration: Duration, field: str, most: int) -> int:
    """Return a duration in nanoseconds; it may have at most `most` seconds."""
    _check_nanos(duration, field)
    if duration.seconds < 0 or duration.nanos < 0:
        raise InvalidArgument(f"{field}: negative; use 0 s or more", field=field)
    if duration.seconds > most:
        raise InvalidArgument(f"{field}: {duration.seconds:,} s is too long; use at most {most:,} s", field=field)
    return duration.seconds * SECOND_NS + duration.nanos


def lease_from_pb(duration: Duration, field: str = "lease") -> int:
    """Return the duration of a lease in nanoseconds; 0 means the queue's default."""
    if not duration.seconds and not duration.nanos:
        return 0
    if not 1 <= duration.seconds <= MAX_LEASE_SECONDS:
        raise InvalidArgument(
            f"{field}: {duration.seconds:,} s is out of range; use 1 to {MAX_LEASE_SECONDS:,} s, or leave it out",
            field=field,
        )
    return nanoseconds_from_pb(duration, field, MAX_LEASE_SECONDS)


def _check_nanos(time: Duration | Timestamp, field: str) -> None:
    """Raise `InvalidArgument` if the nanoseconds are a second or more, which protobuf's specification forbids."""
    if time.nanos >= SECOND_NS:
        raise InvalidArgument(
            f"{field}: {time.nanos:,} ns is out of range; use at most 999,999,999 ns in addition to the seconds",
            field=field,
        )


def time_from_pb(time: Timestamp, field: str) -> int:
    """Return a time in nanoseconds since 1970."""
    _check_nanos(time, field)
    # Computed by hand, because protobuf's own conversions raise for times that it cannot represent.
    nanoseconds = time.seconds * SECOND_NS + time.nanos
    if time.nanos < 0 or not 0 <= nanoseconds < END_OF_TIME:
        raise InvalidArgument(f"{field}: the time is out of range; use one from 1970 to 2200", field=field)
    return nanoseconds


def delay_from_pb(duration: Duration, field: str = "delay") -> int:
    """Return a delay in nanoseconds."""
    return nanoseconds_from_pb(duration, field, MAX_TIME_SECONDS)


def text_from_pb(text: str, field: str, most: int) -> str:
    """Return a text, which may have at most `most` bytes in UTF-8."""
    if len(text.encode()) > most:
        raise InvalidArgument(f"{field}: {len(text.encode()):,} bytes are too many; use at most {most:,}", field=field)
    return text


def states_from_pb(numbers: Iterable[int]) -> set[MessageState]:
    """Return states of messages."""
    try:
        return {MessageState(number) for number in numbers}
    except ValueError as error:
        says = f"states: {error}; use 1 (ready), 2 (delayed), 3 (leased) or 4 (dead)"
        raise InvalidArgument(says, field="states") from None


def checked_uuid(text: str, field: str) -> str:
    """Return a UUID in canonical form."""
    canonical = parse_uuid(text)
    if not canonical:
        raise InvalidArgument(f"{field}: {text[:80]!r} is not a UUID ({why_not_uuid(text)})", field=field)
    return canonical


def message_from_pb(message: pb.NewMessage, bounds: Bounds, field: str = "message") -> NewMessage:
    """Return a message to add.

    Raises:
        InvalidArgument: one of its fields is not allowed.
        MessageTooLarge: with all of its metadata it would not fit a response, so no consumer could receive it.
    """
    tags = encode_tags(tags_from_pb(message.tags, bounds, f"{field}.tags")) if message.tags else b""
    own_id = checked_uuid(message.id, f"{field}.id").encode() if message.id else b""
    new = NewMessage(message.payload, tags, own_id, _terms_from_pb(message, field))
    if new.size > bounds.message_bytes:
        raise MessageTooLarge(
            f"{field}: takes up to {new.size:,} bytes with its metadata, more than the {bounds.message_bytes:,} bytes "
            "of a response; make it smaller, or raise --max-message-bytes of the server",
            field=field,
            size=new.size,
            most=bounds.message_bytes,
        )
    return new


def _terms_from_pb(message: pb.NewMessage, field: str) -> Terms | None:
    """Return a message's priority, due time and time to live; None if it has none of them."""
    has_time, has_delay, has_ttl = message.HasField("not_before"), message.HasField("delay"), message.HasField("ttl")
    has_past = message.HasField("past")
    if not (message.priority or has_time or has_delay or has_ttl or has_past):
        return None
    if has_time and has_delay:
        raise InvalidArgument(f"{field}: give not_before or delay, not both", field=f"{field}.delay")
    _check_nanos(message.not_before, f"{field}.not_before")
    # Computed by hand, because protobuf's own conversions raise for times that it cannot represent.
    not_before = message.not_before.seconds * SECOND_NS + message.not_before.nanos if has_time else 0
    if message.not_before.nanos < 0 or not 0 <= not_before < END_OF_TIME:
        raise InvalidArgument(
            f"{field}.not_before: the time is out of range; use one from 1970 to 2200", field=f"{field}.not_before"
        )
    if not_before:
        # It is a wall-clock time, and the server's own clock may be behind.
        not_before = max(0, not_before - CLOCK.behind_ns())
    ttl = nanoseconds_from_pb(message.ttl, f"{field}.ttl", MAX_TIME_SECONDS)
    if has_ttl and not ttl:
        raise InvalidArgument(f"{field}.ttl: 0 is not allowed; use more, or leave it out", field=f"{field}.ttl")
    past = past_from_pb(message.past, f"{field}.past") if has_past else None
    return Terms(message.priority, not_before, delay_from_pb(message.delay, f"{field}.delay"), ttl, past)


_REASONS, _OUTCOMES = frozenset(map(int, DeathReason)), frozenset(map(int, TryOutcome))


def past_from_pb(past: pb.PastDeliveries, field: str) -> PastDeliveries:
    """Return the deliveries of a message in the queue that it comes from."""
    if not 0 <= past.count <= MAX_COUNT:
        raise InvalidArgument(
            f"{field}.count: {past.count:,} is out of range; use 0 to {MAX_COUNT:,}", field=f"{field}.count"
        )
    if len(past.tries) > HISTORY:
        raise InvalidArgument(
            f"{field}.tries: {len(past.tries)} are too many; send the newest {HISTORY}", field=f"{field}.tries"
        )
    for place, each in enumerate(past.tries):
        _check_try(each, f"{field}.tries[{place}]")
    if past.reason and past.reason not in _REASONS:
        raise InvalidArgument(f"{field}.reason: {past.reason} is not a reason; use 1, 2 or 3", field=f"{field}.reason")
    died = time_from_pb(past.died, f"{field}.died") if past.HasField("died") else 0
    if died and not past.reason:
        raise InvalidArgument(f"{field}.died: given without a reason; give both or none", field=f"{field}.died")
    return PastDeliveries(past.count, b"".join(map(stored_try, past.tries)), past.reason, died)


def _check_try(failed: pb.Try, field: str) -> None:
    if failed.outcome not in _OUTCOMES:
        raise InvalidArgument(
            f"{field}.outcome: {failed.outcome} is not an outcome; use 1, 2 or 3", field=f"{field}.outcome"
        )
    time_from_pb(failed.began, f"{field}.began")
    time_from_pb(failed.ended, f"{field}.ended")
    text_from_pb(failed.consumer, f"{field}.consumer", MAX_CONSUMER_BYTES)
    text_from_pb(failed.reason, f"{field}.reason", MAX_REASON_BYTES)
