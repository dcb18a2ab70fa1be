"""Checks a whole store for damage. A server may use the store at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import apsw

from queuelet.errors import StoreFailed
from queuelet.stores.disk.data_dir import DATABASE
from queuelet.stores.disk.database import get_meta, inspecting, one_line, value
from queuelet.stores.disk.remedies import remedy_for
from queuelet.stores.disk.verified_rows import TABLES, read_messages, read_rows
from queuelet.stores.durable.damage import Checked, Damage
from queuelet.stores.durable.places import SEQ_BITS
from queuelet.stores.durable.rows import FAR

Progress = Callable[[str], None]
"""Called with a text for users that describes the present step."""

_MAX_ERRORS = 100
"""The most errors of SQLite's integrity check that are reported."""

_FIRST_WITH_CHECKSUMS = 2
"""The first file version with checksums and a table of damaged messages."""

_STEPS = 10_000
"""The number of SQLite steps or pages between two polls for cancellation."""


def _ignore_progress(_: str) -> None:
    pass


def check_store(folder: Path, progress: Progress = _ignore_progress) -> Checked:
    """Check the store in a folder, which may be read-only.

    Args:
        folder: the data folder.
        progress: called with a text for users before each step.

    Raises:
        StoreFailed: the store cannot be opened.
    """
    path = folder / DATABASE
    if not path.exists():
        raise StoreFailed(f"there is no store in {folder}: it has no file {DATABASE}")
    with inspecting(path) as connection:
        of_file: list[str] = []
        of_rows: list[str] = []
        try:
            of_file.extend(check_database(connection, progress))
            progress("comparing checksums")
            of_rows.extend(damaged_rows(connection))
        except apsw.CorruptError as error:
            of_file += [f"the file is damaged: {error}", *_unreadable_tables(connection)]
        problems = of_file + of_rows
        return Checked(problems, remedy_for(connection, is_file_damaged=bool(of_file)) if problems else "")


def _unreadable_tables(connection: apsw.Connection) -> Iterator[str]:
    """Yield a text for each table with a page that cannot be read."""
    for table in ("messages", "damaged", *TABLES):
        try:
            with closing(connection.execute(f"SELECT count(*) FROM {table} NOT INDEXED")) as rows:  # noqa: S608
                rows.fetchall()
        except apsw.CorruptError:
            yield f"the table {table} cannot be read"


def require_whole(connection: apsw.Connection, is_cancelled: Callable[[], bool]) -> None:
    """Check an open database.

    Args:
        connection: the connection, which this thread uses.
        is_cancelled: polled in this thread; the check is cancelled if it returns True.

    Raises:
        apsw.CorruptError: something is wrong with the database.
        apsw.Error: the database cannot be read, or the check was cancelled.
    """
    connection.set_progress_handler(is_cancelled, _STEPS)
    try:
        if wrong := next(check_database(connection), ""):
            raise apsw.CorruptError(wrong)
    finally:
        connection.set_progress_handler(None)


def check_database(connection: apsw.Connection, progress: Progress = _ignore_progress) -> Iterator[str]:
    """Yield the problems of an open database, read in one transaction. Raises apsw.Error."""
    with connection:
        progress("reading every page")
        errors = connection.execute(f"PRAGMA integrity_check({_MAX_ERRORS})").fetchall()
        if errors != [("ok",)]:
            yield from (f"the file is damaged: {one_line(row[0])}" for row in errors)
            return
        if not get_meta(connection, "epoch"):
            yield "the store has no epoch"
        progress("counting messages")
        yield from _wrong_counts(connection)
        progress("looking for rows without a message or queue")
        yield from _strays(connection)


def damaged_rows(connection: apsw.Connection) -> Iterator[str]:
    """Yield a text for each row whose checksum is wrong; nothing if the file's version has no checksums.

    Raises:
        apsw.Error: a table cannot be read.
    """
    if not _has_checksums(connection):
        return
    queues = {number: str(name) for number, name in connection.execute("SELECT number, queue_id FROM queues")}
    set_aside = {place for (place,) in connection.execute("SELECT place FROM damaged")}
    for place, body, _ in read_messages(connection, 0, FAR):
        if isinstance(body, Damage):
            yield (
                f"message {place & ((1 << SEQ_BITS) - 1)} of queue {queues.get(place >> SEQ_BITS, '(deleted)')} "
                f"is damaged{', and set aside' if place in set_aside else ''}: {body.reason}"
            )
    for table in TABLES:
        for key, row in read_rows(connection, table):
            if row is None:
                yield f"a row of {table} is damaged: its checksum is wrong (key {key!r})"


def _has_checksums(connection: apsw.Connection) -> bool:
    return int(str(connection.pragma("user_version"))) >= _FIRST_WITH_CHECKSUMS


def _wrong_counts(connection: apsw.Connection) -> Iterator[str]:
    # Damaged messages that were set aside are not counted, and their sizes may not be known.
    damaged = "(SELECT place FROM damaged)" if _has_checksums(connection) else "(SELECT -1 AS place)"
    rows = connection.execute(
        f"SELECT queue_id, coalesce(depth, 0), coalesce(bytes, 0), count(place), coalesce(sum(length(body)), 0), "  # noqa: S608
        f"EXISTS (SELECT 1 FROM {damaged} AS aside WHERE aside.place >> {SEQ_BITS} = number) "
        f"FROM queues LEFT JOIN tallies USING (ordinal) LEFT JOIN messages "
        f"ON messages.place >= number << {SEQ_BITS} AND messages.place < number + 1 << {SEQ_BITS} "
        f"AND messages.place NOT IN {damaged} GROUP BY ordinal"
    )
    for queue_id, depth, stored_bytes, count, size, has_damaged in rows:
        if depth != count or (stored_bytes != size and not has_damaged):
            yield (
                f"queue {queue_id} holds {count:,} messages of {size:,} bytes, "
                f"but its counts say {depth:,} of {stored_bytes:,}"
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
    damaged = "(SELECT place FROM damaged)" if _has_checksums(connection) else "(SELECT -1)"
    doubles = value(
        connection,
        f"SELECT count(*) FROM (SELECT 1 FROM messages WHERE own_id IS NOT NULL "  # noqa: S608
        f"AND place >> {SEQ_BITS} NOT IN (SELECT number FROM dropped) "
        f"AND place NOT IN {damaged} GROUP BY place >> {SEQ_BITS}, own_id HAVING count(*) > 1)",
    )
    if doubles:
        yield f"{doubles:,} IDs given by producers belong to several messages"
