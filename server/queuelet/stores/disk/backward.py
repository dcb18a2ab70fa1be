"""Reads messages newest first, so that damage costs no other messages than it does when they are read oldest first.

SQLite searches for rows by their keys, so a damaged key may hide rows around it, and which ones depends on the
direction. Rows are therefore read backwards only while they are undamaged and no row is missing between them. Beyond
that, they are read forwards, from an undamaged row before the damage.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import cast

import apsw

from queuelet.stores.disk.verified_rows import (
    ROWS,
    UNREADABLE,
    Message,
    Row,
    only_row,
    read_messages,
    sound_message,
    undamaged_row_before,
)


def read_messages_backward(connection: apsw.Connection, place: int, end: int) -> Generator[Message, None, None]:
    """Yield the messages from `place` to before `end` as `read_messages` does, but the last one first.

    Raises:
        apsw.Error: the table cannot be read.
    """
    beyond = end
    while place < end:
        end = yield from _undamaged(connection, place, end)
        if place < end:
            start = undamaged_row_before(connection, place, end)
            # With the undamaged row at the end, because a damaged row before it may have a key of another queue.
            messages = list(read_messages(connection, start, min(end + 1, beyond)))
            yield from (message for message in reversed(messages) if message[0] < end)
            end = start


def _undamaged(connection: apsw.Connection, place: int, end: int) -> Generator[Message, None, int]:
    """Yield the last messages, up to the first sign of damage.

    Returns:
        The place before which messages are left, or `place` if there are none.
    """
    if not _is_found(connection, end):
        return end
    last: int | None = None
    try:
        with closing(connection.execute(f"{ROWS} place < ? ORDER BY place DESC", (end,))) as rows:
            for row in cast("Iterator[Row]", rows):
                message = sound_message(row)
                if message is None or message[0] >= end:
                    return end
                at = message[0]
                if at < place:
                    break
                if at < end - 1 and last is not None and _first_after(connection, at) != last:
                    return end
                end = last = at
                yield message
    except UNREADABLE:
        return end
    first = _first_after(connection, place - 1)
    is_all = first == last or (last is None and (first is None or first >= end))
    return place if is_all else end


def _is_found(connection: apsw.Connection, end: int) -> bool:
    """Return whether SQLite finds the right position of a place, which is before an undamaged row or after all rows."""
    try:
        row = only_row(connection, f"{ROWS} place >= ? ORDER BY place LIMIT 1", (end,))
        message = row and sound_message(row)
    except UNREADABLE:
        return False
    return row is None or (message is not None and message[0] >= end)


def _first_after(connection: apsw.Connection, place: int) -> int | None:
    found = connection.execute("SELECT min(place) FROM messages WHERE place > ?", (place,)).fetchall()
    return cast("int | None", found[0][0])
