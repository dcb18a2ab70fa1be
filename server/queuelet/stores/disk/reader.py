"""Reads committed rows on the event loop's thread, in a few microseconds each if they are in the page cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import apsw

from queuelet.errors import StoreFailed
from queuelet.stores.disk.backward import read_messages_backward
from queuelet.stores.disk.verified_rows import read_message, read_messages
from queuelet.stores.durable import checksums
from queuelet.stores.durable.damage import Damage
from queuelet.stores.durable.places import SEQ_BITS


class DiskReader:
    """A read-only connection of a store. If the disk fails, a call raises what `failed` returns for the error.

    The connection must not be shared.
    """

    def __init__(self, connection: apsw.Connection, failed: Callable[[apsw.Error], StoreFailed]) -> None:
        self._connection = connection
        self._failed = failed

    reads_at_once = True

    def require(self, number: int, places: Sequence[int], own_ids: Sequence[bytes]) -> None:
        """Do nothing, because everything can be read within a call."""

    def note_committed(
        self, number: int, added: Sequence[int], removed: Sequence[int], own_ids: Iterable[bytes]
    ) -> None:
        """Do nothing, because nothing is remembered."""

    def forget(self, number: int) -> None:
        """Do nothing, because nothing is remembered."""

    def close(self, why: str) -> None:  # noqa: ARG002  # no call waits for a read
        """Close the connection."""
        self._connection.close()

    def missing(self, place: int) -> StoreFailed:
        """Return the error to raise if a message that was committed is not on the disk."""
        return self._failed(apsw.CorruptError(f"the message at place {place} is missing"))

    def body(self, place: int) -> bytes | Damage | None:
        """Return the message at a place, or its damage; None if there is none."""
        with self._reading():
            return read_message(self._connection, place)

    def size(self, place: int) -> int | None:
        """Return the size of the message at a place in bytes, None if there is none. The row is not verified."""
        with self._reading():
            rows = self._connection.execute("SELECT length(body) FROM messages WHERE place = ?", (place,)).fetchall()
        return cast("int", rows[0][0]) if rows else None

    def bodies(  # noqa: PLR0913  # two of them by name
        self,
        place: int,
        end: int,
        count: int,
        max_bytes: int,
        *,
        descending: bool = False,
        is_browse: bool = False,  # noqa: ARG002  # consumers wait for each read
    ) -> list[tuple[int, bytes | Damage]]:
        """Return the first messages from `place` to before `end`: at most `count`, until they have `max_bytes`.

        If `descending`, return the last ones, the last one first.
        """
        found: list[tuple[int, bytes | Damage]] = []
        size = 0
        with self._reading():
            rows = (read_messages_backward if descending else read_messages)(self._connection, place, end)
            for at, body, _ in rows:
                found.append((at, body))
                size += body.size if isinstance(body, Damage) else len(body)
                if len(found) >= count or size >= max_bytes:
                    break
            rows.close()
        return found

    def place_of(self, number: int, own_id: bytes) -> int | None:
        """Return the place of a queue's newest message with this producer-given ID, None if there is none."""
        with self._reading():
            rows = self._connection.execute(
                f"SELECT max(place) FROM messages WHERE place >> {SEQ_BITS} = ? AND own_id = ?",  # noqa: S608
                (number, own_id),
            ).fetchall()
        return cast("int | None", rows[0][0])

    def response(self, number: int, key: bytes) -> bytes | None:
        """Return a saved response, None if there is none or it is damaged."""
        with self._reading():
            rows = self._connection.execute(
                "SELECT until, CAST(answer AS BLOB), checksum FROM answers WHERE number = ? AND key = ?", (number, key)
            ).fetchall()
        for until, response, checksum in cast("list[tuple[int, bytes, int]]", rows):
            if checksums.of_row(number, key, until, response) == checksum:
                return response
        return None

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except apsw.ConnectionClosedError as error:
            raise StoreFailed from error
        except apsw.Error as error:
            raise self._failed(error) from error
