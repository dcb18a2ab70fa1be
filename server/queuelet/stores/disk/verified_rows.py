"""Reads rows and verifies each against its checksum.

Damage may give a column another type than the table declares, so text is read as bytes and decoded once it is verified.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple, cast

import apsw

from queuelet.stores.disk import checksums
from queuelet.stores.disk.checksums import of_message

_WRONG = (TypeError, ValueError, OverflowError)
"""The errors that computing a checksum raises for values that this program does not write."""


_UNREAD = (apsw.CorruptError, apsw.TooBigError, UnicodeDecodeError)
"""The errors that reading a damaged row raises."""


class Damage(NamedTuple):
    """Returned instead of the body of a damaged message."""

    reason: str
    size: int
    """The size of its body in bytes, 0 if the body cannot be read."""


class _Table(NamedTuple):
    """How to read a table other than `messages`."""

    order: str
    """The columns to order by."""
    columns: Sequence[str]
    """The columns without the checksum; all that are not integers are read as bytes."""
    checksum: Callable[..., int]
    text: Sequence[int] = ()
    """The indexes of the text columns."""


TABLES: Mapping[str, _Table] = {
    "meta": _Table(
        "name",
        (
            "CAST(name AS BLOB)",
            "CASE typeof(value) WHEN 'integer' THEN value ELSE CAST(value AS BLOB) END",
        ),
        checksums.of_row,
        (0, 1),
    ),
    "queues": _Table(
        "ordinal",
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
        (2, 5),
    ),
    "tallies": _Table("ordinal", ("ordinal", "depth", "bytes", "CAST(counts AS BLOB)"), checksums.of_row, (3,)),
    "dropped": _Table("number", ("number",), checksums.of_row),
    "ranks": _Table("place", ("place", "priority", "due", "created", "ttl"), checksums.of_rank),
    "deliveries": _Table(
        "place",
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
        (6, 7),
    ),
    "answers": _Table(
        "until, kept", ("number", "CAST(key AS BLOB)", "until", "CAST(answer AS BLOB)"), checksums.of_row
    ),
}


def read_rows(connection: apsw.Connection, table: str) -> Iterator[tuple[Any, tuple[Any, ...] | None]]:
    """Yield the first column of each row of a table, and the row without its checksum, or None if it is damaged.

    Raises:
        apsw.Error: the table cannot be read.
    """
    order, columns, checksum, text = TABLES[table]
    is_text = [column in text for column in range(len(columns))]
    with closing(connection.execute(f"SELECT {', '.join(columns)}, checksum FROM {table} ORDER BY {order}")) as rows:  # noqa: S608
        for *values, sum_ in rows:
            try:
                is_sound = not any(isinstance(value, float) for value in values) and checksum(*values) == sum_
                row = [
                    value.decode() if is_text_ and isinstance(value, bytes) else value
                    for value, is_text_ in zip(values, is_text, strict=True)
                ]
            except _WRONG:
                is_sound = False
            yield values[0], tuple(row) if is_sound else None


def with_checksum(table: str, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a row with its checksum, as it is stored."""
    if table == "messages":
        place, own_id, body = row
        return place, own_id, of_message(place, own_id, body), body
    return *row, TABLES[table].checksum(*(value.encode() if isinstance(value, str) else value for value in row))


def read_message(connection: apsw.Connection, place: int) -> bytes | Damage | None:
    """Return the body of the message at a place, or its damage; None if there is no row.

    Raises:
        apsw.Error: the table cannot be read.
    """
    found = _read_one(connection, place)
    return None if found is None else found[0]


_MOST_ROWS_OF_A_PAGE = 1_000
"""More rows than one of our pages can have, because a row takes at least 6 bytes."""


