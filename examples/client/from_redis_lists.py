"""From Redis lists: each command and its replacement, and how to move the queued items.

It needs a Redis server, and `pip install redis`.

    RPUSH                    producer.put
    BLPOP                    client.pop(wait=...), at most once too
    BLMOVE, work, LREM       Consumer: unfinished work is redelivered, and there is no list to clean up
    LLEN, LRANGE, DEL        client.get_queue, client.browse, client.purge
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import suppress
from typing import Any

from queuelet.client import Client, Consumer, Producer, Received
from queuelet.errors import QueueExists

try:
    import redis.asyncio as redis  # type: ignore[import-not-found, unused-ignore]  # no part of Queuelet needs it
except ImportError:
    sys.exit("this example needs redis: pip install redis")


async def with_redis(lists: Any, name: str, count: int) -> list[bytes]:  # noqa: ANN401  # Redis may not be installed
    for number in range(count):
        await lists.rpush(name, b"order %d" % number)
    return [(await lists.blpop([name], timeout=5))[1] for _ in range(count)]


async def with_queuelet(client: Client, name: str, count: int) -> list[bytes]:
    taken = []

    async def handle(order: Received[bytes]) -> None:
        taken.append(order.item)

    async with Producer(client, name) as producer:
        for number in range(count):
            await producer.put(b"order %d" % number)
    await Consumer(client, name, handle, max_messages=count).run()
    return taken


async def move(lists: Any, client: Client, name: str) -> int:  # noqa: ANN401  # as above
    """Move the items of a list after its consumers have stopped. After an interruption the last items are repeated."""
    moved = 0
    async with Producer(client, name) as producer:
        while items := await lists.lrange(name, 0, 999):
            await producer.put_many(items)
            await lists.ltrim(name, len(items), -1)
            moved += len(items)
    return moved


async def main(server: str, address: str, name: str, count: int) -> None:
    async with redis.from_url(address) as lists, Client(server) as client:
        with suppress(QueueExists):
            await client.new_queue(name=name)
        before, after = await with_redis(lists, name, count), await with_queuelet(client, name, count)
        print("the same items in the same order:", before == after)
        await lists.rpush(name, *before)
        print("moved:", await move(lists, client, name), "- now here:", len(await client.pop_batch(name)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Move from Redis lists to Queuelet.")
    parser.add_argument("--server", default="localhost:10002")
    parser.add_argument("--redis", default="redis://localhost:6379")
    parser.add_argument("--queue", default="orders-from-redis")
    parser.add_argument("--count", type=int, default=10)
    given = parser.parse_args()
    asyncio.run(main(given.server, given.redis, given.queue, given.count))
