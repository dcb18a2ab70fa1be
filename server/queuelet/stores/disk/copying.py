"""Copies the undamaged rows of a store into a new file. Damaged rows are left out.

The new file always has the tables of this program, so only rows with the right checksum are copied: no triggers, no
views, no damaged pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from queuelet.stores.disk.loading import load_store
from queuelet.stores.disk.migrations import make_empty
from queuelet.stores.disk.verified_rows import read_messages, read_rows, readable_messages, with_checksum
from queuelet.stores.durable.damage import Damage
from queuelet.stores.durable.loaded import LoadedStore
from queuelet.stores.durable.places import SEQ_BITS, end_place, first_place
from queuelet.stores.durable.rows import FAR, response_row, tally_row


class Copied(NamedTuple):
    """What a copy has, and what it lacks."""

    messages: int
    """The number of messages in the copy."""
    damaged: int
    """The number of messages that were left out because they are damaged."""


def copy_sound(source: apsw.Connection, path: Path, *, salvage: bool = False) -> Copied:
    """Copy an open database of this version into a new one, in one transaction of the source.

    The copy must be checked afterwards: if rows are missing and no damaged rows account for them, the counts in the
    copy are wrong, as they are in the source.

    Args:
        source: the database to copy.
        path: the file to write.
        salvage: whether to skip damaged pages of messages and of saved responses, and to correct the counts.

    Raises:
        apsw.CorruptError: the source has damage beyond that of single messages; with `salvage`, in another table.
        apsw.Error: the disk failed, or is full.
    """
    with _one_state(source), closing(make_empty(path, None)) as new:
        loaded = load_store(source, salvages=salvage)
        copied = (_Salvage if salvage else _Copy)(source, new, loaded).run()
        new.execute("COMMIT")
    return copied


@contextmanager
def _one_state(source: apsw.Connection) -> Iterator[None]:
    """Read in one transaction. It is rolled back, because a commit would raise the error of a page that was skipped."""
    source.execute("BEGIN")
    try:
        yield
    finally:
        with suppress(apsw.Error):
            source.execute("ROLLBACK")


class _Copy:
    """The state of one copy."""

    def __init__(self, source: apsw.Connection, new: apsw.Connection, loaded: LoadedStore) -> None:
        self._source = source
        self._new = new
        self._loaded = loaded
        self._dropped = set(loaded.dropped)
        numbers = {queue.record.number: queue for queue in loaded.queues}
        self._set_aside = {first_place(number) + seq for number, queue in numbers.items() for seq in queue.damaged}
        self._unsound = {first_place(number) + seq for number, queue in numbers.items() for seq in queue.unsound}
        self._damaged: set[int] = set()
        """Places of damaged messages that were not set aside before."""
        self._counts = dict.fromkeys(numbers, 0)
        self._sizes = dict.fromkeys(numbers, 0)

    def run(self) -> Copied:
        """Copy all tables."""
        for table in ("meta", "queues"):
            self._insert(table, (with_checksum(table, row) for _, row in read_rows(self._source, table) if row))
        self._insert("messages", self._messages())
        self._insert("tallies", self._tallies())
        left_out = self._set_aside | self._damaged
        for table in ("ranks", "deliveries"):
            rows = read_rows(self._source, table)
            self._insert(
                table,
                (
                    with_checksum(table, row)
                    for place, row in rows
                    if row and place not in left_out and not self._is_dropped(place) and self._has_message(place)
                ),
            )
        responses = (row for _, row in self._rows_of_responses() if row and row[0] not in self._dropped)
        self._insert("answers (number, key, until, answer, checksum)", (response_row(*row) for row in responses))
        return Copied(sum(self._counts.values()), self._count_left_out())

    def _count_left_out(self) -> int:
        return len(self._set_aside | self._damaged)

    def _has_message(self, _place: int) -> bool:
        """Return whether the copy has the message that a rank or a delivery belongs to."""
        return True

    def _rows_of_messages(self) -> Iterator[tuple[int, bytes | Damage, bytes | None]]:
        return read_messages(self._source, 0, FAR)

    def _rows_of_responses(self) -> Iterator[tuple[Any, tuple[Any, ...] | None]]:
        return read_rows(self._source, "answers")

    def _insert(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        statement = ""
        for row in rows:
            statement = statement or f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})"  # noqa: S608  # our own names
            self._new.execute(statement, row)

    def _is_dropped(self, place: int) -> bool:
        return place >> SEQ_BITS in self._dropped

    def _messages(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of undamaged messages, and count them."""
        counts, sizes = self._counts, self._sizes
        for place, body, own_id in self._rows_of_messages():
            if place in self._set_aside or self._is_dropped(place):
                continue
            if isinstance(body, Damage) or place in self._unsound:
                self._damaged.add(place)
                continue
            number = place >> SEQ_BITS
            if number in counts:
                counts[number] += 1
                sizes[number] += len(body)
            yield with_checksum("messages", (place, own_id, body))

    def _missing(self) -> dict[int, int]:
        """Return how many messages of each queue are missing in the copy, by the queue's number."""
        return {queue.record.number: queue.count - self._counts[queue.record.number] for queue in self._loaded.queues}

    def _is_explained(self, missing: dict[int, int]) -> bool:
        return min(missing.values(), default=0) >= 0 and sum(missing.values()) <= len(self._damaged)

    def _tallies(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of counts, reduced by the damaged messages of each queue.

        The counts are reduced only if the store has at least as many damaged rows as missing messages. All queues are
        compared together, because damage may have moved a row to another queue. If not, the counts are copied as they
        are, so the check of the copy reports them.
        """
        queues = {queue.record.ordinal: queue for queue in self._loaded.queues}
        missing = self._missing()
        is_explained = self._is_explained(missing)
        for _, row in read_rows(self._source, "tallies"):
            if row is None:
                continue
            ordinal, _, _, counts = row
            queue = queues.get(ordinal)
            if queue and is_explained and (missing[queue.record.number] or queue.damaged):
                number = queue.record.number
                yield tally_row(ordinal, self._counts[number], self._sizes[number], counts)
            else:
                yield with_checksum("tallies", row)


class _Salvage(_Copy):
    """The state of one copy of what can be read."""

    def _rows_of_messages(self) -> Iterator[tuple[int, bytes | Damage, bytes | None]]:
        # Queue by queue, so that a damaged page costs no messages of other queues than those on it.
        for number in sorted(self._counts):
            yield from readable_messages(self._source, first_place(number), end_place(number))

    def _rows_of_responses(self) -> Iterator[tuple[Any, tuple[Any, ...] | None]]:
        # They serve retries within a minute, so what follows a damaged page is not searched for.
        with suppress(apsw.CorruptError):
            yield from read_rows(self._source, "answers")

    def _count_left_out(self) -> int:
        return max(sum(self._missing().values()), len(self._damaged)) + len(self._set_aside)

    def _has_message(self, place: int) -> bool:
        return bool(self._new.execute("SELECT 1 FROM messages WHERE place = ?", (place,)).fetchall())

    def _is_explained(self, _missing: dict[int, int]) -> bool:
        return True
