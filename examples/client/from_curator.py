"""Move from Apache Curator: import the items of a ZooKeeper queue, then consume them as Curator's consumer did.

With --zookeeper it runs `queuelet import-curator --remove`, which needs `pip install 'queuelet[curator]'`. It can be
run again after any interruption, because an item that is already queued is not added twice.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from contextlib import suppress

from queuelet.client import TEXT, Client, ConnectionState, Consumer, OnError, Received
from queuelet.errors import QueueExists


class OrderConsumer:
    """The class that implemented Curator's QueueConsumer: `consumeMessage` and `stateChanged`."""

    async def consume_message(self, order: Received[str]) -> None:
        """Process one item. It is removed on return, and redelivered if this raises."""
        print("got", order.item)

    def state_changed(self, state: ConnectionState) -> None:
        """Report the state of the connection."""
        print("connection:", state.name)


def import_items(server: str, queue: str, zookeeper: str, path: str) -> None:
    """Move the items of a path of ZooKeeper into a queue."""
    command = ["import-curator", queue, path, "--zookeeper", zookeeper, "--remove", "--server", server]
    subprocess.run([sys.executable, "-m", "queuelet", *command], check=True)


async def main(server: str, queue: str, zookeeper: str, path: str) -> None:
    async with Client(server) as client:
        with suppress(QueueExists):
            await client.new_queue(name=queue)
        if zookeeper:
            await asyncio.to_thread(import_items, server, queue, zookeeper, path)
        orders = OrderConsumer()
        client.listen(orders.state_changed)
        consumer = Consumer(
            client,
            queue,
            orders.consume_message,
            serializer=TEXT,  # the payload is the text that the QueueSerializer wrote
            on_error=OnError.REQUEUE,  # as Curator's ErrorMode
            until_empty=True,  # without it the consumer runs until it is stopped
        )
        await consumer.run()
        print(f"{consumer.done} done")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="localhost:10002")
    parser.add_argument("--queue", default="orders-from-curator")
    parser.add_argument("--zookeeper", default="", help="host:port; without it nothing is imported")
    parser.add_argument("--path", default="/queues/orders")
    given = parser.parse_args()
    asyncio.run(main(given.server, given.queue, given.zookeeper, given.path))
