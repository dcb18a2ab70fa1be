"""Loads the state of a store when it is opened. Bodies are not loaded; they are read when they are needed.

Each row is verified against its checksum, and each value against its range, so that a crafted file can do no more harm
than a damaged one.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import clock_gettime_ns, time_ns
from typing import Any, cast

import apsw

from queuelet.clock import STEADY, Mark, boot_id, continued
from queuelet.definition import StoreKind
from queuelet.stores.disk.database import set_meta, value
from queuelet.stores.disk.verified_rows import read_rows
from queuelet.stores.durable.loaded import MAX_TOKEN, SKIPPED, TOKENS, LoadedQueue, LoadedStore
from queuelet.stores.durable.places import SEQ_BITS, end_place, first_place
from queuelet.stores.durable.rows import (
    MAX_SEQ,
    QueueRecord,
    checked_int,
    delivery_of_row,
    rank_of_row,
    tally_of_json,
    time_of_json,
)

_SEQ = (1 << SEQ_BITS) - 1

_AN_OWN_ID = f"SELECT 1 FROM messages WHERE place >> {SEQ_BITS} = ? AND own_id IS NOT NULL LIMIT 1"  # noqa: S608

_UNSOUND = (KeyError, TypeError, ValueError, RecursionError)
"""The errors raised by values that this program does not write."""


def load_to_serve(connection: apsw.Connection) -> LoadedStore:
    """Load the state of a store to serve it: this also reserves lease tokens and sequence numbers, and saves the clock.

    Raises:
        apsw.CorruptError: a row that the store needs is damaged.
        apsw.Error: the file cannot be read or written.
    """
    loaded = load_store(connection)
    _skip_numbers(connection, loaded)
    set_meta(connection, "first_free_token", loaded.first_token + TOKENS)
    set_meta(connection, "clock_boot_id", loaded.clock.boot_id)
    set_meta(connection, "clock_offset", loaded.clock.offset)
    return loaded


def load_store(connection: apsw.Connection, *, salvages: bool = False) -> LoadedStore:
    """Load the state of a store without changing it. Raises as `load_to_serve` does.

    If `salvages` is true, it does not look at the messages and the saved responses themselves, because their tables may
    be damaged. The next sequence numbers may then be too low, all queues count as having IDs from producers, and there
    are no responses.
    """
    meta = _rows(connection, "meta")
    queues = {queue.record.number: queue for queue in _load_queues(connection, salvages=salvages)}
    dropped = [number for (number,) in _rows(connection, "dropped").values()]
    if doubled := set(dropped) & set(queues):
        raise apsw.CorruptError(f"number {min(doubled)} belongs to a queue and is also marked for deletion")
    set_aside = cast("list[tuple[int]]", connection.execute("SELECT place FROM damaged ORDER BY place").fetchall())
    for (place,) in set_aside:
        if queue := queues.get(place >> SEQ_BITS):
            queue.damaged.add(place & _SEQ)
    _load_ranks(connection, queues)
    _load_deliveries(connection, queues)
    try:
        return LoadedStore(
            epoch=_epoch(meta),
            first_token=max(time_ns(), _number(meta, "first_free_token", MAX_TOKEN)),
            clock=_clock(meta, max((queue.written for queue in queues.values()), default=0)),
            highest_first_seq=_number(meta, "highest_first_seq", MAX_SEQ),
            queues=list(queues.values()),
            dropped=dropped,
            damaged_responses=0 if salvages else _load_responses(connection, queues),
        )
    except _UNSOUND as error:
        raise apsw.CorruptError(f"the metadata of the store is invalid: {error}") from error


def _epoch(meta: dict[Any, tuple[Any, ...]]) -> str:
    if "epoch" not in meta:
        raise apsw.CorruptError("the store has no epoch")
    epoch = meta["epoch"][1]
    if not isinstance(epoch, str) or not 0 < len(epoch) <= 64:  # noqa: PLR2004  # a UUID has 36 characters
        raise ValueError("the epoch is not a short text")
    return epoch


def _clock(meta: dict[Any, tuple[Any, ...]], newest: int) -> Mark:
    """Return the store's clock, continued from its saved state."""
    boot, offset = (meta[name][1] if name in meta else None for name in ("clock_boot_id", "clock_offset"))
    kept = Mark(boot, offset) if isinstance(boot, str) and isinstance(offset, int) else None
    return continued(kept, newest, boot=boot_id(), steady=clock_gettime_ns(STEADY), wall=time_ns())


