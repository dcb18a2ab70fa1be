"""Reads rows and verifies each against its checksum.

Damage may give a column another type than the table declares, so text is read as bytes and decoded once it is verified.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple, cast

import apsw

from queuelet.stores.durable import checksums
from queuelet.stores.durable.checksums import of_message
from queuelet.stores.durable.damage import Damage

_WRONG = (TypeError, ValueError, OverflowError)
"""The errors that computing a checksum raises for values that this program does not write."""


UNREADABLE = (apsw.CorruptError, apsw.TooBigError, UnicodeDecodeError)
"""The errors that reading a damaged row raises."""


Message = tuple[int, bytes | Damage, bytes | None]
"""The place of a message, its body or its damage, and the ID that its producer gave."""


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


Row = tuple[int, Any, Any, Any]
"""The key of a row of `messages`, the ID that its producer gave, its checksum and its body."""

_WRONG_CHECKSUM = "its checksum is wrong"

_WRONG_KEY = "its row has the wrong key"

_KEY_BITS = 63

_MAX_SEARCHED_BYTES = 64 * 1024
"""The largest body in bytes for which all keys with one flipped bit are tried, because each computes a checksum."""

_MAX_ROWS_OF_A_PAGE = 1_000
"""More rows than one of our pages can have, because a row takes at least 6 bytes."""


_MAX_KEY = (1 << 63) - 1

ROWS = "SELECT place, own_id, checksum, body FROM messages WHERE"

_MAX_KEYS = 10_000
"""How many keys to look at for an undamaged row. Pages that refer to each other in a circle have no last key."""

_AS_BYTES = "place, CAST(own_id AS BLOB), checksum, CAST(body AS BLOB)"


def only_row(connection: apsw.Connection, statement: str, bindings: tuple[int, ...]) -> Row | None:
    """Return the first row of a statement, None if there is none."""
    rows = cast("list[Row]", connection.execute(statement, bindings).fetchall())
    return rows[0] if rows else None


def undamaged_row_before(connection: apsw.Connection, first: int, end: int) -> int:
    """Return the place of an undamaged row that SQLite finds, and whose neighbour before it is undamaged too.

    It is at least `first`, before `end`, and before all undamaged rows between it and `end`. If there is none, return
    `first`, or the lowest place among the rows that were looked at.
    """
    lowest = least = end
    candidate = first
    statement = "SELECT place FROM messages WHERE place < ? ORDER BY place DESC LIMIT ?"
    with closing(connection.execute(statement, (end, _MAX_KEYS))) as rows:
        for count, (place,) in enumerate(cast("Iterator[tuple[int]]", rows), 1):
            if place >= lowest or not _is_sound_at(connection, place):
                candidate = first
            elif candidate != first or place < first:
                return candidate
            else:
                lowest = candidate = place
            least = min(least, place) if place >= first else least
            if count == _MAX_KEYS and least < end:
                return least
    return candidate


def _is_sound_at(connection: apsw.Connection, place: int) -> bool:
    try:
        row = only_row(connection, f"{ROWS} place = ?", (place,))
        return row is not None and sound_message(row) is not None
    except UNREADABLE:
        return False


class _Unread:
    """The places from `first` to before `end` that `read_messages` has yet to read.

    A scan continues at a number of rows after `base`, because a search for a place may be misled by a damaged key.
    """

    def __init__(self, first: int, end: int) -> None:
        self.first = first
        self.end = end
        self.is_bounded = True
        """Whether a scan ends at the first row beyond them, whose key may be damaged."""
        self.passed = 0
        """The number of rows from `base` on that were read."""
        self._base = first
        """A place that SQLite finds."""
        self._last_index = 0
        """How many of these rows are before the last undamaged message."""

    def __contains__(self, place: int) -> bool:
        return self.first <= place < self.end

    def rows(self, connection: apsw.Connection) -> apsw.Cursor:
        """Return a cursor over their rows, and those after them if a scan ended early."""
        return connection.execute(
            f"{ROWS} place >= ? AND place < ? ORDER BY place LIMIT -1 OFFSET ?",
            (self._base, self.end if self.is_bounded else _MAX_KEY, self.passed),
        )

    def next_row(self, connection: apsw.Connection) -> tuple[int, Row | Damage] | None:
        """Return the key of the next row, and the row with its values as bytes or why it cannot be read.

        Raises:
            apsw.CorruptError: the page of the row cannot be read.
        """
        where = "FROM messages WHERE place >= ? ORDER BY place LIMIT 1 OFFSET ?"
        try:
            row = only_row(connection, f"SELECT {_AS_BYTES} {where}", (self._base, self.passed))
        except UNREADABLE as error:
            keys = connection.execute(f"SELECT place {where}", (self._base, self.passed)).fetchall()
            return next(((key, Damage(_unreadable(error), 0)) for (key,) in cast("list[tuple[int]]", keys)), None)
        return row and (row[0], row)

    def skip(self, place: int, index: int) -> None:
        """Continue after an undamaged message, which is that many rows after the base."""
        self.first = place + 1
        self._last_index = index

    def rebase(self, connection: apsw.Connection, last: int | None) -> None:
        """Start the next scan at the last undamaged message if SQLite finds that, so that few rows are passed again."""
        if last is not None and last > self._base and _is_sound_at(connection, last):
            self._base = last
            self.passed -= self._last_index
            self._last_index = 0

    def ends_early(self, connection: apsw.Connection) -> bool:
        """Return whether a scan may have ended before their last row, at a damaged key, which the next scan passes."""
        if not self.is_bounded or self.first >= self.end:
            return False
        following = self.next_row(connection)
        if following is not None:
            place, row = following
            self.is_bounded = place >= self.end and not isinstance(row, Damage) and _is_sound(*row)
        return not self.is_bounded


def read_messages(connection: apsw.Connection, place: int, end: int) -> Generator[Message, None, None]:
    """Yield the messages from `place` to before `end`, with the IDs that their producers gave.

    Undamaged messages are in order, and each message is yielded once. Damage may have given a row any key, so reading
    never continues from the key of a damaged row.

    Args:
        connection: the database.
        place: the first place.
        end: the place after the last one.

    Raises:
        apsw.Error: the table cannot be read.
    """
    if _is_found(connection, place):
        yield from _read(connection, place, end)
        return
    try:
        start = undamaged_row_before(connection, 0, place)
    except UNREADABLE:  # a page before the place
        start = place
    for message in _read(connection, start, end):
        if message[0] >= place:
            yield message


def _is_found(connection: apsw.Connection, place: int) -> bool:
    """Return whether SQLite finds the right position of a place, which is after an undamaged row or before all rows."""
    try:
        row = only_row(connection, f"{ROWS} place < ? ORDER BY place DESC LIMIT 1", (place,))
        message = row and sound_message(row)
    except UNREADABLE:
        return False
    return row is None or (message is not None and message[0] < place)


def _read(connection: apsw.Connection, place: int, end: int) -> Generator[Message, None, None]:
    """Yield the messages from a position on that SQLite finds."""
    unread = _Unread(place, end)
    order = _Order(place, end)
    while True:
        is_all = yield from _read_in_one(connection, unread, order)
        unread.rebase(connection, order.last)
        if is_all:
            if not unread.ends_early(connection):
                break
            continue
        # The next row cannot be read in one statement with others.
        following = unread.next_row(connection)
        if following is None:
            break
        at, row = following
        unread.is_bounded = False
        unread.passed += 1
        message = None if isinstance(row, Damage) else sound_message(row)
        if isinstance(row, Damage):
            order.note(at, row)
        elif message is None:
            yield from _damage_of(row, order)
        elif at in unread:
            yield from order.places_before(at)
            unread.skip(at, unread.passed - 1)
            yield message
        elif at >= end:
            break
        else:
            order.note(at, Damage(_WRONG_KEY, len(message[1])))
    yield from order.places_before(None)


class _Order:
    """Finds the rows that one call of `read_messages` reads under a wrong key.

    A damaged key may equal the key of an undamaged row. A damaged row is therefore reported at its own place if its
    checksum shows which that is, or else at a place between the undamaged rows before and after it.
    """

    def __init__(self, first: int, end: int) -> None:
        self._first = first
        self._end = end
        self.last: int | None = None
        """The place of the last undamaged message, None if there was none yet."""
        self._noted: dict[int, Damage] = {}
        """The damaged rows since then, by their keys."""
        self._repeated = 0
        """How often a key was noted again since then."""
        self._reported: set[int] = set()

    @property
    def has_noted(self) -> bool:
        """Whether there is damage whose place is not known yet."""
        return bool(self._noted)

    def note(self, key: int, damage: Damage) -> None:
        """Note a damaged row whose place is not known until the next undamaged one is read."""
        self._repeated += self._noted.setdefault(key, damage) is not damage

    @property
    def is_circle(self) -> bool:
        """Whether damage makes pages refer to earlier ones, so that a scan would not end."""
        return self._repeated > _MAX_ROWS_OF_A_PAGE

    def report(self, place: int, damage: Damage) -> Iterator[tuple[int, Damage, None]]:
        """Yield a damage, unless one was reported for its place before."""
        self._repeated += place in self._reported
        if self._first <= place < self._end and place not in self._reported:
            self._reported.add(place)
            yield place, damage, None

    def places_before(self, place: int | None) -> Iterator[tuple[int, Damage, None]]:
        """Yield the noted damage. The next undamaged message has the given place, None if there is none."""
        noted, last = self._noted, self.last
        self.last = last if place is None else place
        misplaced: list[int] = []
        self._noted, self._repeated = {}, 0
        low = self._first - 1 if last is None else last
        high = self._end if place is None else place
        for key, damage in noted.items():
            if low < key < high:
                yield from self.report(key, damage)
            elif place is not None or key < self._end:  # or it is a row of the next queue
                misplaced.append(damage.size)
        # Beside a message that was read, so that another scan reports the same place.
        places = iter(range(high - 1, low, -1) if last is None else range(low + 1, high))
        for size in misplaced:
            at = next((each for each in places if each not in self._reported), None)
            if at is None:
                return  # no message is missing here
            yield from self.report(at, Damage(_WRONG_KEY, size))


def _own_place(row: Row) -> int | None:
    """Return the place for which the checksum of a row is right, if one flipped bit changed that into its key."""
    key, own_id, checksum, body = row
    if isinstance(body, bytes) and len(body) <= _MAX_SEARCHED_BYTES:
        for bit in range(_KEY_BITS):
            place = key ^ 1 << bit
            if place >= 0 and _is_sound(place, own_id, checksum, body):
                return place
    return None


def _read_in_one(  # noqa: C901, PLR0912  # the cases of a row
    connection: apsw.Connection, unread: _Unread, order: _Order
) -> Generator[Message, None, bool]:
    """Yield the messages that one statement can read, and note those that are damaged. Return whether it read all.

    An undamaged message is yielded after the next row was read, because that may show that it is out of order.
    """
    try:
        cursor = unread.rows(connection)  # reads the first row
    except UNREADABLE:
        return False
    held: tuple[int, bytes, bytes | None] | None = None
    held_index = 0
    is_all = True
    try:
        for row in cast("Iterator[Row]", cursor):
            index = unread.passed
            unread.passed += 1
            if order.is_circle:
                break
            at = row[0]
            sound = sound_message(row)
            if held and (sound is None or at > held[0]):
                if order.has_noted:
                    yield from order.places_before(held[0])
                order.last = held[0]
                unread.skip(held[0], held_index)
                yield held
                held = None
            if sound is None:
                yield from _damage_of(row, order)
            elif at >= unread.end:
                break
            elif at not in unread or (held and at == held[0]):  # the tree refers to a row or a page twice
                order.note(at, Damage(_WRONG_KEY, len(sound[1])))
            else:
                if held:  # this one is between the message before it and the held one, which is elsewhere too
                    order.note(held[0], Damage(_WRONG_KEY, len(held[1])))
                held, held_index = sound, index
    except UNREADABLE:
        is_all = False
    finally:
        cursor.close(True)  # noqa: FBT003  # apsw's `force`: ignore errors; the log cannot be truncated while it is open
    if order.is_circle:
        raise apsw.CorruptError("pages of messages refer to each other in a circle")
    if held:
        yield from order.places_before(held[0])
        unread.skip(held[0], held_index)
        yield held
    return is_all


def _damage_of(row: Row, order: _Order) -> Iterator[tuple[int, Damage, None]]:
    """Yield the damage of a row if its place is known, or else note it."""
    row = _as_bytes(row)
    key, _, _, body = row
    damage = Damage(_WRONG_CHECKSUM, len(body) if isinstance(body, bytes) else 0)
    own_place = _own_place(row)
    if own_place is not None:
        yield from order.report(own_place, damage._replace(reason=_WRONG_KEY))
    else:
        order.note(key, damage)


def readable_messages(connection: apsw.Connection, place: int, end: int) -> Generator[Message, None, None]:
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
        except UNREADABLE:
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


def _read_one(connection: apsw.Connection, place: int) -> _Found | None:  # noqa: C901  # the cases of a row
    try:
        row = only_row(connection, "SELECT place, own_id, checksum, body FROM messages WHERE place = ?", (place,))
        if row is None:
            return None
        row = _as_bytes(row)
    except UNREADABLE as error:
        # This raises if the page of the row cannot be read, which is not damage of this message alone.
        if not connection.execute("SELECT 1 FROM messages WHERE place = ?", (place,)).fetchall():
            return None
        damage = Damage(_unreadable(error), 0)
    else:
        _, own_id, _, body = row
        if _is_sound(*row):
            return body, own_id
        damage = Damage(_WRONG_CHECKSUM, len(body) if isinstance(body, bytes) else 0)
    # A damaged key may equal that of an undamaged neighbour, or the columns may have the wrong types.
    for condition in ("place = ?", "place >= ? ORDER BY place LIMIT 2", "place <= ? ORDER BY place DESC LIMIT 2"):
        try:
            cursor = connection.execute(f"SELECT {_AS_BYTES} FROM messages WHERE {condition}", (place,))  # noqa: S608
            rows = cast("list[Row]", cursor.fetchall())
        except UNREADABLE as error:
            if condition == "place = ?":
                damage = Damage(_unreadable(error), 0)
            continue
        for at, own_id, checksum, body in rows:
            if at == place and _is_sound(at, own_id, checksum, body):
                return body, own_id
    return damage, None


def _unreadable(error: Exception) -> str:
    return "its row cannot be read" + ("" if isinstance(error, UnicodeDecodeError) else f": {error}")


def _as_bytes(row: Row) -> Row:
    """Return a row with text as bytes, because damage may have changed only the types of columns."""
    place, own_id, checksum, body = row
    return (
        place,
        own_id.encode() if isinstance(own_id, str) else own_id,
        checksum,
        body.encode() if isinstance(body, str) else body,
    )


def sound_message(row: Row) -> tuple[int, bytes, bytes | None] | None:
    """Return the place, the body and the ID of an undamaged row, None if it is damaged."""
    if not _is_sound(*row):
        row = _as_bytes(row)
        if not _is_sound(*row):
            return None
    place, own_id, _, body = row
    return place, body, own_id


def _is_sound(place: int, own_id: object, checksum: object, body: object) -> bool:
    if not isinstance(body, bytes) or not (own_id is None or isinstance(own_id, bytes)):
        return False
    return of_message(place, own_id, body) == checksum
