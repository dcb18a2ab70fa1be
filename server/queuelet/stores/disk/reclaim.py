"""Reclaims disk space in short slices instead of all at once, so that no transaction waits long."""

from __future__ import annotations

from time import perf_counter
from typing import cast

import apsw

from queuelet.stores.disk.database import transaction, value
from queuelet.stores.disk.schema import PAGE_BYTES
from queuelet.stores.durable.places import end_place, first_place

_SLICE_ROWS = 1_000
"""The most messages that one slice deletes."""

_SLICE_BYTES = 1024 * 1024
"""About how many bytes of messages one slice deletes at most."""

_SLICE_SECONDS = 0.02
"""How long one slice returns free pages."""

_MUCH_FREE = 4 * 1024 * 1024
"""Free pages of more bytes than this are returned, if they are also a large share of the file."""

_LITTLE_FREE = 256 * 1024
"""On a full disk, free pages of more bytes than this are returned under load, and all of them in a quiet time."""


def free_pages(connection: apsw.Connection) -> int:
    """Return the number of free pages in the file."""
    return cast("int", connection.pragma("freelist_count"))


def delete_some(connection: apsw.Connection, number: int) -> bool:
    """Delete some rows of a dropped queue number; return whether all are deleted that can be.

    Rows of damaged messages that were set aside stay, and so does the number, because a damaged row may refer to pages
    of other rows. A row that cannot be found by its key because its page is damaged stays too.

    Raises:
        apsw.Error: the disk failed, or is full.
    """
    start, end = first_place(number), end_place(number)
    with transaction(connection):
        last = value(
            connection,
            "SELECT max(place) FROM (SELECT place, sum(size) OVER (ORDER BY place) - size AS before FROM "
            "(SELECT place, length(body) AS size FROM messages WHERE place >= ? AND place < ? "
            "AND place NOT IN (SELECT place FROM damaged) ORDER BY place LIMIT ?)"
            ") WHERE before <= ?",
            start,
            end,
            _SLICE_ROWS,
            _SLICE_BYTES,
        )
        if last is not None:
            connection.execute(
                "DELETE FROM messages WHERE place >= ? AND place <= ? AND place NOT IN (SELECT place FROM damaged)",
                (start, last),
            )
            if connection.changes():
                return False
        for table in ("ranks", "deliveries"):
            connection.execute(
                f"DELETE FROM {table} WHERE place IN "  # noqa: S608
                f"(SELECT place FROM {table} WHERE place >= ? AND place < ? LIMIT ?)",
                (start, end, _SLICE_ROWS),
            )
            if connection.changes():
                return False
        connection.execute("DELETE FROM answers WHERE number = ?", (number,))
        if not has_messages(connection, number):
            connection.execute("DELETE FROM dropped WHERE number = ?", (number,))
    return True


def has_messages(connection: apsw.Connection, number: int) -> bool:
    """Return whether there are messages under a queue number, such as damaged ones."""
    places = (first_place(number), end_place(number))
    return any(
        value(connection, f"SELECT 1 FROM {table} WHERE place >= ? AND place < ? LIMIT 1", *places) is not None  # noqa: S608  # our own names
        for table in ("messages", "damaged")
    )


def vacuum_some(connection: apsw.Connection, *, is_idle: bool, is_full: bool) -> bool:
    """Return some free pages to the file system if there are many; return whether there are still many.

    Raises:
        apsw.Error: the disk failed, or is full.
    """
    if not _is_much_free(connection, is_idle=is_idle, is_full=is_full):
        return False
    with transaction(connection):
        end = perf_counter() + _SLICE_SECONDS
        cursor = connection.execute("PRAGMA incremental_vacuum")
        for _ in cursor:
            if perf_counter() > end:
                break
        cursor.close()
    return _is_much_free(connection, is_idle=is_idle, is_full=is_full)


def _is_much_free(connection: apsw.Connection, *, is_idle: bool, is_full: bool) -> bool:
    free = free_pages(connection) * PAGE_BYTES
    if is_full:
        return free > (0 if is_idle else _LITTLE_FREE)
    share = 0.25 if is_idle else 0.75
    return free > max(_MUCH_FREE, share * PAGE_BYTES * cast("int", connection.pragma("page_count")))
