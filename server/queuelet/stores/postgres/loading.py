"""Loads the state of the queues from the small tables at a take-over. Bodies are not loaded.

Each row is verified against its checksum, and each value against its range, as in the Disk store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from time import clock_gettime_ns, time_ns
from typing import Any

from queuelet.clock import STEADY, Mark, boot_id, continued
from queuelet.definition import StoreKind
from queuelet.errors import StoreFailed
from queuelet.stores.durable import checksums
from queuelet.stores.durable.loaded import SKIPPED, LoadedQueue, LoadedStore
from queuelet.stores.durable.places import SEQ_BITS
from queuelet.stores.durable.rows import (
    QueueRecord,
    checked_int,
    delivery_of_row,
    hints_of_json,
    rank_of_row,
    tally_of_json,
    time_of_json,
)
from queuelet.stores.postgres.driver import Connection, Row
from queuelet.stores.postgres.numbers import numbers_of, ordinals_of, places_of
from queuelet.stores.postgres.owner import Owned

_SEQ = (1 << SEQ_BITS) - 1

_SLICE = 500
"""After how many rows other calls get their turn."""

_UNSOUND = (KeyError, TypeError, ValueError, RecursionError)
"""The errors raised by values that this program does not write."""

_QUEUES = """
    SELECT ordinal, number, queue_id, created, revision, definition, id_prefix, checksum
    FROM queues WHERE shard = $1 ORDER BY ordinal
"""

_TALLIES = "SELECT ordinal, depth, bytes, counts, checksum FROM tallies WHERE ordinal >= $1 AND ordinal < $2"

_DROPPED = "SELECT number, checksum FROM dropped WHERE number >= $1 AND number < $2"

_DAMAGED = "SELECT place FROM damaged WHERE place BETWEEN $1 AND $2 ORDER BY place"

_RANKS = """
    SELECT place, priority, due, created, ttl, checksum FROM ranks WHERE place BETWEEN $1 AND $2 ORDER BY place
"""

_DELIVERIES = """
    SELECT place, state, count, token, until, since, consumer, superseded, reason, history, by_stream, checksum
    FROM deliveries WHERE place BETWEEN $1 AND $2 ORDER BY place
"""

_RESPONSES = "SELECT number, key, until FROM answers WHERE number >= $1 AND number < $2 ORDER BY until, kept"

_NUMBERS = """
    UPDATE owners SET highest_first_seq = $2, clock_boot_id = $3, clock_offset = $4
    WHERE shard = $1 AND epoch = $5 AND holder = $6 RETURNING 1
