"""Checks all tables for damage, as `queuelet check` does. A server may use the database at the same time.

Everything is read in one snapshot, so that the counts and the messages are of the same moment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from queuelet.errors import StoreFailed
from queuelet.stores.durable import checksums
from queuelet.stores.durable.damage import Checked
from queuelet.stores.durable.places import SEQ_BITS
from queuelet.stores.durable.rows import FAR
from queuelet.stores.postgres.address import Address, AddressFile
from queuelet.stores.postgres.driver import CORRUPTED, DatabaseError, Row, Transaction
from queuelet.stores.postgres.migrations import version_of
from queuelet.stores.postgres.primary import connect_to_primary
from queuelet.stores.postgres.schema import VERSION

_CONNECT_SECONDS = 10.0

_CLOSE_SECONDS = 2.0

_STATEMENT_SECONDS = 3_600.0
"""How long a statement may take: some go through a whole table."""

_ROWS, _BYTES = 1_000, 8 * 1024 * 1024
"""How many rows are read at once, and about how many bytes of messages."""

SET_ASIDE = (
    "the server sets damaged messages aside and delivers the others; run pg_amcheck, and find out what damages the "
    "database, such as its disk"
)
"""What to do if nothing but messages, with their ranks and deliveries, and saved responses is damaged."""

RESTORE = "stop the server, then restore a backup of the database"
"""What to do if something is damaged that the store needs for all its messages."""


class _Table(NamedTuple):
    """How to read a table other than `messages`, whose rows have a checksum in the last column."""

    key: str
    """The columns of the primary key."""
    columns: str
    is_sound: Callable[[Row], bool]
    is_needed: bool
    """Whether the store cannot be opened if a row is damaged."""


def _is_sound(row: Row) -> bool:
    values = [value.encode() if isinstance(value, str) else value for value in row[:-1]]
    return bool(checksums.of_row(*values) == row[-1])


def _is_sound_rank(row: Row) -> bool:
    return bool(checksums.of_rank(*row[:-1]) == row[-1])


def _is_sound_delivery(row: Row) -> bool:
    numbers = (*row[:6], row[8], row[10])
    return bool(checksums.of_delivery(numbers, row[6], row[7].encode(), row[9]) == row[-1])


_TABLES = {
    "queues": _Table(
        "ordinal", "ordinal, number, queue_id, created, revision, definition, id_prefix", _is_sound, is_needed=True
    ),
    "tallies": _Table("ordinal", "ordinal, depth, bytes, counts", _is_sound, is_needed=True),
    "dropped": _Table("number", "number", _is_sound, is_needed=True),
    "ranks": _Table("place", "place, priority, due, created, ttl", _is_sound_rank, is_needed=False),
    "deliveries": _Table(
        "place",
        "place, state, count, token, until, since, consumer, superseded, reason, history, by_stream",
        _is_sound_delivery,
        is_needed=False,
    ),
    "answers": _Table("number, key", "number, key, until, answer", _is_sound, is_needed=False),
}

_MESSAGES = """
    SELECT place, own_id, checksum, body FROM messages WHERE place = ANY (ARRAY(
        SELECT place FROM (
            SELECT place, sum(octet_length(body)) OVER (ORDER BY place) - octet_length(body) AS before
            FROM messages WHERE place >= $1 ORDER BY place LIMIT $2
        ) AS few WHERE before < $3
    )) ORDER BY place
"""
"""Messages from a place on, up to a number of bytes."""

_COUNTS = f"""
    SELECT queue_id, coalesce(depth, 0), coalesce(bytes, 0), count(messages.place),
        coalesce(sum(octet_length(body)), 0)::bigint,
        EXISTS (SELECT FROM damaged WHERE damaged.place >> {SEQ_BITS} = number)
    FROM queues LEFT JOIN tallies USING (ordinal) LEFT JOIN messages
        ON messages.place >= number << {SEQ_BITS} AND messages.place < (number + 1) << {SEQ_BITS}
        AND NOT EXISTS (SELECT FROM damaged WHERE damaged.place = messages.place)
    GROUP BY ordinal, number, queue_id, depth, bytes ORDER BY ordinal
"""  # noqa: S608  # only our own numbers

_KNOWN = "(SELECT number FROM queues UNION SELECT number FROM dropped)"

_NUMBER = f"place >> {SEQ_BITS}"

_STRAYS = {
    **{
        f"rows of {table} belong to no queue": f"SELECT count(*) FROM {table} WHERE {number} NOT IN {_KNOWN}"  # noqa: S608  # our own names
        for table, number in (
            ("messages", _NUMBER),
            ("ranks", _NUMBER),
            ("deliveries", _NUMBER),
            ("answers", "number"),
        )
    },
    **{
        f"rows of {table} belong to no message": f"SELECT count(*) FROM {table} "  # noqa: S608  # our own names
        f"WHERE {_NUMBER} NOT IN (SELECT number FROM dropped) "
        f"AND NOT EXISTS (SELECT FROM messages WHERE messages.place = {table}.place)"
        for table in ("ranks", "deliveries")
    },
    "IDs given by producers belong to several messages": f"SELECT count(*) FROM ("  # noqa: S608  # our own numbers
    f"SELECT FROM messages WHERE own_id IS NOT NULL AND {_NUMBER} NOT IN (SELECT number FROM dropped) "
    f"AND place NOT IN (SELECT place FROM damaged) GROUP BY {_NUMBER}, own_id HAVING count(*) > 1) AS doubles",
}
"""Statements that count what should not be there, by the text for a problem."""


class _Problems:
    """What was found."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.remedy = ""

    def add(self, text: str, *, is_needed: bool = True) -> None:
        """Add a problem, and say whether the store cannot be used because of it."""
        self.texts.append(text)
        if is_needed or not self.remedy:
            self.remedy = RESTORE if is_needed else SET_ASIDE


