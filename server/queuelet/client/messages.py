"""Messages, deliveries and consume responses as a program sees them, and the conversion to and from protobuf.

`Message` and `Delivery` are views of protobuf messages, because a consumer mostly needs little of each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime, timedelta
from typing import final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from queuelet.client.pending_put import Added
from queuelet.client.text import check_text, sendable
from queuelet.client.validation import Seconds, seconds_of
from queuelet.definition import DeathReason, EventKind, MessageState, TryOutcome
from queuelet.errors import InvalidArgument, QueueletError
from queuelet.ids import parse_uuid, why_not_uuid
from queuelet.limits import MAX_REASON_BYTES
from queuelet.tags import Tag, Tags
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import error_from_pb, errors_from_pb

_PRIORITIES = 2**31
"""The number of priorities from 0 upwards; there are as many below 0."""


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to add by `Client.add_batch`. `Client.add` and `Producer.put` have the same settings as arguments."""

    payload: bytes
    """The message's bytes."""

    _: KW_ONLY

    tags: Iterable[Tag] = ()
    """Tags of the message, as pairs of key and value."""

    message_id: str = ""
    """A UUID for the message, which is not added again while a message of this ID is queued; empty for a random one."""

    priority: int = 0
    """Smaller values are delivered first; -2^31 to 2^31 - 1."""

    delay: Seconds = 0
    """How long the message is not delivered, in seconds."""

    not_before: datetime | None = None
    """The time before which the message is not delivered; a time without a zone is local time."""

    ttl: Seconds = 0
    """How many seconds after it was added the message is dead-lettered if it is still queued; 0 for the queue's
    setting.
    """


@final
class Message:
    """A message that came from a queue. Its fields are decoded when they are read."""

    __slots__ = ("_pb",)

    def __init__(self, message: pb.Message) -> None:
        self._pb = message

    @property
    def id(self) -> str:
        """The message's ID, a UUID."""
        return self._pb.meta.id

    @property
    def payload(self) -> bytes:
        """The message's bytes."""
        return self._pb.payload

    @property
    def tags(self) -> Tags:
        """The message's tags, sorted by key."""
        return tuple(Tag(tag.key, tag.value) for tag in self._pb.meta.tags)

    @property
    def created(self) -> datetime:
        """When the message was added, by the server's clock."""
        return self._pb.meta.created.ToDatetime(UTC)

    @property
    def priority(self) -> int:
        """The message's priority; smaller values are delivered first."""
        return self._pb.priority

    @property
    def not_before(self) -> datetime | None:
        """The earliest time of delivery, if the message was added with a delay."""
        return self._pb.not_before.ToDatetime(UTC) if self._pb.HasField("not_before") else None

    @property
    def ttl(self) -> timedelta | None:
        """The message's own time to live, if it was added with one."""
        return self._pb.ttl.ToTimedelta() if self._pb.HasField("ttl") else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and self._pb == other._pb

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        """Return the message's ID without its payload, which may be large or secret."""
        return f"<Message {self.id}, {len(self.payload):,} bytes>"


@final
class Delivery:
    """A message and the lease on it: the message is yours until you settle it, or until the deadline."""

    __slots__ = ("_pb", "token")

    def __init__(self, delivery: pb.Delivery) -> None:
        self._pb = delivery
        self.token = delivery.token
        """The lease: what `ack`, `nack` and `extend` take. A later delivery of any message has a larger one."""

    @property
    def message(self) -> Message:
        """The message."""
        return Message(self._pb.message)

    @property
    def payload(self) -> bytes:
        """The message's bytes, without decoding the rest of the message."""
        return self._pb.message.payload

    @property
    def deadline(self) -> datetime:
        """When the lease expires, by the server's clock."""
        return self._pb.deadline.ToDatetime(UTC)

    @property
    def count(self) -> int:
        """How often the message was delivered, including this time."""
        return self._pb.count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Delivery) and self._pb == other._pb

    def __hash__(self) -> int:
        return hash(self.token)

    def __repr__(self) -> str:
        return f"<Delivery {self.token} of {self.message!r}, number {self.count}>"