"""


class DatabaseDamaged(StoreFailed):
    """A row that the store needs is damaged. Opening the store again does not help."""


async def load_to_serve(
    connection: Connection, owned: Owned, holder: object, *, shard: int, shards: int
) -> LoadedStore:
    """Load the state of a shard's queues, and save which numbers and which clock this server continues with.

    Args:
        connection: the connection to the database.
        owned: the row of the owner.
        holder: the name under which this server owns the shard.
        shard: the shard.
        shards: how many shards there are.

    Raises:
        DatabaseDamaged: a row that the store needs is damaged.
        StoreFailed: another server has taken over meanwhile.
        DatabaseError: the database failed.
    """
    numbers, places = numbers_of(shard, shards), places_of(shard, shards)
    queues = {queue.record.number: queue for queue in await _load_queues(connection, shard, numbers)}
    rows = await connection.fetch(_DROPPED, numbers.start, numbers.stop)
    dropped = [row[0] for row in rows if _is_sound(row)]
    for (place,) in await connection.fetch(_DAMAGED, *places):
        if queue := queues.get(place >> SEQ_BITS):
            queue.damaged.add(place & _SEQ)
    await _load_ranks(connection, queues, places)
    await _load_deliveries(connection, queues, places)
    await _load_sizes(connection, queues)
    damaged_responses = await _load_responses(connection, queues, numbers)
    highest = owned.highest_first_seq
    for queue in queues.values():
        # Messages may have been delivered, with their IDs, that were never committed.
        queue.tally.next_seq = max(queue.tally.next_seq, highest) + SKIPPED
    highest = max((queue.tally.next_seq for queue in queues.values()), default=highest)
    newest = max((queue.written for queue in queues.values()), default=0)
    kept = Mark(owned.clock_boot_id, owned.clock_offset) if owned.clock_boot_id else None
    clock = continued(kept, newest, boot=boot_id(), steady=clock_gettime_ns(STEADY), wall=time_ns())
    if not await connection.fetch(_NUMBERS, shard, highest, clock.boot_id, clock.offset, owned.epoch, holder):
        raise StoreFailed("another server owns the queues")
    return LoadedStore(
        epoch=owned.store_epoch,
        first_token=owned.first_token,
        clock=clock,
        highest_first_seq=highest,
        queues=list(queues.values()),
        dropped=dropped,
        damaged_responses=damaged_responses,
    )


async def _load_queues(connection: Connection, shard: int, numbers: range) -> list[LoadedQueue]:
    ordinals = ordinals_of(shard)
    tallies = {row[0]: row for row in await connection.fetch(_TALLIES, ordinals.start, ordinals.stop)}
    loaded: list[LoadedQueue] = []
    for *row, checksum in await connection.fetch(_QUEUES, shard):
        tally_row = tallies.get(row[0])
        if not _is_sound([*row, checksum]) or (tally_row is not None and not _is_sound(tally_row)):
            raise DatabaseDamaged(f"the definition or the counts of queue {row[2]} have the wrong checksum")
        try:
            record = QueueRecord.of_row(row, StoreKind.POSTGRES)
            checked_int(record.number, numbers.start, numbers.stop - 1, "number")
            _, depth, size, counts, _ = tally_row or (0, 0, 0, "{}", 0)
            tally = tally_of_json(counts)
            count, stored_bytes = checked_int(depth, 0, _SEQ, "depth"), checked_int(size, 0, 1 << 62, "bytes")
            first, has_own_ids = hints_of_json(counts)
        except _UNSOUND as error:
            raise DatabaseDamaged(f"the definition or the counts of queue {row[2]} are invalid: {error}") from error
        loaded.append(
            LoadedQueue(
                record=record,
                count=count,
                stored_bytes=stored_bytes,
                tally=tally,
                has_own_ids=has_own_ids,
                first=first,
                written=time_of_json(counts),
            )
        )
    return loaded


async def _load_ranks(connection: Connection, queues: dict[int, LoadedQueue], places: tuple[int, int]) -> None:
    rows = await connection.fetch(_RANKS, *places)
    async for queue, seq, row in _of_queues(rows, queues):
        rank = _value(rank_of_row, row[:-1]) if checksums.of_rank(*row[:-1]) == row[-1] else None
        if rank is None:
            queue.unsound[seq] = "its priority, delay and time to live are damaged"
        else:
            queue.ranks[seq] = rank


async def _load_deliveries(connection: Connection, queues: dict[int, LoadedQueue], places: tuple[int, int]) -> None:
    rows = await connection.fetch(_DELIVERIES, *places)
    async for queue, seq, row in _of_queues(rows, queues):
        delivery = None
        if seq not in queue.unsound and _sum_of_delivery(row) == row[-1]:
            delivery = _value(delivery_of_row, [*row[:6], row[6].decode(), *row[7:-1]])
        if delivery is None:
            queue.ranks.pop(seq, None)
            queue.unsound.setdefault(seq, "the record of its deliveries is damaged")
        else:
            queue.deliveries[seq] = delivery


async def _load_sizes(connection: Connection, queues: dict[int, LoadedQueue]) -> None:
    """Load the sizes of messages that are not in line, because they are removed without being read."""
    places = [
        (queue.record.number << SEQ_BITS) + seq
        for queue in queues.values()
        for seq in {*queue.ranks, *queue.deliveries, *queue.unsound}
    ]
    if not places:
        return
    rows = await connection.fetch(
        "SELECT place, octet_length(body) FROM messages WHERE place = ANY ($1::bigint[])", places
    )
    for index, (place, size) in enumerate(rows, 1):
        if index % _SLICE == 0:
            await asyncio.sleep(0)
        queues[place >> SEQ_BITS].sizes[place & _SEQ] = size


async def _load_responses(connection: Connection, queues: dict[int, LoadedQueue], numbers: range) -> int:
    """Load when responses expire. The responses themselves are verified when they are read."""
    for number, key, until in await connection.fetch(_RESPONSES, numbers.start, numbers.stop):
        if queue := queues.get(number):
            queue.responses[key] = checked_int(until, 0, 1 << 63, "until")
    return 0


async def _of_queues(
    rows: Iterable[Row], queues: dict[int, LoadedQueue]
) -> AsyncIterator[tuple[LoadedQueue, int, Row]]:
    """Yield the rows of messages that are in a queue and were not set aside, with their queues and numbers.

    Other calls get their turn now and then, because other stores are being served.
    """
    for index, row in enumerate(rows, 1):
        if index % _SLICE == 0:
            await asyncio.sleep(0)
        queue, seq = queues.get(row[0] >> SEQ_BITS), row[0] & _SEQ
        if queue is not None and seq not in queue.damaged:
            yield queue, seq, row


def _is_sound(row: Row) -> bool:
    """Return whether a row has the checksum in its last column."""
    values = [value.encode() if isinstance(value, str) else value for value in row[:-1]]
    return bool(checksums.of_row(*values) == row[-1])


def _sum_of_delivery(row: Row) -> int:
    return checksums.of_delivery((*row[:6], row[8], row[10]), row[6], row[7].encode(), row[9])


def _value(convert: Callable[[Row], Any], row: Row) -> Any:  # noqa: ANN401  # what `convert` returns
    """Return the value of a row, None if it is invalid."""
    try:
        return convert(row)
    except _UNSOUND:
        return None
