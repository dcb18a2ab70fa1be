"""A pool of workers: many messages at a time, failures as dead letters, and a graceful shutdown on SIGTERM.

It puts some jobs and works until none is left. With --forever it works until it is stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from contextlib import suppress
from typing import Any

from queuelet.client import JSON, Client, Consumer, OnError, Producer, Received
from queuelet.errors import QueueExists

Job = dict[str, Any]


async def work(job: Received[Job]) -> None:
    await asyncio.sleep(0.05)  # for example a call to another service
    if str(job.item["number"]).endswith("9"):
        raise ValueError("numbers that end with 9 fail")
    print(f"did job {job.item['number']}", flush=True)


async def main(server: str, queue: str, count: int, *, forever: bool) -> None:
    async with Client(server) as client:
        with suppress(QueueExists):
            await client.new_queue(name=queue)
        async with Producer(client, queue, JSON) as producer:
            await producer.put_many({"number": number} for number in range(count))
        pool = Consumer(
            client, queue, work, serializer=JSON, concurrency=10, on_error=OnError.DEAD_LETTER, until_empty=not forever
        )
        # Running jobs are finished. Prefetched ones go back at once.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, pool.stop)
        await pool.run()
        print(f"{pool.done} done, {pool.failed} failed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="localhost:10002")
    parser.add_argument("--queue", default="jobs")
    parser.add_argument("--count", type=int, default=20, help="how many jobs to put")
    parser.add_argument("--forever", action="store_true")
    given = parser.parse_args()
    asyncio.run(main(given.server, given.queue, given.count, forever=given.forever))
