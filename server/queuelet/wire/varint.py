"""Protobuf's variable-length integers (varints)."""

from __future__ import annotations

ONE_BYTE = tuple(bytes((number,)) for number in range(128))


def varint(number: int) -> bytes:
    """Encode a number, which must be 0 or more."""
    if number < 1 << 7:
        return ONE_BYTE[number]
    if number < 1 << 14:
        return bytes((number & 127 | 128, number >> 7))
    if number < 1 << 21:
        return bytes((number & 127 | 128, number >> 7 & 127 | 128, number >> 14))
    # The nanoseconds of a time take four or five bytes, and every message has a time.
    low = number & 127 | 128
    if number < 1 << 28:
        return bytes((low, number >> 7 & 127 | 128, number >> 14 & 127 | 128, number >> 21))
    if number < 1 << 35:
        return bytes((low, number >> 7 & 127 | 128, number >> 14 & 127 | 128, number >> 21 & 127 | 128, number >> 28))
    return bytes((low, number >> 7 & 127 | 128, number >> 14 & 127 | 128, number >> 21 & 127 | 128)) + varint(
        number >> 28
    )


def varint_at(data: bytes, place: int) -> tuple[int, int]:
    """Return the number encoded at a place, and the place after it."""
    number = shift = 0
    while data[place] > 127:
        number |= (data[place] & 127) << shift
        shift += 7
        place += 1
    return number | data[place] << shift, place + 1
