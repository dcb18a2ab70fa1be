"""Reads requests of messages that are a payload and nothing else, without an object for each message."""

from __future__ import annotations

from typing import NamedTuple

from queuelet.core.plain_batch import PlainBatch

_MESSAGES = _PAYLOAD = 0x12
"""The keys of the fields `messages = 2` of `AddBatchRequest` and `payload = 2` of `NewMessage`."""


_MORE = 0x80
"""The bit of a byte of a number that says that another byte follows."""


_NUMBER, _WITH_LENGTH = 0, 2
"""Wire types, the lowest three bits of a key."""


_LONGEST_LENGTH = 4
"""How many bytes a length may take here: more than that is no message that a server accepts."""


class PlainRequest(NamedTuple):
    """An `AddBatchRequest` of plain messages."""

    beside: bytes
    """The request without its messages."""
    messages: PlainBatch


def read_plain_request(request: bytes) -> PlainRequest | None:
    """Read an `AddBatchRequest`; None where a message has more than a payload, or anything is out of the ordinary."""
    payloads: list[bytes] = []
    beside: list[bytes] = []
    place, end = 0, len(request)
    head, head_length, size = b"", 0, 0
    try:
        while place < end:
            start = place + head_length
            if head_length and request[place:start] == head:
                place = start + size
                payloads.append(request[start:place])
            elif request[place] == _MESSAGES:
                start, size = _payload_at(request, place + 1)
                head, head_length = request[place:start], start - place
            else:
                after = _end_of_field(request, place)
                beside.append(request[place:after])
                place = after
    except (IndexError, _NotPlain):
        return None
    return PlainRequest(b"".join(beside), PlainBatch(payloads)) if place == end else None


class _NotPlain(Exception):
    """There is something that only the generated classes read."""


def _payload_at(request: bytes, place: int) -> tuple[int, int]:
    """Return where the payload of a message begins whose length stands here, and its size."""
    length, start = _length_at(request, place)
    if not length:
        return start, 0
    if request[start] != _PAYLOAD:
        raise _NotPlain
    end = start + length
    size, start = _length_at(request, start + 1)
    if start + size != end:
        raise _NotPlain
    return start, size


def _end_of_field(request: bytes, place: int) -> int:
    """Return where a field ends that is a number or has a length, as all do that an `AddBatchRequest` has."""
    field, wire_type = divmod(request[place], 8)
    number, after = _length_at(request, place + 1)
    if not field or request[place] & _MORE or wire_type not in {_NUMBER, _WITH_LENGTH}:
        raise _NotPlain
    return after if wire_type == _NUMBER else after + number


def _length_at(request: bytes, place: int) -> tuple[int, int]:
    """Return the length that stands at a place, and where it ends."""
    length = 0
    for count in range(_LONGEST_LENGTH):
        byte = request[place + count]
        length |= (byte & ~_MORE) << 7 * count
        if byte < _MORE:
            return length, place + count + 1
    raise _NotPlain
