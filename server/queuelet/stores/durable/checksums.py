"""Checksums of stored rows: CRC-32 over the whole row, including its place.

Because the place is included, a row that was swapped with another or is found under another key has the wrong checksum
too. Checksums are needed because disks flip bits, and SQLite detects that only in its own structures.
"""

from __future__ import annotations

from zlib import crc32

_PIECE = 5 * 1_024
"""The most bytes per call of `crc32`. For more, zlib releases the GIL, and it may take 5 ms to get it back."""


def of_message(place: int, own_id: bytes | None, body: bytes) -> int:
    """Return the checksum of a row of `messages`."""
    start = crc32(place.to_bytes(8, "little"))
    if own_id is not None:
        start = crc32(b"%d %b" % (len(own_id), own_id), start)
    if len(body) <= _PIECE:
        return crc32(body, start)
    view = memoryview(body)
    for begin in range(0, len(body), _PIECE):
        start = crc32(view[begin : begin + _PIECE], start)
    return start


def of_rank(place: int, priority: int, due: int, created: int, ttl: int) -> int:
    """Return the checksum of a row of `ranks`."""
    return crc32(b"%d %d %d %d %d" % (place, priority, due, created, ttl))


def of_delivery(
    numbers: tuple[int, int, int, int, int, int, int, int], consumer: bytes, superseded: bytes, history: bytes
) -> int:
    """Return the checksum of a row of `deliveries`."""
    return crc32(b"%b\0%b\0%b\0%b" % (b"%d %d %d %d %d %d %d %d" % numbers, consumer, superseded, history))


def of_row(*values: int | bytes) -> int:
    """Return the checksum of a row of a table that is rarely written. Text is passed as UTF-8."""
    parts = (b"%d" % value if isinstance(value, int) else b"%d:%b" % (len(value), value) for value in values)
    return crc32(b" ".join(parts))
