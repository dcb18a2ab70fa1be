"""Protobuf by hand, for requests that no generated class would encode."""

from __future__ import annotations


def varint(number: int) -> bytes:
    """Return a non-negative number as a varint."""
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


def text(number: int, value: bytes | str) -> bytes:
    """Return a length-delimited field: a text, bytes or a message."""
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def integer(number: int, value: int) -> bytes:
    """Return a varint field; a negative number has ten bytes."""
    return varint(number << 3) + varint(value % (1 << 64))


def fixed64(number: int, value: bytes = b"12345678") -> bytes:
    """Return a field of eight bytes."""
    return varint(number << 3 | 1) + value
