"""Producers and consumers survive that their queue is deleted and declared again, but not one that never existed."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from queuelet.client import Client, Consumer, Producer, QueueDefinition, Received, blocking
from queuelet.errors import QueueNotFound
from support.polling import until
from support.rpc import unique_name
from support.server_process import ServerProcess


async def declare(client: Client, name: str) -> None:
    (result,) = await client.declare_queues([QueueDefinition(name=name)])
    assert not result.error


async def test_consumers_and_producers_go_on_with_a_queue_that_is_declared_again(client: Client) -> None:
    name = unique_name()
    handled: list[bytes] = []

    async def handle(received: Received[bytes]) -> None:
        handled.append(received.item)

    await declare(client, name)
    async with asyncio.timeout(60), Producer(client, name) as producer:
        consumer = Consumer(client, name, handle)
        running = asyncio.create_task(consumer.run())
        await producer.put(b"before")
        await until(partial(has, handled, b"before"))
        for number in range(3):
            await client.delete_queue(name)
            sent = await producer.send(b"%d" % number)
            await asyncio.sleep(0.3)  # so that both find no queue
            await declare(client, name)
            await sent
            await until(partial(has, handled, b"%d" % number))
        consumer.stop()
        await running
    assert handled == [b"before", b"0", b"1", b"2"]
    await client.delete_queue(name)


async def has(items: list[bytes], item: bytes) -> bool:
    return item in items


async def test_a_queue_that_stays_away_is_an_error_when_patience_is_over(client: Client) -> None:
    name = unique_name()
    await declare(client, name)

    async def handle(_: Received[bytes]) -> None:
        pass

    async with asyncio.timeout(60), Producer(client, name, missing_for=0.2) as producer:
        consumer = Consumer(client, name, handle, missing_for=0.2)
        running = asyncio.create_task(consumer.run())
        await producer.put(b"x")
        await until(lambda: is_done(consumer))
        await client.delete_queue(name)
        with pytest.raises(QueueNotFound, match=name):
            await producer.put(b"y")
        with pytest.raises(QueueNotFound, match=name):
            await running


async def is_done(consumer: Consumer[bytes]) -> bool:
    return consumer.done > 0


async def test_a_queue_that_was_never_there_is_an_error_at_once(client: Client, server: ServerProcess) -> None:
    """Its name may be wrong. If it were awaited, the test would time out."""
    name = unique_name()

    async def handle(_: Received[bytes]) -> None:
        pass

    def put() -> None:
        with blocking.Client(server.address) as own, blocking.Producer(own, name, missing_for=3_600) as producer:
            producer.put(b"x")

    async with asyncio.timeout(30):
        with pytest.raises(QueueNotFound):
            await Consumer(client, name, handle, missing_for=3_600).run()
        async with Producer(client, name, missing_for=3_600) as producer:
            with pytest.raises(QueueNotFound):
                await producer.put(b"x")
        with pytest.raises(QueueNotFound):
            await asyncio.to_thread(put)
