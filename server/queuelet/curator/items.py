"""The content of a queue node in Curator: a version, the items, and an end marker.

All numbers are big-endian. SimpleDistributedQueue has no such frame: there the item is the content of the node.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

_VERSION = Struct(">i")
_LENGTH = Struct(">i")
_THE_VERSION = 0x00010001
_ITEM = 0x01
_END = 0x02


class DamagedNode(ValueError):
    """The content of a node is not in Curator's format."""


def decode(data: bytes) -> list[bytes]:
    """Return the items of a node, in the order in which Curator delivers them. There may be none.

    Curator ignores bytes after the end marker. Here they are an error, because a node is only removed once all of it
    was read.

    Raises:
        DamagedNode: The node has another version, is truncated, or is not in the format.
    """
    if len(data) < _VERSION.size:
        raise DamagedNode(f"{len(data)} bytes are too few for a version")
    (version,) = _VERSION.unpack_from(data)
    if version != _THE_VERSION:
        raise DamagedNode(f"its version is {version:#010x}, not {_THE_VERSION:#010x}")
    items: list[bytes] = []
    at = _VERSION.size
    while True:
        if at >= len(data):
            raise DamagedNode(f"it is truncated after {_items(items)}: no end marker follows")
        kind = data[at]
        at += 1
        if kind == _END:
            break
        if kind != _ITEM:
            raise DamagedNode(f"byte {kind:#04x} after {_items(items)} is neither an item nor the end marker")
        item = _item(data, at, items)
        items.append(item)
        at += _LENGTH.size + len(item)
    if at != len(data):
        raise DamagedNode(f"{len(data) - at} more bytes follow the end marker")
    return items


def _item(data: bytes, at: int, before: list[bytes]) -> bytes:
    """Return the item whose length is at this offset."""
    start = at + _LENGTH.size
    if start > len(data):
        raise DamagedNode(f"it is truncated after {_items(before)}, within a length")
    (length,) = _LENGTH.unpack_from(data, at)
    if length < 0:
        raise DamagedNode(f"an item after {_items(before)} has {length} bytes")
    if start + length > len(data):
        raise DamagedNode(f"it is truncated: only {len(data) - start} of {length} bytes of an item are there")
    return data[start : start + length]


def _items(items: list[bytes]) -> str:
    return f"{len(items)} item{'' if len(items) == 1 else 's'}"


def encode(items: Iterable[bytes]) -> bytes:
    """Return the content that Curator stores for these items in one node."""
    parts = [_VERSION.pack(_THE_VERSION)]
    for item in items:
        parts += (bytes([_ITEM]), _LENGTH.pack(len(item)), item)
    return b"".join([*parts, bytes([_END])])
