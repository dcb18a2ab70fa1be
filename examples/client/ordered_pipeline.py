"""Process one booking at a time and in order, however many of these run: an exclusive consumer with fencing tokens.

The database remembers the largest token that it has seen, and refuses smaller ones, so that a consumer that lost its
turn, for example during a long pause, cannot write. A booking that is redelivered is written once, by its ID.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
from contextlib import closing, suppress

from queuelet.client import JSON, Client, Consumer, Producer, Received
from queuelet.errors import QueueExists

TABLES = """
CREATE TABLE IF NOT EXISTS fence (one INTEGER PRIMARY KEY CHECK (one = 1), token INTEGER);
CREATE TABLE IF NOT EXISTS bookings (place INTEGER PRIMARY KEY, id TEXT UNIQUE, amount INTEGER, token INTEGER);
INSERT OR IGNORE INTO fence VALUES (1, 0);
"""


class OvertakenError(Exception):
    """Another process with a larger token has written since."""


def write(ledger: sqlite3.Connection, booking: Received[int]) -> None:
    token = booking.holder_token
    with ledger:  # a transaction
        allowed = ledger.execute("UPDATE fence SET token = ? WHERE token <= ?", (token, token))
        if not allowed.rowcount:
            raise OvertakenError("another process holds the queue now")
        written = (booking.id, booking.item, token)
        ledger.execute("INSERT OR IGNORE INTO bookings (id, amount, token) VALUES (?, ?, ?)", written)


async def main(server: str, queue: str, count: int, database: str) -> None:
    with closing(sqlite3.connect(database)) as ledger:
        ledger.executescript(TABLES)
        async with Client(server) as client:
            with suppress(QueueExists):
                await client.new_queue(name=queue)
            async with Producer(client, queue, JSON) as producer:
                await producer.put_many(range(count))
            async with Consumer(client, queue, serializer=JSON, exclusive=True, until_empty=True) as bookings:
                async for booking in bookings:
                    write(ledger, booking)
        total, tokens = ledger.execute("SELECT sum(amount), count(DISTINCT token) FROM bookings").fetchone()
        print(f"the bookings come to {total}, written under {tokens} token{'s' * (tokens != 1)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="localhost:10002")
    parser.add_argument("--queue", default="bookings")
    parser.add_argument("--count", type=int, default=10, help="how many bookings to put")
    parser.add_argument("--database", default=":memory:", help="SQLite database file")
    given = parser.parse_args()
    asyncio.run(main(given.server, given.queue, given.count, given.database))
