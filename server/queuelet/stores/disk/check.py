"""Looks through a whole store for what should not be so. A server may run on it meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import apsw

from queuelet.errors import StoreFailed
from queuelet.stores.disk.database import get_meta, inspecting, value
from queuelet.stores.disk.folder import DATABASE
from queuelet.stores.disk.schema import SEQ_BITS
from queuelet.stores.disk.verification import damaged_rows

Progress = Callable[[str], None]
"""Is told what is being done, as words for people."""

_MOST_ERRORS = 100
"""How many errors of SQLite are told at most."""

_STEPS = 10_000
"""After how many steps or pages of SQLite's it is looked whether to go on."""


def _quietly(_: str) -> None:
    pass


def check_store(folder: Path, progress: Progress = _quietly) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong with the store in a folder; nothing if all is well.

    It may be a folder that can only be read.

    Raises:
        StoreFailed: it cannot be opened at all.
    """
    path = folder / DATABASE
    if not path.exists():
        raise StoreFailed(f"there is no store in {folder}: it has no file {DATABASE}")
    with inspecting(path) as connection:
        try:
            yield from check_database(connection, progress)
            progress("comparing checksums")
            yield from damaged_rows(connection)
        except apsw.CorruptError as error:
            yield f"the file is damaged: {error}"


def require_whole(connection: apsw.Connection, is_cancelled: Callable[[], bool]) -> None:
    """Look through an open database, until that is cancelled.

    Args:
        connection: what it is open with, in this thread.
        is_cancelled: tells whether nobody needs the answer any more. It is asked in this thread, again and again.

    Raises:
        apsw.CorruptError: something is wrong with it.
        apsw.Error: it cannot be read, or it was cancelled.
    """
    connection.set_progress_handler(is_cancelled, _STEPS)
    try:
        if wrong := next(check_database(connection), ""):
            raise apsw.CorruptError(wrong)
    finally:
        connection.set_progress_handler(None)


def check_database(connection: apsw.Connection, progress: Progress = _quietly) -> Iterator[str]:
    """Yield what is wrong with an open database, as one transaction sees it. Raises apsw.Error."""
    with connection:
        progress("reading every page")
        errors = connection.execute(f"PRAGMA integrity_check({_MOST_ERRORS})").fetchall()
        if errors != [("ok",)]:
            yield from (f"the file is damaged: {row[0]}" for row in errors)
            return
        if not get_meta(connection, "epoch"):
            yield "the store has no epoch"
        progress("counting messages")
        yield from _wrong_counts(connection)
        progress("looking for what belongs to no message or queue")
        yield from _strays(connection)


def _wrong_counts(connection: apsw.Connection) -> Iterator[str]:
    rows = connection.execute(
        f"SELECT queue_id, coalesce(depth, 0), coalesce(bytes, 0), count(place), coalesce(sum(length(body)), 0) "  # noqa: S608
        f"FROM queues LEFT JOIN tallies USING (ordinal) LEFT JOIN messages "
        f"ON place >= number << {SEQ_BITS} AND place < number + 1 << {SEQ_BITS} GROUP BY ordinal"
    )
    for queue_id, depth, stored_bytes, count, size in rows:
        if (depth, stored_bytes) != (count, size):
            yield (
                f"queue {queue_id} holds {count:,} messages of {size:,} bytes, "
                f"and its counts say {depth:,} of {stored_bytes:,}"
            )


def _strays(connection: apsw.Connection) -> Iterator[str]:
    known = "(SELECT number FROM queues UNION SELECT number FROM dropped)"
    for table, number in (
        ("messages", f"place >> {SEQ_BITS}"),
        ("ranks", f"place >> {SEQ_BITS}"),
        ("deliveries", f"place >> {SEQ_BITS}"),
        ("answers", "number"),
    ):
        if count := value(connection, f"SELECT count(*) FROM {table} WHERE {number} NOT IN {known}"):  # noqa: S608
            yield f"{count:,} rows of {table} belong to no queue"
    for table in ("ranks", "deliveries"):
        if count := value(
            connection,
            f"SELECT count(*) FROM {table} WHERE place >> {SEQ_BITS} NOT IN (SELECT number FROM dropped) "  # noqa: S608
            f"AND NOT EXISTS (SELECT 1 FROM messages WHERE messages.place = {table}.place)",
        ):
            yield f"{count:,} rows of {table} belong to no message"
    doubles = value(
        connection,
        f"SELECT count(*) FROM (SELECT 1 FROM messages WHERE own_id IS NOT NULL "  # noqa: S608
        f"AND place >> {SEQ_BITS} NOT IN (SELECT number FROM dropped) "
        f"GROUP BY place >> {SEQ_BITS}, own_id HAVING count(*) > 1)",
    )
    if doubles:
        yield f"{doubles:,} ids that producers gave are those of several messages"
