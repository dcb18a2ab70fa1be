"""Finds the queue that an encoded request names, without decoding the request.

A server needs it to pass a request on to the owner of the queue, and a client to call the owner directly.
"""

from __future__ import annotations

from collections.abc import Mapping

QUEUE_FIELDS: Mapping[str, tuple[int, ...]] = {
    "NewQueue": (4,),
    "GetQueue": (1,),
    "DeleteQueue": (1,),
    "AddQueueTag": (1,),
    "DeleteQueueTag": (1,),
    "Add": (1,),
    "Pop": (1,),
    "Peek": (1,),
    "AddBatch": (1,),
    "PopBatch": (1,),
    "PeekBatch": (1,),
    "Receive": (1,),
    "Ack": (1,),
    "Nack": (1,),
    "Extend": (1,),
    "Consume": (1, 1),
    "Redrive": (1,),
    "Browse": (1,),
    "Purge": (1,),
    "GetStats": (1,),
    "ListConsumers": (1,),
    "Tail": (1,),
    "GetHistory": (1,),
}
"""The path of field numbers to the queue's ID or name, by method, in the requests that name one queue."""

_VARINT, _FIXED_64, _WITH_LENGTH, _FIXED_32 = 0, 1, 2, 5
"""Wire types: the lowest three bits of a key."""

_FIXED = {_FIXED_64: 8, _FIXED_32: 4}

_MORE = 0x80
"""The continuation bit of a varint's byte: another byte follows."""

_MAX_VARINT_BYTES = 10

_MAX_FIELDS = 1_000
"""The most fields that are looked at; encoders write the queue among the first ones."""


def queue_of(request: bytes, path: tuple[int, ...]) -> str:
    """Return the queue's ID or name in a request; empty if it has none or is malformed.

    A malformed request is refused when it is decoded. A field that is there twice counts once, the first time, although
    the decoded request has its last value: the call is then refused by a server that does not own the queue.

    Args:
        request: the encoded request.
        path: one of `QUEUE_FIELDS`.
    """
    data = request
    try:
        for field in path:
            data = _field(data, field)
        return data.decode()
    except (IndexError, UnicodeDecodeError):
        return ""


def _field(data: bytes, field: int) -> bytes:
    """Return the content of a field with a length; empty if it is not there. Raises IndexError if it is malformed."""
    place, end = 0, len(data)
    for _ in range(_MAX_FIELDS):
        if place >= end:
            break
        key, place = _varint_at(data, place)
        wire_type = key & 7
        if wire_type == _WITH_LENGTH:
            length, place = _varint_at(data, place)
            if key >> 3 == field:
                return data[place : place + length]
            place += length
        elif wire_type == _VARINT:
            _, place = _varint_at(data, place)
        elif wire_type in _FIXED:
            place += _FIXED[wire_type]
        else:
            raise IndexError
    return b""


def _varint_at(data: bytes, place: int) -> tuple[int, int]:
    """Return the number at a place, and the place after it. Raises IndexError if it is malformed."""
    number = 0
    for count in range(_MAX_VARINT_BYTES):
        byte = data[place + count]
        number |= (byte & ~_MORE) << 7 * count
        if byte < _MORE:
            return number, place + count + 1
    raise IndexError
