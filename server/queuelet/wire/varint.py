"""Integers of variable length, as protobuf has them."""

from __future__ import annotations

ONE_BYTE = tuple(bytes((number,)) for number in range(128))


def varint(number: int) -> bytes:
    """Return a number, 0 or more, as protobuf writes it."""
    if number < 1 << 7:
        return ONE_BYTE[number]
    if number < 1 << 14:
        return bytes((number & 127 | 128, number >> 7))
    if number < 1 << 21:
        return bytes((number & 127 | 128, number >> 7 & 127 | 128, number >> 14))
    return bytes((number & 127 | 128, number >> 7 & 127 | 128, number >> 14 & 127 | 128)) + varint(number >> 21)


def varint_at(data: bytes, place: int) -> tuple[int, int]:
    """Return the number that stands at a place, and where it ends."""
    number = shift = 0
    while data[place] > 127:
        number |= (data[place] & 127) << shift
        shift += 7
        place += 1
    return number | data[place] << shift, place + 1