@dataclass(frozen=True, kw_only=True, slots=True)
class Try:
    """A delivery after which the message was not acknowledged."""

    outcome: TryOutcome
    """How it ended."""

    began: datetime
    """When the message was delivered, by the server's clock."""

    ended: datetime
    """When the lease ended, by the server's clock."""

    consumer: str
    """The name of the consumer, as the consumer gave it; empty if it gave none."""

    reason: str
    """Why it failed, as the consumer reported; empty if it reported nothing."""

    token: int
    """The token of its lease."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BrowsedMessage:
    """A message in its queue, with its state and its delivery history."""

    message: Message
    """The message."""

    state: MessageState
    """Its state."""

    count: int
    """How often it was delivered since it was added or last redriven."""

    until: datetime | None
    """When its lease expires, or its delay is over; None if it is neither leased nor delayed."""

    consumer: str
    """The name of the consumer that has leased it, as the consumer gave it; otherwise empty."""

    reason: DeathReason | None
    """Why it is dead; None if it is not."""

    died: datetime | None
    """When it died; None if it is not dead."""

    tries: Sequence[Try]
    """Its failed deliveries, the oldest first. The server stores the last 20, also when the message is redriven."""

    payload_size: int
    """The size of the whole payload in bytes, also if the payload of the message was cut."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TailEvent:
    """What happened to one message of a queue."""

    kind: EventKind
    """What happened."""

    time: datetime
    """When it happened, by the server's clock."""

    message: Message
    """The message. Its payload may be cut."""

    payload_size: int
    """The size of the whole payload, in bytes."""

    consumer: str
    """The name of the consumer that has or had the message; empty if it has none or is not known."""

    held: timedelta | None
    """How long the message was leased, if it was acknowledged or returned; None if that is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TailBatch:
    """Events of a queue in the order in which they happened."""

    events: Sequence[TailEvent] = ()
    """The events. The first batch has none: it says that the stream has begun."""

    skipped: int = 0
    """How many events were skipped since the previous batch, because of the rate or because they were read slowly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsumeUpdate:
    """A response of the server on a stream of `Client.consume`."""

    deliveries: Sequence[Delivery] = ()
    """Messages that are leased to this stream from now on."""

    settled: Sequence[int] = ()
    """Tokens of leases that were acknowledged, given back or extended as requested."""

    refused: Mapping[int, QueueletError]
    """Tokens of leases that were not, and why."""

    holder_token: int = 0
    """Set once, when the stream becomes the queue's exclusive consumer; larger for each holder."""

    heartbeat: float = 0
    """Set once, in the first response of a stream with a heartbeat: the longest silence of either side, in seconds."""

    @classmethod
    def of(cls, response: pb.ConsumeResponse) -> ConsumeUpdate:
        """Convert a response."""
        return cls(
            deliveries=tuple(map(Delivery, response.deliveries)),
            settled=tuple(response.settled),
            refused={each.token: error_from_pb(each.error) for each in response.refused},
            holder_token=response.holder_token,
            heartbeat=response.heartbeat.ToNanoseconds() / 1e9 if response.HasField("heartbeat") else 0,
        )


def browsed_from_pb(browsed: pb.BrowsedMessage) -> BrowsedMessage:
    """Convert a message of a Browse response. Raises `UNREADABLE`, as the functions of `wire/values.py` do."""
    return BrowsedMessage(
        message=Message(browsed.message),
        state=MessageState(browsed.state),
        count=browsed.count,
        until=browsed.until.ToDatetime(UTC) if browsed.HasField("until") else None,
        consumer=browsed.consumer,
        reason=DeathReason(browsed.reason) if browsed.reason else None,
        died=browsed.died.ToDatetime(UTC) if browsed.HasField("died") else None,
        tries=tuple(map(_try_from_pb, browsed.tries)),
        payload_size=browsed.payload_size,
    )


def tail_from_pb(response: pb.TailResponse) -> TailBatch:
    """Convert a batch of events. Raises `UNREADABLE`, as the functions of `wire/values.py` do."""
    return TailBatch(events=tuple(map(_event_from_pb, response.events)), skipped=response.skipped)


def _event_from_pb(event: pb.TailEvent) -> TailEvent:
    return TailEvent(
        kind=EventKind(event.kind),
        time=event.time.ToDatetime(UTC),
        message=Message(event.message),
        payload_size=event.payload_size,
        consumer=event.consumer,
        held=event.held.ToTimedelta() if event.HasField("held") else None,
    )


def _try_from_pb(failed: pb.Try) -> Try:
    return Try(
        outcome=TryOutcome(failed.outcome),
        began=failed.began.ToDatetime(UTC),
        ended=failed.ended.ToDatetime(UTC),
        consumer=failed.consumer,
        reason=failed.reason,
        token=failed.token,
    )


