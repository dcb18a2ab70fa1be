"""Copies what is sound in a store into a new file, row by row. What is damaged is left out, and its neighbours are not.

The new file has the tables of this program, whatever the old one has. So nothing comes along that is not a row with the
right checksum: no trigger, no view, no damaged page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from queuelet.stores.disk.loading import Contents, load_contents
from queuelet.stores.disk.migrations import make_empty
from queuelet.stores.disk.records import FAR, answer_row, tally_row
from queuelet.stores.disk.rows import Damage, read_messages, read_rows, with_checksum
from queuelet.stores.disk.schema import SEQ_BITS, first_place


class Copied(NamedTuple):
    """What a copy holds."""

    messages: int
    damaged: int
    """How many messages were left out because they are damaged."""


def copy_sound(source: apsw.Connection, path: Path) -> Copied:
    """Copy an open database of this version, as one transaction sees it, into a new one.

    It has to be looked through afterwards: if rows are missing without a damaged row in their place, the counts of the
    copy are wrong, as are those of the source.

    Raises:
        apsw.CorruptError: the source has damage that is not that of single messages.
        apsw.Error: the disk failed, or is full.
    """
    with source, closing(make_empty(path, None)) as new:
        copied = _Copy(source, new, load_contents(source)).run()
        new.execute("COMMIT")
    return copied


class _Copy:
    """One copy that is being made."""

    def __init__(self, source: apsw.Connection, new: apsw.Connection, contents: Contents) -> None:
        self._source = source
        self._new = new
        self._contents = contents
        self._dropped = set(contents.dropped)
        numbers = {queue.record.number: queue for queue in contents.queues}
        self._set_aside = {first_place(number) + seq for number, queue in numbers.items() for seq in queue.damaged}
        self._unsound = {first_place(number) + seq for number, queue in numbers.items() for seq in queue.unsound}
        self._damaged: set[int] = set()
        """Places of messages that are damaged, but for those that were set aside before."""
        self._counts = dict.fromkeys(numbers, 0)
        self._sizes = dict.fromkeys(numbers, 0)

    def run(self) -> Copied:
        """Copy everything."""
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
                    if row and place not in left_out and not self._is_dropped(place)
                ),
            )
        answers = (row for _, row in read_rows(self._source, "answers") if row and row[0] not in self._dropped)
        self._insert("answers (number, key, until, answer, checksum)", (answer_row(*row) for row in answers))
        return Copied(sum(self._counts.values()), len(left_out))

    def _insert(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        statement = ""
        for row in rows:
            statement = statement or f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})"  # noqa: S608  # our own names
            self._new.execute(statement, row)

    def _is_dropped(self, place: int) -> bool:
        return place >> SEQ_BITS in self._dropped

    def _messages(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of sound messages, and count them."""
        counts, sizes = self._counts, self._sizes
        for place, body, own_id in read_messages(self._source, 0, FAR):
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

    def _tallies(self) -> Iterator[tuple[Any, ...]]:
        """Yield the counts of the queues, of those that have damaged messages as they are without.

        Damage may have given a row another place, so it is looked at all queues together whether each message that is
        missing has a damaged row in its place. If not, the counts stay as they are, and are wrong.
        """
        queues = {queue.record.ordinal: queue for queue in self._contents.queues}
        missing = {
            queue.record.number: queue.count - self._counts[queue.record.number] for queue in self._contents.queues
        }
        is_explained = min(missing.values(), default=0) >= 0 and sum(missing.values()) <= len(self._damaged)
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