class _Ascending:
    """The places from `first` to before `end` that `read_messages` has yet to read, the first one first."""

    def __init__(self, first: int, end: int) -> None:
        self.first = first
        self.end = end

    def __contains__(self, place: int) -> bool:
        return self.first <= place < self.end

    def rows(self, connection: apsw.Connection) -> apsw.Cursor:
        """Return a cursor over their rows."""
        return connection.execute(
            "SELECT place, own_id, checksum, body FROM messages WHERE place >= ? AND place < ? ORDER BY place",
            (self.first, self.end),
        )

    def next_place(self, connection: apsw.Connection) -> int | None:
        """Return the place of the next row, or None. Damage may make it one that is not in here."""
        found = connection.execute(
            "SELECT min(place) FROM messages WHERE place >= ? AND place < ?", (self.first, self.end)
        )
        return cast("int | None", found.fetchall()[0][0])

    def may_have_damage_at(self, place: int) -> bool:  # noqa: ARG002  # as in the other class
        """Return whether a damaged row at a place may be one of them."""
        return True

    def is_passed_by(self, place: int) -> bool:
        """Return whether an undamaged row at a place is beyond the last of them."""
        return place >= self.end

    def skip(self, place: int) -> None:
        """Continue beyond a row."""
        self.first = max(self.first, place) + 1


class _Descending(_Ascending):
    """The same places, the last one first.

    SQLite ends a scan at the first row beyond its bounds. Damage is more likely to lower a key than to raise it above
    the others of its queue, so a scan in this direction has no lower bound.
    """

    def rows(self, connection: apsw.Connection) -> apsw.Cursor:
        """Return a cursor over their rows, and those before them."""
        return connection.execute(
            "SELECT place, own_id, checksum, body FROM messages WHERE place < ? ORDER BY place DESC", (self.end,)
        )

    def next_place(self, connection: apsw.Connection) -> int | None:
        """Return the place of the next row, or None. It may be before them."""
        found = connection.execute("SELECT max(place) FROM messages WHERE place < ?", (self.end,))
        return cast("int | None", found.fetchall()[0][0])

    def may_have_damage_at(self, place: int) -> bool:
        """Return whether to report a damaged row at a place. One before these places may be another queue's."""
        return place in self

    def is_passed_by(self, place: int) -> bool:
        """Return whether an undamaged row at a place is before the first of them."""
        return place < self.first

    def skip(self, place: int) -> None:
        """Continue before a row. If its place is not in here, skip only one place."""
        self.end = place if place in self else self.end - 1


def read_messages(
    connection: apsw.Connection, place: int, end: int, *, descending: bool = False
) -> Generator[tuple[int, bytes | Damage, bytes | None], None, None]:
    """Yield the messages from `place` to before `end`, with the IDs that their producers gave.

    Undamaged messages are in order, and each message is yielded once. Damage may have given a row any key, so reading
    never continues from the key of a damaged row.

    Args:
        connection: the database.
        place: the first place.
        end: the place after the last one.
        descending: whether to yield the last message first.

    Raises:
        apsw.Error: the table cannot be read.
    """
    unread = _Descending(place, end) if descending else _Ascending(place, end)
    damaged: set[int] = set()
    backward = 0
    while backward <= _MOST_ROWS_OF_A_PAGE:
        is_all = yield from _read_in_one(connection, unread, damaged)
        # The next row cannot be read in one statement with others.
        following = None if is_all else unread.next_place(connection)
        if following is None:
            return
        if following not in damaged and unread.may_have_damage_at(following):
            damaged.add(following)
            yield following, *(_read_one(connection, following) or _UNREADABLE)
        backward += following not in unread  # damage gave it the key of a passed row; those beyond it may be undamaged
        unread.skip(following)


