"""The stored form of messages: they are encoded once when they are added, and sent without encoding them again.

A stored message is the field `message = 1` of a response, including key and length: `PopResponse`, `PeekResponse` and
`AddResponse` consist of those bytes, `PopBatchResponse` of several, and `Delivery` and `BrowsedMessage` of one and
further fields. If the field numbers of `Message`, `Metadata`, `Delivery`, `BrowsedMessage` or `Try` in queue.proto
change, this module has to change too.

Requests are not parsed here: `server/requests.py` does it with the generated classes, and `server/plain_request.py`
without them if a message has only a payload.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from queuelet.core.message import DeliveryRecord, Terms
from queuelet.definition import MessageState, TryOutcome
from queuelet.ids import MessageIds
from queuelet.tags import Tag, Tags
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.varint import varint, varint_at

_KEY_AND_LENGTH = 6
_UUID_LENGTH = 36
_TIME = 2 + 6 + 6
_ENVELOPE = 5 * _KEY_AND_LENGTH + (2 + _UUID_LENGTH) + _TIME + 2 + (2 + 20) + (9 + _TIME + 6)
"""The maximum number of bytes of a response in addition to tags, terms and payload: keys and lengths, ID, time, state,
a page token, and the lease of a delivery."""

_TERMS = 11 + _TIME + 2 * 11 + 2
"""The maximum number of bytes of a message's terms."""

HISTORY = 20
"""The maximum number of failed tries in the history of a message."""

_TRY = 0x42
"""The key of the field `tries = 8` of `BrowsedMessage`."""

_PAYLOAD = 0x12
"""The key of the field `payload = 2` of `Message`."""


class NewMessage(NamedTuple):
    """A message from a producer, validated: the queue's `Draft`."""

    payload: bytes
    tags: bytes = b""
    """The tags, encoded as fields of `Metadata`."""
    own_id: bytes = b""
    terms: Terms | None = None

    @property
    def size(self) -> int:
        """The maximum number of bytes that the message takes when it is stored."""
        return len(self.payload) + len(self.tags) + (_ENVELOPE if self.terms is None else _ENVELOPE + _TERMS)

    def stored(self, message_id: bytes, created: int) -> bytes:
        """Return the message in its stored form."""
        payload, tags, _, terms = self
        after_id = _created(created) + tags
        if terms is None:
            return _form(len(after_id), len(payload)) % (message_id, after_id, payload)
        metadata = b"\x0a\x24%b%b" % (message_id, after_id)
        content = _field(_PAYLOAD, payload) if payload else b""
        return _field(0x0A, _field(0x0A, metadata) + content + _terms(terms, created))


@lru_cache(maxsize=4_096)
def _form(after_id: int, payload: int) -> bytes:
    """Return the format of a message without terms: `form % (ID, rest of the metadata, payload)`, given two sizes.

    All keys and lengths depend on the sizes alone, and most messages have one of a few. Writing them for each message
    took twice as long. The cache takes a megabyte at most.
    """
    metadata = b"\x0a%b\x0a\x24" % varint(2 + _UUID_LENGTH + after_id)
    content = b"\x12" + varint(payload) if payload else b""
    size = len(metadata) + _UUID_LENGTH + after_id + len(content) + payload
    return b"%b%%b%%b%b%%b" % (_literal(b"\x0a%b%b" % (varint(size), metadata)), _literal(content))


def stored_plain(payloads: Iterable[bytes], ids: MessageIds, first: int, created: int) -> list[bytes]:
    """Return plain messages as `NewMessage.stored` would, numbered from `first` on."""
    time = _created(created)
    before = b"\x0a%c\x0a\x24" % (2 + _UUID_LENGTH + len(time))
    forms: dict[int, bytes] = {}
    bodies: list[bytes] = []
    for seq, payload in enumerate(payloads, first):
        size = len(payload)
        form = forms.get(size)
        if form is None:
            after = b"%b\x12%b" % (time, varint(size)) if size else time
            head = b"\x0a%b%b" % (varint(len(before) + _UUID_LENGTH + len(after) + size), before)
            form = forms[size] = b"%b%b%b%%b" % (_literal(head), ids.form, _literal(after))
        bodies.append(form % (seq, payload))
    return bodies


def _literal(part: bytes) -> bytes:
    """Return these bytes escaped for use in a `%` format."""
    return part.replace(b"%", b"%%")


def encode_tags(tags: Iterable[Tag]) -> bytes:
    """Return tags as the repeated field `tags = 3` of `Metadata`."""
    return b"".join(
        _field(0x1A, (_field(0x0A, key.encode()) if key else b"") + (_field(0x12, value.encode()) if value else b""))
        for key, value in tags
    )


