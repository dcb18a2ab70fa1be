"""Messages as bytes: encoded once when they are added, answered as they are.

A stored message is the field `message = 1` of an answer, key and length included: `PopResponse`, `PeekResponse` and
`AddResponse` are those bytes, `PopBatchResponse` is a run of them, and `Delivery` and `BrowsedMessage` are one with
more behind. Whoever changes the numbers of `Message`, `Metadata`, `Delivery`, `BrowsedMessage` or `Try` in queue.proto
changes them here.

Requests are read with the generated classes: their parser is native, and reading the bytes by hand was measured to save
0.1 us a message, for a second way of reading to keep right.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from queuelet.core.message import Delivery, Terms, TryOutcome
from queuelet.definition import State
from queuelet.ids import MessageIds
from queuelet.tags import Tag, Tags
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.varint import ONE_BYTE, varint, varint_at

_KEY_AND_LENGTH = 6
_UUID_LENGTH = 36
_TIME = 2 + 6 + 6
_ENVELOPE = 5 * _KEY_AND_LENGTH + (2 + _UUID_LENGTH) + _TIME + 2 + (2 + 20) + (9 + _TIME + 6)
"""The most bytes an answer has beyond tags, terms and payload: keys and lengths, id, time, state, a page's token, and
the lease of a delivery."""

_TERMS = 11 + _TIME + 2 * 11 + 2
"""The most bytes that the terms of a message take."""

HISTORY = 20
"""How many failed tries are remembered."""

_TRY = 0x42
"""The key of the field `tries = 8` of `BrowsedMessage`."""


class NewMessage(NamedTuple):
    """A message as a producer gave it, checked: what the queue calls a draft."""

    payload: bytes
    tags: bytes = b""
    """The tags as they stand in `Metadata`."""
    own_id: bytes = b""
    terms: Terms | None = None

    @property
    def size(self) -> int:
        """The most bytes it takes when it is stored."""
        return len(self.payload) + len(self.tags) + (_ENVELOPE if self.terms is None else _ENVELOPE + _TERMS)

    def stored(self, message_id: bytes, created: int) -> bytes:
        """Return the message in the form in which it is kept and answered."""
        payload, tags, _, terms = self
        metadata = b"\x0a\x24%b%b%b" % (message_id, _created(created), tags)
        if terms is not None:
            content = _field(0x12, payload) if payload else b""
            return _field(0x0A, _field(0x0A, metadata) + content + _terms(terms, created))
        if not payload:
            return _field(0x0A, _field(0x0A, metadata))
        length = len(metadata)
        head = ONE_BYTE[length] if length < 128 else varint(length)
        size = len(payload)
        tail = ONE_BYTE[size] if size < 128 else varint(size)
        return b"\x0a%b\x0a%b%b\x12%b%b" % (
            varint(2 + len(head) + length + len(tail) + size),
            head,
            metadata,
            tail,
            payload,
        )


def stored_plain(payloads: Iterable[bytes], ids: MessageIds, first: int, created: int) -> list[bytes]:
    """Return messages that are a payload and nothing else as `NewMessage.stored` does, numbered from `first` on."""
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
    """Return what stands for these bytes in a form."""
    return part.replace(b"%", b"%%")


def encode_tags(tags: Iterable[Tag]) -> bytes:
    """Return tags as the repeated field `tags = 3` of `Metadata`."""
    return b"".join(
        _field(0x1A, (_field(0x0A, key.encode()) if key else b"") + (_field(0x12, value.encode()) if value else b""))
        for key, value in tags
    )


def decode(body: bytes) -> pb.Message:
    """Return a stored message in its generated class."""
    return pb.PopResponse.FromString(body).message


def tags_of(body: bytes) -> Tags:
    """Return the tags of a stored message."""
    return tuple(Tag(tag.key, tag.value) for tag in _metadata(body).tags)


def created_of(body: bytes) -> int:
    """Return when a stored message was added, in nanoseconds since 1970."""
    return _metadata(body).created.ToNanoseconds()


def same_content(body: bytes, draft: NewMessage) -> bool:
    """Tell whether a stored message has the payload and the tags of a draft, in whatever order.

    Terms are not compared: a producer that repeats itself says the same delay at another time.
    """
    stored = decode(body)
    given = pb.Metadata.FromString(draft.tags)
    return stored.payload == draft.payload and _pairs(stored.meta) == _pairs(given)


def added(ids: Iterable[bytes]) -> bytes:
    """Return an `AddBatchResponse` of messages that were all added, by their ids."""
    head = b"\x0a\x26\x0a\x24"
    joined = head.join(ids)
    return head + joined if joined else b""


def id_of(body: bytes) -> bytes:
    """Return the id of a stored message, as its 36 letters."""
    place = _metadata_length_place(body)
    while body[place] > 127:
        place += 1
    return body[place + 3 : place + 3 + _UUID_LENGTH]


def browsed(body: bytes, state: State, until: int, delivery: Delivery | None, most: int) -> bytes:
    """Return a stored message and what is known of it as a field `messages = 1` of `BrowseResponse`.

    The oldest tries are left out where they would make it larger than `most` bytes.
    """
    more = b"\x10%c" % state
    if delivery is not None and delivery.count:
        more += b"\x18" + varint(delivery.count)
    if until:
        more += _field(0x22, _time(until))
    if delivery is None:
        return _field(0x0A, body + more)
    if state is State.LEASED and delivery.consumer:
        more += _field(0x2A, delivery.consumer.encode())
    if state is State.DEAD:
        more += b"\x30%c%b" % (delivery.reason, _field(0x3A, _time(delivery.since)))
    room = most - len(body) - len(more) - _KEY_AND_LENGTH
    tries = delivery.history
    return _field(0x0A, body + more + (tries if len(tries) <= room else newest_tries(tries, room)))


def delivered(bodies: Iterable[bytes], first_token: int, counts: Iterable[int], deadline: int) -> bytes:
    """Return messages and their leases as fields `deliveries = 1` of `ReceiveResponse` or `ConsumeResponse`.

    The tokens follow the first one; `counts` says how often each message was delivered.
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
        # Joined once at the end, so that a body is copied once.
        add(head)
        add(body)
        add(b"\x11%b%b" % (token.to_bytes(8, "little"), tail))
    return b"".join(pieces)


