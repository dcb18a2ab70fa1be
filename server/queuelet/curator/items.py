"""What Curator stores in a node of a queue: a version, the items one by one, and an end.

All numbers are big-endian. Only SimpleDistributedQueue has no such frame: there the node's bytes are the item.
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
    """The bytes of a node are not what Curator writes."""


def decode(data: bytes) -> list[bytes]:
    """Return the items of a node, in the order in which Curator delivers them; there may be none.

    Curator would not look at bytes after the end. Here they are damage: a node that is removed must have been read.

    Raises:
        DamagedNode: it is of another version, cut off, or holds what no item begins with.
    """
    if len(data) < _VERSION.size:
        raise DamagedNode(f"it has {len(data)} bytes, too few for a version")
    (version,) = _VERSION.unpack_from(data)
    if version != _THE_VERSION:
        raise DamagedNode(f"it is of version {version:#010x}, not {_THE_VERSION:#010x}")
    items: list[bytes] = []
    at = _VERSION.size
    while True:
        if at >= len(data):
            raise DamagedNode(f"it is cut off after {_items(items)}: no end follows")
        kind = data[at]
        at += 1
        if kind == _END:
            break
        if kind != _ITEM:
            raise DamagedNode(f"after {_items(items)} stands {kind:#04x}, which is neither an item nor the end")
        item = _item(data, at, items)
        items.append(item)
        at += _LENGTH.size + len(item)
    if at != len(data):
        raise DamagedNode(f"{len(data) - at} more bytes follow its end")
    return items


def _item(data: bytes, at: int, before: list[bytes]) -> bytes:
    """Return the item whose length stands there."""
    start = at + _LENGTH.size
    if start > len(data):
        raise DamagedNode(f"it is cut off after {_items(before)}, within a length")
    (length,) = _LENGTH.unpack_from(data, at)
    if length < 0:
        raise DamagedNode(f"after {_items(before)} stands an item of {length} bytes")
    if start + length > len(data):
        raise DamagedNode(f"it is cut off: of {length} bytes of an item, {len(data) - start} are there")
    return data[start : start + length]


def _items(items: list[bytes]) -> str:
    return f"{len(items)} item{'' if len(items) == 1 else 's'}"


def encode(items: Iterable[bytes]) -> bytes:
    """Return items as Curator stores them in one node."""
    parts = [_VERSION.pack(_THE_VERSION)]
    for item in items:
        parts += (bytes([_ITEM]), _LENGTH.pack(len(item)), item)
    return b"".join([*parts, bytes([_END])])