def _number(meta: dict[Any, tuple[Any, ...]], name: str, most: int) -> int:
    return checked_int(meta[name][1], 0, most, name) if name in meta else 0


def _rows(connection: apsw.Connection, table: str) -> dict[Any, tuple[Any, ...]]:
    """Return the rows of a table by their first columns. Raises apsw.CorruptError if one is damaged."""
    found: dict[Any, tuple[Any, ...]] = {}
    for key, row in read_rows(connection, table):
        if row is None:
            raise apsw.CorruptError(f"a row of {table} has the wrong checksum: {key!r}")
        found[row[0]] = row
    return found


def _skip_numbers(connection: apsw.Connection, loaded: LoadedStore) -> None:
    """Let each queue continue with sequence numbers that were never assigned, and save the highest of them.

    Messages may have been delivered, with their IDs, that were not committed when the process ended. It is saved
    because the process may commit nothing before it ends; the next opening must skip its numbers even so.
    """
    highest, queues = loaded.highest_first_seq, loaded.queues
    for queue in queues:
        queue.tally.next_seq = max(queue.tally.next_seq, highest) + SKIPPED
    set_meta(connection, "highest_first_seq", max((queue.tally.next_seq for queue in queues), default=highest))


def _load_queues(connection: apsw.Connection, *, salvages: bool) -> Iterable[LoadedQueue]:
    tallies = _rows(connection, "tallies")
    numbers: set[int] = set()
    for row in _rows(connection, "queues").values():
        try:
            record = QueueRecord.of_row(row, StoreKind.DISK)
            _, depth, size, counts = tallies.get(record.ordinal, (0, 0, 0, "{}"))
            tally = tally_of_json(counts)
            count, stored_bytes = checked_int(depth, 0, _SEQ, "depth"), checked_int(size, 0, 1 << 62, "bytes")
        except _UNSOUND as error:
            raise apsw.CorruptError(f"the definition or the counts of queue {row[2]} are invalid: {error}") from error
        if record.number in numbers:
            raise apsw.CorruptError(f"two queues have the number {record.number}")
        numbers.add(record.number)
        has_own_ids = True
        if not salvages:
            places = (first_place(record.number), end_place(record.number))
            last = value(connection, "SELECT max(place) FROM messages WHERE place >= ? AND place < ?", *places)
            # A full group may have been sealed after a message was added and before `next_seq` was raised.
            tally.next_seq = max(tally.next_seq, ((last or 0) & _SEQ) + 1)
            has_own_ids = value(connection, _AN_OWN_ID, record.number) is not None
        yield LoadedQueue(
            record=record,
            count=count,
            stored_bytes=stored_bytes,
            tally=tally,
            has_own_ids=has_own_ids,
            written=time_of_json(counts),
        )


def _load_ranks(connection: apsw.Connection, queues: dict[int, LoadedQueue]) -> None:
    for place, row in read_rows(connection, "ranks"):
        queue, seq = queues.get(place >> SEQ_BITS), place & _SEQ
        if queue is None or seq in queue.damaged:
            continue
        try:
            if row is not None:
                queue.ranks[seq] = rank_of_row(row)
                continue
        except _UNSOUND:
            pass
        queue.unsound[seq] = "its priority, delay and time to live are damaged"


def _load_deliveries(connection: apsw.Connection, queues: dict[int, LoadedQueue]) -> None:
    for place, row in read_rows(connection, "deliveries"):
        queue, seq = queues.get(place >> SEQ_BITS), place & _SEQ
        if queue is None or seq in queue.damaged:
            continue
        try:
            if row is not None and seq not in queue.unsound:
                queue.deliveries[seq] = delivery_of_row(row)
                continue
        except _UNSOUND:
            pass
        queue.ranks.pop(seq, None)
        queue.unsound.setdefault(seq, "the record of its deliveries is damaged")


def _load_responses(connection: apsw.Connection, queues: dict[int, LoadedQueue]) -> int:
    damaged = 0
    for number, row in read_rows(connection, "answers"):
        queue = queues.get(number)
        if row is None:
            damaged += 1
        elif queue:
            queue.responses[row[1]] = checked_int(row[2], 0, 1 << 63, "until")
    return damaged
