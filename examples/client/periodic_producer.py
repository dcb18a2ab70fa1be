"""Put a message periodically, without drift, and only once even if two of these run for redundancy.

The ID of each message is derived from queue and time, so that the second process adds nothing as long as the first
message is still queued. A message that cannot be put in time is skipped, and the next one is tried.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from contextlib import suppress
from uuid import NAMESPACE_URL, uuid5

from queuelet.client import TEXT, Client, Producer
from queuelet.errors import QueueExists, QueueletError


async def main(server: str, queue: str, every: float, count: int) -> None:
    async with Client(server) as client:
        with suppress(QueueExists):
            await client.new_queue(name=queue)
        async with Producer(client, queue, TEXT, timeout=every) as producer:
            first = int(time.time() / every) + 1
            for tick in range(first, first + count):
                await asyncio.sleep(tick * every - time.time())
                message_id = str(uuid5(NAMESPACE_URL, f"{queue}/{every}/{tick}"))
                try:
                    added = await producer.put(f"tick {tick}", message_id=message_id)
                except QueueletError as error:
                    print(f"skipped tick {tick}: {error}", flush=True)
                else:
                    print("another process was first" if added.duplicate else f"put tick {tick}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="localhost:10002")
    parser.add_argument("--queue", default="ticks")
    parser.add_argument("--every", type=float, default=0.5, help="in seconds")
    parser.add_argument("--count", type=int, default=5)
    given = parser.parse_args()
    asyncio.run(main(given.server, given.queue, given.every, given.count))
