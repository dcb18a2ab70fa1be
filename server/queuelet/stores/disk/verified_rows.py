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


_UNREAD = (apsw.CorruptError, apsw.TooBigError, UnicodeDecodeError)
"""The errors that reading a damaged row raises."""


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


_Row = tuple[int, Any, Any, Any]
"""The key of a row of `messages`, the ID that its producer gave, its checksum and its body."""

_WRONG_CHECKSUM = "its checksum is wrong"

_WRONG_KEY = "its row has the wrong key"

_KEY_BITS = 63

_MOST_SEARCHED = 64 * 1024
"""The largest body in bytes for which all keys with one flipped bit are tried, because each computes a checksum."""

_MOST_ROWS_OF_A_PAGE = 1_000
"""More rows than one of our pages can have, because a row takes at least 6 bytes."""


_LAST_KEY = (1 << 63) - 1

_AS_BYTES = "place, CAST(own_id AS BLOB), checksum, CAST(body AS BLOB)"


def _only(connection: apsw.Connection, statement: str, bindings: tuple[int, ...]) -> _Row | None:
    rows = cast("list[_Row]", connection.execute(statement, bindings).fetchall())
    return rows[0] if rows else None


class _Ascending:
    """The places from `first` to before `end` that `read_messages` has yet to read, the first one first."""

    def __init__(self, first: int, end: int) -> None:
        self.first = first
        self.end = end
        self.is_corrupt = False
        """Whether the last scan ended at a row that SQLite found to be corrupt."""
        self._is_bounded = True

    def __contains__(self, place: int) -> bool:
        return self.first <= place < self.end

    def rows(self, connection: apsw.Connection) -> apsw.Cursor:
        """Return a cursor over their rows, and those after them if a damaged key ended a scan early."""
        return connection.execute(
            "SELECT place, own_id, checksum, body FROM messages WHERE place >= ? AND place < ? ORDER BY place",
            (self.first, self.end if self._is_bounded else _LAST_KEY),
        )

    def ends_early(self, connection: apsw.Connection) -> bool:
        """Return whether a scan ended before their last row, at a damaged key; if so, the next scan passes it."""
        if not self._is_bounded or self.first >= self.end:
            return False
        last = connection.execute(
            "SELECT max(place) FROM messages WHERE place >= ? AND place < ?", (self.first, self.end)
        ).fetchall()[0][0]
        self._is_bounded = last is None
        return not self._is_bounded

    def first_row(self, connection: apsw.Connection) -> _Row | None:
        """Return the next row with its values as bytes, None if there is none."""
        return _only(
            connection,
            f"SELECT {_AS_BYTES} FROM messages WHERE place >= ? AND place < ? ORDER BY place LIMIT 1",  # noqa: S608  # our own columns
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

    def ends_early(self, connection: apsw.Connection) -> bool:  # noqa: ARG002  # as in the other class
        """Return False, because these scans have no lower bound."""
        return False

    def first_row(self, connection: apsw.Connection) -> _Row | None:
        """Return the next row with its values as bytes, None if there is none."""
        return _only(
            connection,
            f"SELECT {_AS_BYTES} FROM messages WHERE place < ? ORDER BY place DESC LIMIT 1",  # noqa: S608  # our own columns
            (self.end,),
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
    order = _Order(place, end, -1 if descending else 1)
    backward = 0
    while backward <= _MOST_ROWS_OF_A_PAGE:
        is_all = yield from _read_in_one(connection, unread, order)
        if is_all and not unread.ends_early(connection):
            break
        if is_all:
            continue
        # The next row cannot be read in one statement with others.
        following = unread.next_place(connection)
        if following is None:
            order.note_unplaced()
            break
        body, own_id = _first_of(connection, unread)
        if isinstance(body, Damage):
            if unread.may_have_damage_at(following):
                order.note(following, body)
        elif following in unread and order.is_beyond(following):
            if unread.is_corrupt:  # the row that cannot be read is not this one, so it was before this one
                order.note_unplaced()
            yield from order.places_before(following)
            yield following, body, own_id
        backward += following not in unread  # damage gave it the key of a passed row; those beyond it may be undamaged
        unread.skip(following)
    yield from order.places_before(None)


class _Order:
    """Finds the rows that one call of `read_messages` reads under a wrong key.

    A damaged key may equal the key of an undamaged row. A damaged row is therefore reported at its own place if its
    checksum shows which that is, or else at a place between the undamaged rows before and after it.
    """

    def __init__(self, first: int, end: int, step: int) -> None:
        self._first = first
        self._end = end
        self.step = step
        self.last: int | None = None
        """The place of the last undamaged message, None if there was none yet."""
        self._noted: dict[int, Damage] = {}
        """The damaged rows since then, by their keys."""
        self._unplaced = 0
        """The number of damaged rows since then whose keys cannot be read either."""
        self._reported: set[int] = set()

    def is_beyond(self, key: int) -> bool:
        """Return whether a key is beyond the last undamaged message."""
        return self.last is None or (key - self.last) * self.step > 0

    @property
    def has_noted(self) -> bool:
        """Whether there is damage whose place is not known yet."""
        return bool(self._noted or self._unplaced)

    def note(self, key: int, damage: Damage) -> None:
        """Note a damaged row whose place is not known until the next undamaged one is read."""
        self._noted.setdefault(key, damage)

    def note_unplaced(self) -> None:
        """Note a damaged row whose key cannot be read."""
        self._unplaced += 1

    def report(self, place: int, damage: Damage) -> Iterator[tuple[int, Damage, None]]:
        """Yield a damage, unless one was reported for its place before."""
        if self._first <= place < self._end and place not in self._reported:
            self._reported.add(place)
            yield place, damage, None

    def places_before(self, place: int | None) -> Iterator[tuple[int, Damage, None]]:
        """Yield the noted damage. The next undamaged message has the given place, None if there is none."""
        noted, last = self._noted, self.last
        self.last = last if place is None else place
        misplaced = [0] * self._unplaced
        self._noted, self._unplaced = {}, 0
        low, high = (last, place) if self.step > 0 else (place, last)
        low = self._first - 1 if low is None else low
        high = self._end if high is None else high
        for key, damage in noted.items():
            if low < key < high:
                yield from self.report(key, damage)
            elif place is not None or self._first <= key < self._end:  # or it is a row of another queue
                misplaced.append(damage.size)
        # Beside a message that was read, so that another scan reports the same place.
        is_after_low = (last is not None) == (self.step > 0)
        places = iter(range(low + 1, high) if is_after_low else range(high - 1, low, -1))
        for size in misplaced:
            at = next((each for each in places if each not in self._reported), None)
            if at is None:
                return  # no message is missing here
            yield from self.report(at, Damage(_WRONG_KEY, size))


def _own_place(row: _Row) -> int | None:
    """Return the place for which the checksum of a row is right, if one flipped bit changed that into its key."""
    key, own_id, checksum, body = row
    if isinstance(body, bytes) and len(body) <= _MOST_SEARCHED:
        for bit in range(_KEY_BITS):
            place = key ^ 1 << bit
            if place >= 0 and _is_sound(place, own_id, checksum, body):
                return place
    return None


def _read_in_one(  # noqa: C901  # the cases of a row
    connection: apsw.Connection, unread: _Ascending, order: _Order
) -> Generator[tuple[int, bytes | Damage, bytes | None], None, bool]:
    """Yield the messages that one statement can read, and note those that are damaged. Return whether it read all.

    An undamaged message is yielded after the next row was read, because that may show that it is out of order.
    """
    try:
        cursor = unread.rows(connection)  # reads the first row
    except _UNREAD as error:
        unread.is_corrupt = isinstance(error, apsw.CorruptError)
        return False
    held: tuple[int, bytes, bytes | None] | None = None
    is_all = True
    step = order.step
    try:
        for row in cast("Iterator[_Row]", cursor):
            at, own_id, _, body = row
            sound = (at, body, own_id) if _is_sound(*row) else _sound(_as_bytes(row))
            if held and (sound is None or (at - held[0]) * step > 0):
                if order.has_noted:
                    yield from order.places_before(held[0])
                order.last = held[0]
                unread.skip(held[0])
                yield held
                held = None
            if sound is None:
                yield from _damage_of(row, unread, order)
            elif unread.is_passed_by(at):
                break
            elif at not in unread or (held and at == held[0]):  # the tree refers to a row or a page twice
                order.note(at, Damage(_WRONG_KEY, len(sound[1])))
            else:
                if held:  # this one is between the message before it and the held one, which is elsewhere too
                    order.note(held[0], Damage(_WRONG_KEY, len(held[1])))
                held = sound
    except _UNREAD as error:
        unread.is_corrupt = isinstance(error, apsw.CorruptError)
        is_all = False
    finally:
        cursor.close(True)  # noqa: FBT003  # apsw's `force`: ignore errors; the log cannot be truncated while it is open
    if held:
        yield from order.places_before(held[0])
        unread.skip(held[0])
        yield held
    return is_all


def _damage_of(row: _Row, unread: _Ascending, order: _Order) -> Iterator[tuple[int, Damage, None]]:
    """Yield the damage of a row if its place is known, or else note it."""
    row = _as_bytes(row)
    key, _, _, body = row
    damage = Damage(_WRONG_CHECKSUM, len(body) if isinstance(body, bytes) else 0)
    own_place = _own_place(row)
    if own_place is not None:
        yield from order.report(own_place, damage._replace(reason=_WRONG_KEY))
    elif unread.may_have_damage_at(key):
        order.note(key, damage)


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


def _read_one(connection: apsw.Connection, place: int) -> _Found | None:  # noqa: C901  # the cases of a row
    try:
        row = _only(connection, "SELECT place, own_id, checksum, body FROM messages WHERE place = ?", (place,))
        if row is None:
            return None
        row = _as_bytes(row)
    except _UNREAD as error:
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
            rows = cast("list[_Row]", cursor.fetchall())
        except _UNREAD as error:
            if condition == "place = ?":
                damage = Damage(_unreadable(error), 0)
            continue
        for at, own_id, checksum, body in rows:
            if at == place and _is_sound(at, own_id, checksum, body):
                return body, own_id
    return damage, None


def _unreadable(error: Exception) -> str:
    return "its row cannot be read" + ("" if isinstance(error, UnicodeDecodeError) else f": {error}")


def _first_of(connection: apsw.Connection, unread: _Ascending) -> _Found:
    """Return the next message, or its damage."""
    try:
        row = unread.first_row(connection)
    except _UNREAD as error:
        return Damage(_unreadable(error), 0), None
    if row is None:
        return Damage("its row cannot be read", 0), None
    _, own_id, _, body = row
    if _is_sound(*row):
        return body, own_id
    return Damage(_WRONG_CHECKSUM, len(body) if isinstance(body, bytes) else 0), None


def _as_bytes(row: _Row) -> _Row:
    """Return a row with text as bytes, because damage may have changed only the types of columns."""
    place, own_id, checksum, body = row
    return (
        place,
        own_id.encode() if isinstance(own_id, str) else own_id,
        checksum,
        body.encode() if isinstance(body, str) else body,
    )


def _sound(row: _Row) -> tuple[int, bytes, bytes | None] | None:
    """Return the place, the body and the ID of an undamaged row, None if it is damaged."""
    place, own_id, _, body = row
    return (place, body, own_id) if _is_sound(*row) else None


def _is_sound(place: int, own_id: object, checksum: object, body: object) -> bool:
    if not isinstance(body, bytes) or not (own_id is None or isinstance(own_id, bytes)):
        return False
    return of_message(place, own_id, body) == checksum