def _read_in_one(
    connection: apsw.Connection, unread: _Ascending, damaged: set[int]
) -> Generator[tuple[int, bytes | Damage, bytes | None], None, bool]:
    """Yield the messages that one statement can read, and note those that are damaged. Return whether it read all."""
    try:
        cursor = unread.rows(connection)  # reads the first row
    except _UNREAD:
        return False
    try:
        for at, own_id, checksum, body in cast("Iterator[tuple[int, Any, Any, Any]]", cursor):
            if not _is_sound(at, own_id, checksum, body):
                if at not in damaged and unread.may_have_damage_at(at):
                    damaged.add(at)
                    yield at, *(_looked_at(connection, at) or _UNREADABLE)
            elif unread.is_passed_by(at):
                break
            elif at in unread:  # rows are read twice if damage makes the tree refer to a page twice
                yield at, body, own_id
                unread.skip(at)
    except _UNREAD:
        return False
    finally:
        cursor.close(True)  # noqa: FBT003  # apsw's `force`: ignore errors; the log cannot be truncated while it is open
    return True


def readable_messages(
    connection: apsw.Connection, place: int, end: int
) -> Generator[tuple[int, bytes | Damage, bytes | None], None, None]:
    """Yield the messages from `place` to before `end` as `read_messages` does, but skip pages that cannot be read.

    After a damaged page, it may skip messages that are followed by another one, so the caller has to count.

    Raises:
        apsw.Error: the disk failed.
    """
    while place < end:
        try:
            for at, body, own_id in read_messages(connection, place, end):
                if isinstance(body, Damage):
                    yield at, body, own_id
                elif at >= place:
                    place = at + 1
                    yield at, body, own_id
        except _UNREAD:
            place = _after_damage(connection, place, end)
        else:
            return


def _after_damage(connection: apsw.Connection, place: int, end: int) -> int:
    """Return the first place after a damaged page, in steps that double until one is found, and then by bisection."""
    step = 1
    while place + step < end and not _can_seek(connection, place + step):
        step *= 2
    damaged, readable = place + step // 2, min(place + step, end)
    while readable - damaged > 1:
        middle = (damaged + readable) // 2
        if _can_seek(connection, middle):
            readable = middle
        else:
            damaged = middle
    return readable


def _can_seek(connection: apsw.Connection, place: int) -> bool:
    """Return whether the first message from a place on can be found."""
    try:
        connection.execute("SELECT min(place) FROM messages WHERE place >= ?", (place,)).fetchall()
    except apsw.CorruptError:
        return False
    return True


_Found = tuple[bytes | Damage, bytes | None]
"""The body of a message, or its damage, and the ID that its producer gave."""

_UNREADABLE: _Found = (Damage("its row cannot be read", 0), None)


def _read_one(connection: apsw.Connection, place: int) -> _Found | None:
    try:
        rows = connection.execute("SELECT own_id, checksum, body FROM messages WHERE place = ?", (place,)).fetchall()
    except _UNREAD:
        return _looked_at(connection, place)
    if not rows:
        return None
    own_id, checksum, body = cast("tuple[Any, Any, Any]", rows[0])
    return (body, own_id) if _is_sound(place, own_id, checksum, body) else _looked_at(connection, place)


def _is_sound(place: int, own_id: object, checksum: object, body: object) -> bool:
    if not isinstance(body, bytes) or not (own_id is None or isinstance(own_id, bytes)):
        return False
    return of_message(place, own_id, body) == checksum


def _looked_at(connection: apsw.Connection, place: int) -> _Found | None:
    """Return the damage of a message whose checksum is wrong, or the message if only the types of columns are wrong."""
    if not connection.execute("SELECT 1 FROM messages WHERE place = ?", (place,)).fetchall():
        return None
    try:
        own_id, checksum, body = cast(
            "tuple[Any, Any, Any]",
            connection.execute(
                "SELECT CAST(own_id AS BLOB), checksum, CAST(body AS BLOB) FROM messages WHERE place = ?", (place,)
            ).fetchall()[0],
        )
    except (apsw.CorruptError, apsw.TooBigError) as error:
        return Damage(f"its row cannot be read: {error}", 0), None
    except UnicodeDecodeError:
        return _UNREADABLE
    if _is_sound(place, own_id, checksum, body):
        return body, own_id
    return Damage("its checksum is wrong", len(body) if isinstance(body, bytes) else 0), None
