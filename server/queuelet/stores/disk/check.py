"""Looks through a whole store for what should not be so. A server may run on it meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import apsw

from queuelet.errors import StoreFailed
from queuelet.stores.disk.data_dir import DATABASE
from queuelet.stores.disk.database import get_meta, inspecting, one_line, value
from queuelet.stores.disk.records import FAR
from queuelet.stores.disk.rows import TABLES, Damage, read_messages, read_rows
from queuelet.stores.disk.schema import SEQ_BITS

Progress = Callable[[str], None]
"""Is told what is being done, as words for people."""

_MOST_ERRORS = 100
"""How many errors of SQLite are told at most."""

_FIRST_WITH_CHECKSUMS = 2
"""The first version of a file that has checksums, and sets damaged messages aside."""

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
            yield from (f"the file is damaged: {one_line(row[0])}" for row in errors)
            return
        if not get_meta(connection, "epoch"):
            yield "the store has no epoch"
        progress("counting messages")
        yield from _wrong_counts(connection)
        progress("looking for what belongs to no message or queue")
        yield from _strays(connection)


def damaged_rows(connection: apsw.Connection) -> Iterator[str]:
    """Yield a sentence for each row whose checksum is wrong; nothing for a file of a version that had none.

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
                f"message {place & ((1 << SEQ_BITS) - 1)} of queue {queues.get(place >> SEQ_BITS, 'that is gone')} "
                f"is damaged{', and set aside' if place in set_aside else ''}: {body.reason}"
            )
    for table in TABLES:
        for key, row in read_rows(connection, table):
            if row is None:
                yield f"a row of {table} is damaged: its checksum is wrong (key {key!r})"


def _has_checksums(connection: apsw.Connection) -> bool:
    return int(str(connection.pragma("user_version"))) >= _FIRST_WITH_CHECKSUMS


def _wrong_counts(connection: apsw.Connection) -> Iterator[str]:
    # What was set aside does not count, and its size may not be known.
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
    damaged = "(SELECT place FROM damaged)" if _has_checksums(connection) else "(SELECT -1)"
    doubles = value(
        connection,
        f"SELECT count(*) FROM (SELECT 1 FROM messages WHERE own_id IS NOT NULL "  # noqa: S608
        f"AND place >> {SEQ_BITS} NOT IN (SELECT number FROM dropped) "
        f"AND place NOT IN {damaged} GROUP BY place >> {SEQ_BITS}, own_id HAVING count(*) > 1)",
    )
    if doubles:
        yield f"{doubles:,} ids that producers gave are those of several messages"
