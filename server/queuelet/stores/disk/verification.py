"""Compares stored rows with their checksums.

A damaged disk may give a column another type than the table says, so nothing is taken for text before it is verified.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import apsw

from queuelet.stores.disk import checksums
from queuelet.stores.disk.schema import SEQ_BITS

_WRONG = (TypeError, ValueError, OverflowError)
"""What making a checksum of values raises that no row was written with."""


_FIRST_VERSION = 2
"""The first version of a file that has checksums."""


class _Table(NamedTuple):
    """What a checksum covers."""

    columns: Sequence[str]
    """What to read, the row's key first: numbers as they are, all else as bytes."""
    checksum: Callable[..., int]


_TABLES = {
    "meta": _Table(
        (
            "CAST(name AS BLOB)",
            "CASE typeof(value) WHEN 'integer' THEN value ELSE CAST(value AS BLOB) END",
        ),
        checksums.of_row,
    ),
    "queues": _Table(
        (
            "ordinal",
            "number",
            "CAST(queue_id AS BLOB)",
            "created",
            "revision",
            "CAST(definition AS BLOB)",
            "CAST(id_prefix AS BLOB)",
        ),
        checksums.of_row,
    ),
    "tallies": _Table(("ordinal", "depth", "bytes", "CAST(counts AS BLOB)"), checksums.of_row),
    "dropped": _Table(("number",), checksums.of_row),
    "messages": _Table(("place", "CAST(own_id AS BLOB)", "CAST(body AS BLOB)"), checksums.of_message),
    "ranks": _Table(("place", "priority", "due", "created", "ttl"), checksums.of_rank),
    "deliveries": _Table(
        (
            "place",
            "state",
            "count",
            "token",
            "until",
            "since",
            "CAST(consumer AS BLOB)",
            "CAST(superseded AS BLOB)",
            "reason",
            "CAST(history AS BLOB)",
            "by_stream",
        ),
        lambda *row: checksums.of_delivery((*row[:6], row[8], row[10]), row[6], row[7], row[9]),
    ),
    "answers": _Table(("number", "CAST(key AS BLOB)", "until", "CAST(answer AS BLOB)"), checksums.of_row),
}


def damaged_rows(connection: apsw.Connection) -> Iterator[str]:
    """Yield a sentence for each row whose checksum is wrong; nothing for a file of a version that had none.

    Raises:
        apsw.Error: a table cannot be read.
    """
    if int(str(connection.pragma("user_version"))) < _FIRST_VERSION:
        return
    queues = {number: str(name) for number, name in connection.execute("SELECT number, queue_id FROM queues")}
    for table, (columns, checksum) in _TABLES.items():
        for key, *values, kept in connection.execute(f"SELECT {', '.join(columns)}, checksum FROM {table}"):  # noqa: S608
            try:
                is_sound = checksum(key, *values) == kept
            except _WRONG:
                is_sound = False
            if is_sound:
                continue
            if table == "messages":
                queue = queues.get(key >> SEQ_BITS, "that is gone")
                yield f"message {key & ((1 << SEQ_BITS) - 1)} of queue {queue} is damaged: its checksum is wrong"
            else:
                yield f"a row of {table} is damaged: its checksum is wrong (key {key!r})"
