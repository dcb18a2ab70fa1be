"""The statements with which the writer thread writes a batch in one transaction.

Each SQLite step releases the GIL, and a busy event loop may hold it for up to 5 ms before the writer thread gets it
back. So a statement inserts hundreds of rows, because it is one step.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import apsw

from queuelet.stores.disk.database import transaction
from queuelet.stores.durable.batch import Batch
from queuelet.stores.durable.checksums import of_message
from queuelet.stores.durable.rows import dropped_row

_ROWS = 1_000
"""The most rows of one statement: with twelve columns it stays below SQLite's limit of 32,766 parameters."""


def write(connection: apsw.Connection, batch: Batch) -> None:
    """Commit a batch in one transaction, which is durable when this returns.

    Raises:
        apsw.FullError: the disk is full. Nothing was written.
        apsw.Error: the disk failed. The outcome is not known.
    """
    with transaction(connection):
        _write_rows(connection, batch)


def _write_rows(connection: apsw.Connection, batch: Batch) -> None:
    """Write all rows: deletions first, so that a row which replaces another does not conflict with it."""
    if batch.dropped_queues:
        gone = array("q", batch.dropped_queues)
        _delete(connection, "queues", "ordinal", gone)
        _delete(connection, "tallies", "ordinal", gone)
    _delete(connection, "messages", "place", batch.removed)
    _delete(connection, "deliveries", "place", batch.deliveries_gone)
    _delete(connection, "ranks", "place", batch.ranks_gone)
    for row in batch.responses_gone:
        connection.execute("DELETE FROM answers WHERE number = ? AND key = ?", row)
    _insert(connection, "INSERT INTO dropped VALUES", [dropped_row(number) for number in batch.dropped_numbers])
    for queue in batch.queues:
        connection.execute(
            "INSERT INTO queues VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (ordinal) DO UPDATE SET number = "
            "excluded.number, revision = excluded.revision, definition = excluded.definition, "
            "checksum = excluded.checksum",
            queue,
        )
    _insert(
        connection,
        "INSERT INTO messages VALUES",
        [(place, own_id, of_message(place, own_id, body), body) for place, own_id, body in batch.messages],
    )
    _insert(connection, "REPLACE INTO damaged VALUES", batch.damaged)
    _insert(connection, "REPLACE INTO deliveries VALUES", batch.deliveries)
    _insert(connection, "REPLACE INTO ranks VALUES", batch.ranks)
    _insert(connection, "REPLACE INTO answers (number, key, until, answer, checksum) VALUES", batch.responses)
    _insert(connection, "REPLACE INTO tallies VALUES", batch.tallies)


def _insert(connection: apsw.Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        marks = f"({','.join('?' * len(some[0]))})"
        connection.execute(f"{statement} {','.join([marks] * len(some))}", [value for row in some for value in row])


def _delete(connection: apsw.Connection, table: str, column: str, keys: array[int]) -> None:
    if keys:
        connection.execute(f"DELETE FROM {table} WHERE {column} IN carray(?)", (apsw.carray(keys),))  # noqa: S608
