"""What a store holds when it is opened, bodies aside: they are read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from time import clock_gettime_ns, time_ns
from typing import cast

import apsw

from queuelet.clock import STEADY, Mark, boot_id, continued
from queuelet.message import Delivery, Rank, Tally
from queuelet.stores.disk.database import get_meta, set_meta, value
from queuelet.stores.disk.records import QueueRecord, QueueRow, delivery_of_row, tally_of_json, time_of_json
from queuelet.stores.disk.schema import SEQ_BITS, end_place, first_place

_SEQ = (1 << SEQ_BITS) - 1

TOKENS = 1 << 40
"""How many lease tokens are reserved at once: none is given twice if that many are enough until the next opening."""

_AN_OWN_ID = f"SELECT 1 FROM messages WHERE place >> {SEQ_BITS} = ? AND own_id IS NOT NULL LIMIT 1"  # noqa: S608

SKIPPED = 1 << 20
"""Sequence numbers that are left out at each opening: more than a process can have given and not committed."""


@dataclass(kw_only=True, slots=True)
class QueueContents:
    """What is kept of one queue."""

    record: QueueRecord
    count: int
    stored_bytes: int
    tally: Tally
    has_own_ids: bool
    written: int
    """When any of it was written last, by the clock of the stored times."""
    ranks: dict[int, Rank] = field(default_factory=dict)
    deliveries: dict[int, Delivery] = field(default_factory=dict)
    answers: dict[bytes, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What is kept of all queues."""

    epoch: str
    first_token: int
    """The first lease token to give."""
    clock: Mark
    """The clock by which the stored times are, and which goes on."""
    queues: list[QueueContents]
    """In order of creation."""
    dropped: list[int]
    """Numbers under which everything is to be deleted."""


def read_contents(connection: apsw.Connection) -> Contents:
    """Read all that is needed to serve, and reserve lease tokens. Raises apsw.Error."""
    queues = {queue.record.number: queue for queue in _read_queues(connection)}
    _skip_numbers(connection, queues.values())
    for row in connection.execute("SELECT * FROM ranks ORDER BY place"):
        if queue := queues.get(row[0] >> SEQ_BITS):
            queue.ranks[row[0] & _SEQ] = Rank(*row[1:-1])
    for row in connection.execute("SELECT * FROM deliveries ORDER BY place"):
        if queue := queues.get(row[0] >> SEQ_BITS):
            queue.deliveries[row[0] & _SEQ] = delivery_of_row(row)
    for number, key, until in connection.execute("SELECT number, key, until FROM answers ORDER BY until, kept"):
        if queue := queues.get(number):
            queue.answers[key] = until
    return Contents(
        epoch=get_meta(connection, "epoch"),
        first_token=_reserve_tokens(connection),
        clock=_go_on_with_clock(connection, max((queue.written for queue in queues.values()), default=0)),
        queues=list(queues.values()),
        dropped=[row[0] for row in connection.execute("SELECT number FROM dropped")],
    )


def _skip_numbers(connection: apsw.Connection, queues: Iterable[QueueContents]) -> None:
    """Have queues go on with sequence numbers that nobody was given, and keep that these are given out from here on.

    Messages may have been delivered, under their ids, that were not committed when the process ended. And the opening
    before may have committed nothing at all: then only this tells where it began.
    """
    highest: int = get_meta(connection, "highest_first_seq") or 0
    for queue in queues:
        queue.tally.next_seq = max(queue.tally.next_seq, highest) + SKIPPED
    set_meta(connection, "highest_first_seq", max((queue.tally.next_seq for queue in queues), default=highest))


def _read_queues(connection: apsw.Connection) -> list[QueueContents]:
    rows = connection.execute("SELECT * FROM queues ORDER BY ordinal").fetchall()
    return [_read_queue(connection, QueueRecord.of_row(cast("QueueRow", row))) for row in rows]


def _read_queue(connection: apsw.Connection, record: QueueRecord) -> QueueContents:
    tallies = connection.execute("SELECT depth, bytes, counts FROM tallies WHERE ordinal = ?", (record.ordinal,))
    count, stored_bytes, counts = cast("tuple[int, int, str]", tallies.fetchone() or (0, 0, "{}"))
    tally = tally_of_json(counts)
    places = (first_place(record.number), end_place(record.number))
    last = value(connection, "SELECT max(place) FROM messages WHERE place >= ? AND place < ?", *places)
    # A group may have been closed between a message and the count of it.
    tally.next_seq = max(tally.next_seq, ((last or 0) & _SEQ) + 1)
    own_id = value(connection, _AN_OWN_ID, record.number)
    return QueueContents(
        record=record,
        count=count,
        stored_bytes=stored_bytes,
        tally=tally,
        has_own_ids=own_id is not None,
        written=time_of_json(counts),
    )


def _go_on_with_clock(connection: apsw.Connection, newest: int) -> Mark:
    """Return the clock of the stored times as it goes on from here, and store how the next opening finds it."""
    kept = None
    boot, offset = get_meta(connection, "clock_boot_id"), get_meta(connection, "clock_offset")
    if isinstance(boot, str) and isinstance(offset, int):
        kept = Mark(boot, offset)
    mark = continued(kept, newest, boot=boot_id(), steady=clock_gettime_ns(STEADY), wall=time_ns())
    set_meta(connection, "clock_boot_id", mark.boot_id)
    set_meta(connection, "clock_offset", mark.offset)
    return mark


def _reserve_tokens(connection: apsw.Connection) -> int:
    """Return a lease token above all given before, and keep that those from there on are given out."""
    first: int = max(time_ns(), get_meta(connection, "first_free_token") or 0)
    set_meta(connection, "first_free_token", first + TOKENS)
    return first