async def check_tables(address: Address | AddressFile, schema: str, progress: Callable[[str], None]) -> Checked:
    """Check the tables in a schema of a database.

    Args:
        address: where the database is.
        schema: the schema.
        progress: called with a text for users before each step.

    Raises:
        StoreFailed: the database cannot be used, or the schema has no tables of this version.
    """
    where = address.read() if isinstance(address, AddressFile) else address
    try:
        connection = await connect_to_primary(where, schema=schema, seconds=_CONNECT_SECONDS)
        try:
            version = await version_of(connection)
            if not version:
                raise StoreFailed(f"there are no queues in schema {schema} of {where.shown}")
            if version < VERSION:
                raise StoreFailed(f"the tables have version {version}; start the server once, which migrates them")
            async with connection.snapshot(seconds=_STATEMENT_SECONDS) as snapshot:
                problems = _Problems()
                for step in (_check_owner, _check_counts, _check_strays, _check_rows, _check_messages):
                    await step(snapshot, problems, progress)
                return Checked(problems.texts, problems.remedy)
        finally:
            await connection.close(_CLOSE_SECONDS)
    except DatabaseError as error:
        raise StoreFailed(str(error)) from error


Progress = Callable[[str], None]


async def _check_owner(snapshot: Transaction, problems: _Problems, _: Progress) -> None:
    rows = await _read(snapshot, problems, "owners", "SELECT store_epoch FROM owners")
    if rows is not None and (not rows or not all(epoch for (epoch,) in rows)):
        problems.add("the store has no epoch")


async def _check_counts(snapshot: Transaction, problems: _Problems, progress: Progress) -> None:
    progress("counting messages")
    for queue_id, depth, stored_bytes, count, size, has_damaged in (
        await _read(snapshot, problems, "messages", _COUNTS) or ()
    ):
        # The sizes of damaged messages that were set aside may not be known.
        if depth != count or (stored_bytes != size and not has_damaged):
            problems.add(
                f"queue {queue_id} holds {count:,} messages of {size:,} bytes, "
                f"but its counts say {depth:,} of {stored_bytes:,}"
            )


async def _check_strays(snapshot: Transaction, problems: _Problems, progress: Progress) -> None:
    progress("looking for rows without a message or queue")
    for text, statement in _STRAYS.items():
        rows = await _read(snapshot, problems, "messages", statement)
        if rows and rows[0][0]:
            problems.add(f"{rows[0][0]:,} {text}")


async def _check_rows(snapshot: Transaction, problems: _Problems, progress: Progress) -> None:
    progress("comparing checksums")
    for name, table in _TABLES.items():
        statement = f"SELECT {table.columns}, checksum FROM {name} ORDER BY {table.key}"  # noqa: S608  # our own names
        try:
            async with snapshot.attempt():
                async for row in snapshot.rows(statement, _ROWS):
                    if not table.is_sound(row):
                        text = f"a row of {name} is damaged: its checksum is wrong (key {row[0]!r})"
                        problems.add(text, is_needed=table.is_needed)
        except DatabaseError as error:
            _note_unreadable(problems, name, error)


async def _check_messages(snapshot: Transaction, problems: _Problems, _: Progress) -> None:
    queues = await _read(snapshot, problems, "queues", "SELECT number, queue_id FROM queues")
    names = {row[0]: row[1] for row in queues or ()}
    set_aside = {row[0] for row in await _read(snapshot, problems, "damaged", "SELECT place FROM damaged") or ()}
    try:
        async with snapshot.attempt():
            async for place, own_id, checksum, body in _messages(snapshot):
                if checksums.of_message(place, own_id, body) != checksum:
                    problems.add(
                        f"message {place & ((1 << SEQ_BITS) - 1)} of queue {names.get(place >> SEQ_BITS, '(deleted)')} "
                        f"is damaged{', and set aside' if place in set_aside else ''}: its checksum is wrong",
                        is_needed=False,
                    )
    except DatabaseError as error:
        _note_unreadable(problems, "messages", error)


async def _messages(snapshot: Transaction) -> AsyncIterator[Any]:
    """Yield all messages in order."""
    place = 0
    while place <= FAR and (rows := await snapshot.fetch(_MESSAGES, place, _ROWS, _BYTES)):
        for row in rows:
            yield row
        place = rows[-1][0] + 1


async def _read(
    snapshot: Transaction, problems: _Problems, table: str, statement: str, *arguments: object
) -> list[Row] | None:
    """Return the rows of a statement; None if the database cannot read them, which is noted as damage of a table."""
    try:
        async with snapshot.attempt():
            return await snapshot.fetch(statement, *arguments)
    except DatabaseError as error:
        _note_unreadable(problems, table, error)
        return None


def _note_unreadable(problems: _Problems, table: str, error: DatabaseError) -> None:
    """Note that a table cannot be read. Raises the error if it reports no damage."""
    if error.code not in CORRUPTED:
        raise error
    text = f"the table {table} cannot be read: {error}"
    if text not in problems.texts:
        problems.add(text)
