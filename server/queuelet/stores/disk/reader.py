"""Reading on the event loop's thread: rows that are committed, some microseconds each from the page cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import apsw

from queuelet.errors import StoreFailed
from queuelet.stores.disk import checksums
from queuelet.stores.disk.rows import Damage, read_message, read_messages
from queuelet.stores.disk.schema import SEQ_BITS


class Reader:
    """A read-only connection of a store. Each call sees what is committed by then, and verifies it.

    A call raises `StoreFailed` when the disk fails, or when the reader is closed, and tells `failed` of the former.
    """

    def __init__(self, connection: apsw.Connection, failed: Callable[[apsw.Error], StoreFailed]) -> None:
        """Take a connection that nobody else uses, and what is told of an error and makes another of it."""
        self._connection = connection
        self._failed = failed

    def close(self) -> None:
        """End reading."""
        self._connection.close()

    def missing(self, place: int) -> StoreFailed:
        """Return what to raise where a message is not on the disk that should be."""
        return self._failed(apsw.CorruptError(f"there is no message at place {place}, where one was kept"))

    def body(self, place: int) -> bytes | Damage | None:
        """Return the message at a place, None if there is none."""
        with self._reading():
            return read_message(self._connection, place)

    def size(self, place: int) -> int | None:
        """Return the size of the message at a place, None if there is none. It is not verified."""
        with self._reading():
            rows = self._connection.execute("SELECT length(body) FROM messages WHERE place = ?", (place,)).fetchall()
        return cast("int", rows[0][0]) if rows else None

    def bodies(self, place: int, end: int, count: int, max_bytes: int) -> list[tuple[int, bytes | Damage]]:
        """Return the first messages from a place on and before another: at most `count`.

        They end with the message that brings them to `max_bytes`.
        """
        found: list[tuple[int, bytes | Damage]] = []
        size = 0
        with self._reading():
            rows = read_messages(self._connection, place, end)
            for at, body, _ in rows:
                found.append((at, body))
                size += body.size if isinstance(body, Damage) else len(body)
                if len(found) >= count or size >= max_bytes:
                    break
            rows.close()
        return found

    def place_of(self, number: int, own_id: bytes) -> int | None:
        """Return the place of the newest message of a queue that has this id of a producer's, None if none has."""
        with self._reading():
            rows = self._connection.execute(
                f"SELECT max(place) FROM messages WHERE place >> {SEQ_BITS} = ? AND own_id = ?",  # noqa: S608
                (number, own_id),
            ).fetchall()
        return cast("int | None", rows[0][0])

    def answer(self, number: int, key: bytes) -> bytes | None:
        """Return a kept answer, None if there is none, or if it is damaged."""
        with self._reading():
            rows = self._connection.execute(
                "SELECT until, CAST(answer AS BLOB), checksum FROM answers WHERE number = ? AND key = ?", (number, key)
            ).fetchall()
        for until, answer, checksum in cast("list[tuple[int, bytes, int]]", rows):
            if checksums.of_row(number, key, until, answer) == checksum:
                return answer
        return None

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except apsw.ConnectionClosedError as error:
            raise StoreFailed from error
        except apsw.Error as error:
            raise self._failed(error) from error