def decode(body: bytes) -> pb.Message:
    """Return a stored message as an object of its generated class."""
    return pb.PopResponse.FromString(body).message


def tags_of(body: bytes) -> Tags:
    """Return the tags of a stored message."""
    return tuple(Tag(tag.key, tag.value) for tag in _metadata(body).tags)


def created_of(body: bytes) -> int:
    """Return when a stored message was added, in nanoseconds since 1970."""
    return _metadata(body).created.ToNanoseconds()


def same_content(body: bytes, draft: NewMessage) -> bool:
    """Return whether a stored message has the payload and the tags of a draft; the order of tags does not matter.

    Terms are not compared, because a retry gives the same delay at a later time.
    """
    stored = decode(body)
    given = pb.Metadata.FromString(draft.tags)
    return stored.payload == draft.payload and _pairs(stored.meta) == _pairs(given)


def added(ids: Iterable[bytes]) -> bytes:
    """Return the `AddBatchResponse` for messages that were all added, from their IDs."""
    head = b"\x0a\x26\x0a\x24"
    joined = head.join(ids)
    return head + joined if joined else b""


def id_of(body: bytes) -> bytes:
    """Return the ID of a stored message: 36 ASCII characters."""
    place = _metadata_length_place(body)
    while body[place] > 127:
        place += 1
    return body[place + 3 : place + 3 + _UUID_LENGTH]


def payload_contains(body: bytes, part: bytes) -> bool:
    """Return whether the payload of a stored message contains these bytes. It is searched without being copied."""
    return body.find(part, *_payload_range(body)) >= 0


def browsed(  # noqa: PLR0913, PLR0917  # each is a fact of its own
    body: bytes,
    state: MessageState,
    until: int,
    delivery: DeliveryRecord | None,
    most: int,
    payload_bytes: int | None = None,
) -> bytes:
    """Return a stored message with its state and delivery, as a field `messages = 1` of `BrowseResponse`.

    The oldest tries are omitted if the result would be larger than `most` bytes otherwise, and so is the consumer's
    name. A payload of more than `payload_bytes` is cut.
    """
    body, size = cut_payload(body, payload_bytes)
    more = b"\x10%c" % state
    if size:
        more += b"\x48" + varint(size)
    if delivery is not None and delivery.count:
        more += b"\x18" + varint(delivery.count)
    if until:
        more += _field(0x22, _time(until))
    if delivery is None:
        return _field(0x0A, body + more)
    if state is MessageState.DEAD:
        more += b"\x30%c%b" % (delivery.reason, _field(0x3A, _time(delivery.since)))
    left = most - len(body) - len(more) - _KEY_AND_LENGTH
    if state is MessageState.LEASED and delivery.consumer:
        consumer = _field(0x2A, delivery.consumer.encode())
        if len(consumer) <= left:
            more += consumer
            left -= len(consumer)
    tries = delivery.history
    return _field(0x0A, body + more + (tries if len(tries) <= left else newest_tries(tries, left)))


def delivered(bodies: Iterable[bytes], first_token: int, counts: Iterable[int], deadline: int) -> bytes:
    """Return messages and their leases as fields `deliveries = 1` of `ReceiveResponse` or `ConsumeResponse`.

    Args:
        bodies: the stored messages.
        first_token: the token of the first message; the others follow it without gaps.
        counts: how often each message was delivered.
        deadline: when the leases end, in nanoseconds since 1970.
    """
    ends = _field(0x1A, _time(deadline)) + b"\x20"
    ends_first = ends + b"\x01"
    heads: dict[int, bytes] = {}
    pieces: list[bytes] = []
    add = pieces.append
    for token, (body, count) in enumerate(zip(bodies, counts, strict=True), first_token):
        tail = ends_first if count == 1 else ends + varint(count)
        size = len(body) + 9 + len(tail)
        head = heads.get(size)
        if head is None:
            head = heads[size] = b"\x0a" + varint(size)
        # The pieces are joined once at the end, so that each body is copied only once.
        add(head)
        add(body)
        add(b"\x11%b%b" % (token.to_bytes(8, "little"), tail))
    return b"".join(pieces)


def cut_payload(body: bytes, most: int | None) -> tuple[bytes, int]:
    """Return a stored message with at most `most` bytes of its payload, and the size of the whole payload in bytes.

    None for `most` means the whole payload.
    """
    begin, end = _payload_range(body)
    size = end - begin
    if most is None or size <= most:
        return body, size
    place = _metadata_length_place(body)
    length, metadata = varint_at(body, place)
    payload = _field(_PAYLOAD, body[begin : begin + most]) if most else b""
    return _field(0x0A, b"%b%b%b" % (body[place - 1 : metadata + length], payload, body[end:])), size


