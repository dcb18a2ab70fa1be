"""What one transaction writes, as rows made ready on the event loop's thread, and the writing of it.

Every step of SQLite gives up Python's global lock, and beside a busy event loop it is up to 5 ms until a thread has it
back. So rows go in by the hundred: a statement of many rows is one step.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import apsw

from queuelet.stores.disk.checksums import of_message
from queuelet.stores.disk.database import transaction
from queuelet.stores.disk.records import AnswerRow, DeliveryRow, QueueRow, RankRow, TallyRow, dropped_row

_ROWS = 1_000
"""The most rows of one statement: twelve columns of so many stay below SQLite's bound of 32,766 values."""

MessageRow = tuple[int, bytes | None, bytes]


def _places() -> array[int]:
    return array("q")


@dataclass(kw_only=True, slots=True)
class Batch:
    """What one transaction changes. Whoever made it lets go of it: the writer's thread has it alone."""

    dropped_queues: list[int] = field(default_factory=list)
    """Ordinals of queues that are no more."""
    dropped_numbers: list[int] = field(default_factory=list)
    """Numbers under which everything is to be deleted when there is time."""
    queues: list[QueueRow] = field(default_factory=list)
    tallies: list[TallyRow] = field(default_factory=list)
    removed: array[int] = field(default_factory=_places)
    """Places of messages to delete."""
    messages: list[MessageRow] = field(default_factory=list)
    damaged: list[tuple[int, int, str]] = field(default_factory=list)
    """Places of messages that are set aside, when that was found, and why."""
    deliveries: list[DeliveryRow] = field(default_factory=list)
    deliveries_gone: array[int] = field(default_factory=_places)
    ranks: list[RankRow] = field(default_factory=list)
    ranks_gone: array[int] = field(default_factory=_places)
    answers: list[AnswerRow] = field(default_factory=list)
    answers_gone: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def changes(self) -> int:
        """How many messages it adds or deletes."""
        return len(self.messages) + len(self.removed)


def write(connection: apsw.Connection, batch: Batch) -> None:
    """Write a batch in one transaction, which is on the disk when this returns.

    Raises:
        apsw.FullError: there is no room. Nothing of it is written.
        apsw.Error: the disk failed. What became of it is not known.
    """
    with transaction(connection):
        _write_rows(connection, batch)


def _write_rows(connection: apsw.Connection, batch: Batch) -> None:
    """Write all rows: what goes before what comes, so that what replaces something finds its place free."""
    if batch.dropped_queues:
        gone = array("q", batch.dropped_queues)
        _delete(connection, "queues", "ordinal", gone)
        _delete(connection, "tallies", "ordinal", gone)
    _delete(connection, "messages", "place", batch.removed)
    _delete(connection, "deliveries", "place", batch.deliveries_gone)
    _delete(connection, "ranks", "place", batch.ranks_gone)
    for row in batch.answers_gone:
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
    _insert(connection, "REPLACE INTO answers (number, key, until, answer, checksum) VALUES", batch.answers)
    _insert(connection, "REPLACE INTO tallies VALUES", batch.tallies)


def _insert(connection: apsw.Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        marks = f"({','.join('?' * len(some[0]))})"
        connection.execute(f"{statement} {','.join([marks] * len(some))}", [value for row in some for value in row])


def _delete(connection: apsw.Connection, table: str, column: str, keys: array[int]) -> None:
    if keys:
        connection.execute(f"DELETE FROM {table} WHERE {column} IN carray(?)", (apsw.carray(keys),))  # noqa: S608