DELIVERY_ENVELOPE = _KEY_AND_LENGTH + 9 + _TIME + 6
"""The most bytes that stand around a message in the answer of Receive."""


def failed_try(outcome: TryOutcome, delivery: Delivery, ended: int, reason: str) -> bytes:
    """Return a delivery that failed as a field `tries = 8` of `BrowsedMessage`."""
    told = b"\x08%c%b%b" % (outcome, _field(0x12, _time(delivery.since)), _field(0x1A, _time(ended)))
    if delivery.consumer:
        told += _field(0x22, delivery.consumer.encode())
    if reason:
        told += _field(0x2A, reason.encode())
    return _field(_TRY, b"%b\x31%b" % (told, delivery.token.to_bytes(8, "little")))


def newest_tries(history: bytes, room: int | None = None, most: int = HISTORY) -> bytes:
    """Return the newest of failed tries: at most `most` of them, within `room` bytes."""
    tries: list[bytes] = []
    place = 0
    while place < len(history):
        length, start = varint_at(history, place + 1)
        tries.append(history[place : start + length])
        place = start + length
    del tries[:-most]
    while room is not None and tries and sum(map(len, tries)) > room:
        del tries[0]
    return b"".join(tries)


def next_page(token: str) -> bytes:
    """Return the field `next_page_token = 2` of `BrowseResponse`."""
    return _field(0x12, token.encode())


def _metadata(body: bytes) -> pb.Metadata:
    """Return a stored message's metadata without a look at its payload."""
    length, start = varint_at(body, _metadata_length_place(body))
    return pb.Metadata.FromString(body[start : start + length])


def _metadata_length_place(body: bytes) -> int:
    """Return where the length of a stored message's metadata begins: past the message's length, and a key."""
    place = 1
    while body[place] > 127:
        place += 1
    return place + 2


def _field(key: int, value: bytes) -> bytes:
    return b"%c%b%b" % (key, varint(len(value)), value)


@lru_cache(maxsize=16)
def _created(nanoseconds: int) -> bytes:
    """Return the field `created = 2` of `Metadata`; a batch shares one."""
    value = _time(nanoseconds)
    return b"\x12%c%b" % (len(value), value)


def _time(nanoseconds: int) -> bytes:
    """Return a `Timestamp` or a `Duration` of 0 or more."""
    seconds, nanos = divmod(nanoseconds, 1_000_000_000)
    return _seconds(seconds) + (b"\x10" + varint(nanos) if nanos else b"")


@lru_cache(maxsize=2)
def _seconds(seconds: int) -> bytes:
    return b"\x08" + varint(seconds) if seconds else b""


def _terms(terms: Terms, created: int) -> bytes:
    """Return the fields `priority = 3`, `not_before = 4` and `ttl = 5` of `Message`."""
    told = b"\x18" + varint(terms.priority % (1 << 64)) if terms.priority else b""
    if terms.not_before or terms.delay:
        told += _field(0x22, _time(terms.rank(created).due))
    if terms.ttl:
        told += _field(0x2A, _time(terms.ttl))
    return told


def _pairs(meta: pb.Metadata) -> set[tuple[str, str]]:
    return {(tag.key, tag.value) for tag in meta.tags}
