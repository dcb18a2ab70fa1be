"""Connects to the primary among several hosts.

All hosts are tried at once, because one whose machine is gone does not even refuse a connection. An old primary that
has not noticed a failover yet accepts writes too, although it can commit none; then the newer one is used.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from operator import itemgetter

from queuelet.stores.postgres.address import Address
from queuelet.stores.postgres.driver import CORRUPTED, Connection, DatabaseError, connect

_OTHERS_SECONDS = 0.25
"""How long to wait for the other hosts once one accepts writes."""

_TIMELINE = "SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint"
"""Each failover raises it."""


async def connect_to_primary(address: Address, *, schema: str, seconds: float) -> Connection:
    """Connect to the host that accepts writes, the newest primary if there are several.

    Args:
        address: where the database is.
        schema: the schema whose tables statements use.
        seconds: how long to try.

    Raises:
        DatabaseError: no host can be reached, accepts the connection, or accepts writes.
    """
    hosts = address.hosts()
    if len(hosts) == 1:
        return await connect(address, schema=schema, seconds=seconds)
    attempts = [asyncio.ensure_future(_try(host, schema, seconds)) for host in hosts]
    chosen: Connection | None = None
    try:
        for attempt in asyncio.as_completed(attempts):
            with suppress(DatabaseError):
                await attempt
                break
        await asyncio.wait(attempts, timeout=_OTHERS_SECONDS)
        primaries = [attempt.result() for attempt in attempts if _is_connected(attempt)]
        if not primaries:
            raise _joined([attempt.exception() for attempt in attempts])
        _, chosen = max(primaries, key=itemgetter(0))
    finally:
        for attempt in attempts:
            attempt.add_done_callback(partial(_close_unless, chosen))
            attempt.cancel()
    return chosen


async def _try(address: Address, schema: str, seconds: float) -> tuple[int, Connection]:
    """Connect to one host; return its timeline and the connection."""
    connection = await connect(address, schema=schema, seconds=seconds)
    try:
        return (await connection.fetch(_TIMELINE, seconds=seconds))[0][0], connection
    except BaseException:
        connection.terminate()
        raise


def _joined(errors: list[BaseException | None]) -> DatabaseError:
    """Return one error for those of all hosts, with the first code: often all hosts refuse for the same reason."""
    codes = [error.code for error in errors if isinstance(error, DatabaseError) and error.code not in CORRUPTED]
    return DatabaseError("; ".join(dict.fromkeys(map(str, errors))), next(filter(None, codes), ""))


def _is_connected(attempt: asyncio.Future[tuple[int, Connection]]) -> bool:
    return attempt.done() and attempt.exception() is None


def _close_unless(chosen: Connection | None, attempt: asyncio.Future[tuple[int, Connection]]) -> None:
    """Close the connection of an attempt, unless it was chosen."""
    if not attempt.cancelled() and attempt.exception() is None and attempt.result()[1] is not chosen:
        attempt.result()[1].terminate()
