"""Bare SQLite: the lower bound for a durable queue, with the library and settings of the Disk store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import apsw


class BareSqlite:
    """A table of rows by number, without a queue, a server or a second thread."""

    def __init__(self, connection: apsw.Connection, payload: bytes) -> None:
        """Take an open database, and the content of each row."""
        self._connection = connection
        self._payload = payload
        self._next = 1

    def commits(self, rows: int, count: int) -> float:
        """Write this many transactions of this many rows, each synced; return the elapsed seconds."""
        begin = perf_counter()
        for _ in range(count):
            first, self._next = self._next, self._next + rows
            with self._connection:
                self._connection.executemany(
                    "INSERT INTO messages VALUES (?, ?)",
                    ((place, self._payload) for place in range(first, first + rows)),
                )
        return perf_counter() - begin


@contextmanager
def bare_sqlite(folder: Path, payload: bytes) -> Iterator[BareSqlite]:
    """Open a database in a folder."""
    connection = apsw.Connection(str(folder / "bare.db"))
    try:
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        connection.execute("CREATE TABLE messages (place INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        yield BareSqlite(connection, payload)
    finally:
        connection.close()