DELIVERY_ENVELOPE = _KEY_AND_LENGTH + 9 + _TIME + 6
"""The maximum number of bytes around a message in the response to Receive."""


def failed_try(outcome: TryOutcome, delivery: DeliveryRecord, ended: int, reason: str) -> bytes:
    """Return a failed delivery as a field `tries = 8` of `BrowsedMessage`."""
    fields = b"\x08%c%b%b" % (outcome, _field(0x12, _time(delivery.since)), _field(0x1A, _time(ended)))
    if delivery.consumer:
        fields += _field(0x22, delivery.consumer.encode())
    if reason:
        fields += _field(0x2A, reason.encode())
    return _field(_TRY, b"%b\x31%b" % (fields, delivery.token.to_bytes(8, "little")))


def stored_try(failed: pb.Try) -> bytes:
    """Return a failed delivery that was sent by a client, as `failed_try` does, without unknown fields."""
    failed.DiscardUnknownFields()
    return _field(_TRY, failed.SerializeToString())


def newest_tries(history: bytes, max_bytes: int | None = None, most: int = HISTORY) -> bytes:
    """Return the newest failed tries of a history: at most `most` of them, and at most `max_bytes` together."""
    tries: list[bytes] = []
    place = 0
    while place < len(history):
        length, start = varint_at(history, place + 1)
        tries.append(history[place : start + length])
        place = start + length
    del tries[:-most]
    while max_bytes is not None and tries and sum(map(len, tries)) > max_bytes:
        del tries[0]
    return b"".join(tries)


def next_page(token: str) -> bytes:
    """Return the field `next_page_token = 2` of `BrowseResponse`."""
    return _field(0x12, token.encode())


def _metadata(body: bytes) -> pb.Metadata:
    """Return the metadata of a stored message without parsing its payload."""
    length, start = varint_at(body, _metadata_length_place(body))
    return pb.Metadata.FromString(body[start : start + length])


def _payload_range(body: bytes) -> tuple[int, int]:
    """Return where the payload of a stored message begins and ends. Both are 0 if it is empty."""
    length, start = varint_at(body, _metadata_length_place(body))
    place = start + length
    if place == len(body) or body[place] != _PAYLOAD:
        return 0, 0
    size, begin = varint_at(body, place + 1)
    return begin, begin + size


def _metadata_length_place(body: bytes) -> int:
    """Return where the length of the metadata begins: after the length of the message, and a key."""
    place = 1
    while body[place] > 127:
        place += 1
    return place + 2


def _field(key: int, value: bytes) -> bytes:
    return b"%c%b%b" % (key, varint(len(value)), value)


def _created(nanoseconds: int) -> bytes:
    """Return the field `created = 2` of `Metadata`."""
    seconds, nanos = divmod(nanoseconds, 1_000_000_000)
    if not nanos:
        return _field(0x12, _time(nanoseconds))
    value = varint(nanos)
    return _created_until_nanos(seconds, len(value)) + value


@lru_cache(maxsize=16)
def _created_until_nanos(seconds: int, length: int) -> bytes:
    """Return how `created = 2` begins, up to nanoseconds of `length` bytes. Many messages share a second."""
    start = _seconds(seconds) + b"\x10"
    return b"\x12%c%b" % (len(start) + length, start)


def _time(nanoseconds: int) -> bytes:
    """Return a `Timestamp` or a `Duration` of 0 or more."""
    seconds, nanos = divmod(nanoseconds, 1_000_000_000)
    return _seconds(seconds) + (b"\x10" + varint(nanos) if nanos else b"")


@lru_cache(maxsize=2)
def _seconds(seconds: int) -> bytes:
    return b"\x08" + varint(seconds) if seconds else b""


def _terms(terms: Terms, created: int) -> bytes:
    """Return the fields `priority = 3`, `not_before = 4` and `ttl = 5` of `Message`."""
    fields = b"\x18" + varint(terms.priority % (1 << 64)) if terms.priority else b""
    if terms.not_before or terms.delay:
        fields += _field(0x22, _time(terms.rank(created).due))
    if terms.ttl:
        fields += _field(0x2A, _time(terms.ttl))
    return fields


def _pairs(meta: pb.Metadata) -> set[tuple[str, str]]:
    return {(tag.key, tag.value) for tag in meta.tags}
