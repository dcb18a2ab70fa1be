"""The client: queues and messages as plain values, refusals as the errors the server raised.

    async with Client("localhost:10002") as client:
        await client.new_queue(name="orders", limit=1_000)
        await client.add("orders", b"hello")
        message = await client.pop("orders")

Whoever must not lose a message takes it under a lease, and says when its work is done:

    async with client.consume("orders", credit=1) as stream:
        async for news in stream:
            for delivery in news.deliveries:
                await work(delivery.message)
                await stream.ack(delivery.token, credit=1)
"""

from queuelet.client.client import Client
from queuelet.client.connection import Connection
from queuelet.client.connection_state import ConnectionState
from queuelet.client.consumption import Consumption
from queuelet.client.values import Delivery, Message, News

__all__ = ["Client", "Connection", "ConnectionState", "Consumption", "Delivery", "Message", "News"]