def added_from_pb(response: pb.AddBatchResponse) -> list[Added | QueueletError]:
    """Return what was added, or why it was not, for each message of a batch."""
    durable = is_durable(response)
    errors = errors_from_pb(response.results)
    return [
        error or Added(result.id, result.duplicate, durable)
        for result, error in zip(response.results, errors, strict=True)
    ]


def is_durable(response: pb.AddBatchResponse) -> bool:
    """Return whether the messages of a batch are on disk."""
    return response.durability in {pb.DURABILITY_DISK, pb.DURABILITY_REPLICATED}


def new_message_to_pb(new: NewMessage) -> pb.NewMessage:
    """Return the protobuf form of a message to add. Raises as `new_message` does."""
    return new_message(
        payload=new.payload,
        tags=new.tags,
        message_id=new.message_id,
        priority=new.priority,
        delay=new.delay,
        not_before=new.not_before,
        ttl=new.ttl,
    )


def new_message(  # noqa: PLR0913  # independent arguments, all keyword-only
    *,
    payload: bytes,
    tags: Iterable[Tag] = (),
    message_id: str = "",
    priority: int = 0,
    delay: Seconds = 0,
    not_before: datetime | None = None,
    ttl: Seconds = 0,
) -> pb.NewMessage:
    """Return the protobuf form of a message to add. Durations are in seconds or `timedelta`; 0 means unset.

    Raises:
        InvalidArgument: An ID, a priority or a time is not valid. The server checks the rest.
        TypeError: The payload is not bytes.
    """
    if not isinstance(payload, bytes):
        raise TypeError(f"payload: {type(payload).__name__} is not bytes; encode it")
    message_id = str(message_id)  # accept uuid.UUID too
    if message_id and not parse_uuid(message_id):
        raise _invalid("message_id", f"{message_id[:80]!r} is not a UUID ({why_not_uuid(message_id)})")
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise _invalid("priority", f"{priority!r} is not a whole number")
    if not -_PRIORITIES <= priority < _PRIORITIES:
        raise _invalid("priority", f"{priority} is out of range; use -2^31 to 2^31 - 1")
    message = pb.NewMessage(payload=payload, id=message_id, priority=priority)
    if tags:
        message.tags.extend(checked_tags_to_pb(tags))
    for field, time in (("delay", delay), ("ttl", ttl)):
        if (duration := duration_to_pb(time, field)) is not None:
            getattr(message, field).CopyFrom(duration)
    if not_before is not None:
        message.not_before.CopyFrom(timestamp_to_pb(not_before, "not_before"))
    return message


def _invalid(field: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"{field}: {why}", field=field)


def timestamp_to_pb(moment: datetime, field: str) -> Timestamp:
    """Convert a time. One without a time zone is local time, as elsewhere in Python."""
    if not isinstance(moment, datetime):
        instead = "; use delay for a duration" if field == "not_before" else ""
        raise TypeError(f"{field}: {moment!r:.80} is not a datetime{instead}")
    timestamp = Timestamp()
    try:
        timestamp.FromDatetime(moment.astimezone(UTC))
    except (ValueError, OverflowError):
        raise _invalid(field, f"{moment} is out of range; use a time from 1970 to 2200") from None
    return timestamp


def duration_to_pb(time: Seconds, field: str) -> Duration | None:
    """Convert a duration; 0 becomes None, because an absent field means the default.

    Raises:
        InvalidArgument: The duration is out of range, or not a number.
        TypeError: The value is not a duration.
    """
    seconds = seconds_of(field, time)
    if not seconds:
        return None
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration


def nack_to_pb(
    token: int, *, delay: Seconds = 0, reason: str = "", dead: bool = False, unused: bool = False
) -> pb.ConsumeNack:
    """Return the protobuf form of a nack. Raises as `duration_to_pb` does."""
    return pb.ConsumeNack(
        token=token,
        delay=duration_to_pb(delay, "delay"),
        reason=sendable(reason, MAX_REASON_BYTES),
        dead=dead,
        unused=unused,
    )


def checked_tags_to_pb(tags: Iterable[Tag]) -> list[pb.Tag]:
    """Return tags from a program as protobuf. Raises `InvalidArgument` for anything but pairs of strings."""
    return list(map(_tag_to_pb, tags))


def _tag_to_pb(tag: object) -> pb.Tag:
    match tag:
        case (str(key), str(value)):
            check_text("tags", key)
            check_text("tags", value)
            return pb.Tag(key=key, value=value)
    raise _invalid("tags", f"{tag!r} is not a pair of key and value; use Tag(key, value)")
