"""Messages as bytes: encoded once when they are added, answered as they are.

A stored message is the field `message = 1` of an answer, key and length included: `PopResponse`, `PeekResponse` and
`AddResponse` are those bytes, `PopBatchResponse` is a run of them, and `BrowsedMessage` is one with a state behind.
Whoever changes the numbers of `Message` or `Metadata` in queue.proto changes them here.

Requests are read with the generated classes: their parser is native, and reading the bytes by hand was measured to save
0.1 us a message, for a second way of reading to keep right.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from queuelet.definition import State
from queuelet.tags import Tag, Tags
from queuelet.v1 import queue_pb2 as pb

_ONE_BYTE = tuple(bytes((number,)) for number in range(128))

_KEY_AND_LENGTH = 6
_UUID_LENGTH = 36
_ENVELOPE = 4 * _KEY_AND_LENGTH + (2 + _UUID_LENGTH) + (2 + 6 + 6) + 2 + (2 + 20)
"""The most bytes an answer has beyond tags and payload: keys and lengths, id, time, state, a page's token."""


class NewMessage(NamedTuple):
    """A message as a producer gave it, checked: what the queue calls a draft."""

    payload: bytes
    tags: bytes = b""
    """The tags as they stand in `Metadata`."""
    own_id: bytes = b""

    @property
    def size(self) -> int:
        """The most bytes it takes when it is stored."""
        return len(self.payload) + len(self.tags) + _ENVELOPE

    def stored(self, message_id: bytes, created: int) -> bytes:
        """Return the message in the form in which it is kept and answered."""
        payload, tags, _ = self
        metadata = b"\x0a\x24%b%b%b" % (message_id, _created(created), tags)
        if not payload:
            return _field(0x0A, _field(0x0A, metadata))
        length = len(metadata)
        head = _ONE_BYTE[length] if length < 128 else varint(length)
        size = len(payload)
        tail = _ONE_BYTE[size] if size < 128 else varint(size)
        return b"\x0a%b\x0a%b%b\x12%b%b" % (
            varint(2 + len(head) + length + len(tail) + size),
            head,
            metadata,
            tail,
            payload,
        )


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
    """Tell whether a stored message has the payload and the tags of a draft, in whatever order."""
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


def browsed(body: bytes, state: State) -> bytes:
    """Return a stored message and its state as a field `messages = 1` of `BrowseResponse`."""
    return _field(0x0A, b"%b\x10%c" % (body, state))


def next_page(token: str) -> bytes:
    """Return the field `next_page_token = 2` of `BrowseResponse`."""
    return _field(0x12, token.encode())


def varint(number: int) -> bytes:
    """Return a number, 0 or more, as protobuf writes it."""
    if number < 1 << 7:
        return _ONE_BYTE[number]
    if number < 1 << 14:
        return bytes((number & 127 | 128, number >> 7))
    if number < 1 << 21:
        return bytes((number & 127 | 128, number >> 7 & 127 | 128, number >> 14))
    return bytes((number & 127 | 128, number >> 7 & 127 | 128, number >> 14 & 127 | 128)) + varint(number >> 21)


def _metadata(body: bytes) -> pb.Metadata:
    """Return a stored message's metadata without a look at its payload."""
    place = _metadata_length_place(body)
    length = shift = 0
    while body[place] > 127:
        length |= (body[place] & 127) << shift
        shift += 7
        place += 1
    length |= body[place] << shift
    return pb.Metadata.FromString(body[place + 1 : place + 1 + length])


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
    seconds, nanos = divmod(nanoseconds, 1_000_000_000)
    value = _seconds(seconds) + (b"\x10" + varint(nanos) if nanos else b"")
    return b"\x12%c%b" % (len(value), value)


@lru_cache(maxsize=2)
def _seconds(seconds: int) -> bytes:
    return b"\x08" + varint(seconds) if seconds else b""


def _pairs(meta: pb.Metadata) -> set[tuple[str, str]]:
    return {(tag.key, tag.value) for tag in meta.tags}
