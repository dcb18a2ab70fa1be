"""Protobuf by hand, for requests that no generated class would write."""

from __future__ import annotations


def varint(number: int) -> bytes:
    """Return a number, 0 or more."""
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


def text(number: int, value: bytes | str) -> bytes:
    """Return a field with a length: a text, bytes or a message."""
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def integer(number: int, value: int) -> bytes:
    """Return a varint field; a negative number takes ten bytes."""
    return varint(number << 3) + varint(value % (1 << 64))


def fixed64(number: int, value: bytes = b"12345678") -> bytes:
    """Return a field of eight bytes."""
    return varint(number << 3 | 1) + value
