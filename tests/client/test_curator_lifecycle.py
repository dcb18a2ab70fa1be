"""Opening and closing. Numbers refer to Curator's behaviours in docs/curator.md."""

from __future__ import annotations

import asyncio

import pytest

from queuelet.client import Client, Closed, Consumer, DeclareOutcome, Producer, PutsFailed, Received
from queuelet.errors import InvalidArgument, QueueFull, QueueNotFound
from support.patience import patient


async def ignore(received: Received[bytes]) -> None:
    """Handle a message."""


async def test_c01_a_put_before_the_start_or_after_the_close_is_refused(client: Client, queue: str) -> None:
    producer = Producer(client, queue)
    with pytest.raises(Closed):
        await producer.put(b"early")
    async with producer:
        await producer.put(b"in time")
    with pytest.raises(Closed):
        await producer.put(b"late")
    assert (await client.get_queue(queue)).messages.ready == 1


async def test_c01_a_second_start_is_refused(client: Client, queue: str) -> None:
    """This holds for producers and consumers, both open and closed ones."""
    async with Producer(client, queue) as producer:
        with pytest.raises(Closed):
            await producer.__aenter__()
    with pytest.raises(Closed):
        await producer.__aenter__()
    async with Consumer(client, queue, ignore) as consumer:
        with pytest.raises(Closed):
            await consumer.__aenter__()
    with pytest.raises(Closed):
        await consumer.run()


async def test_c02_declaring_a_queue_that_is_there_leaves_it_as_it_is(client: Client, queue: str) -> None:
    await client.add(queue, b"kept")
    made = await client.get_queue(queue)
    (result,) = await client.declare_queues([made.definition])
    assert result.outcome is DeclareOutcome.UNCHANGED
    assert result.queue
    assert result.queue.messages.ready == 1


async def test_c02_a_queue_that_does_not_exist_is_refused_and_not_made_by_mistake(client: Client) -> None:
    """This is on purpose, because a misspelt name would be a queue without consumers."""
    async with Producer(client, "never-created") as producer:
        with pytest.raises(QueueNotFound):
            await producer.put(b"x")
    with pytest.raises(QueueNotFound):
        await Consumer(client, "never-created", ignore).run()


async def test_c03_a_producer_alone_takes_nothing(client: Client, queue: str) -> None:
    async with Producer(client, queue) as producer:
        await producer.put_many([b"1", b"2"])
    stats = await client.stats(queue)
    assert stats.queue.messages.ready == 2
    assert stats.leased == stats.consumed == 0


async def test_c04_closing_sends_what_is_pending(client: Client, queue: str) -> None:
    async with Producer(client, queue, linger=60) as producer:
        for number in range(10):
            await producer.send(b"%d" % number)
    assert (await client.get_queue(queue)).messages.ready == 10


async def test_c04_closing_gives_up_after_its_time_and_reports_what_was_not_put(client: Client, small: str) -> None:
    await client.add(small, b"in the way")
    producer = await Producer(client, small, close_timeout=0.05).__aenter__()
    sent = await producer.send(b"no room")
    with pytest.raises(PutsFailed) as raised:
        await producer.__aexit__(None, None, None)
    assert raised.value.failed == 1
    assert sent.done()


async def test_c04_a_second_close_does_nothing(client: Client, queue: str) -> None:
    async with Producer(client, queue) as producer:
        await producer.close()
        await producer.close()
    async with Consumer(client, queue, ignore) as consumer:
        await consumer.close()
        await consumer.close()


async def test_c04_closing_ends_what_waits_for_the_consumer_though_work_is_cut_off(client: Client, queue: str) -> None:
    await client.add(queue, b"x")
    begun = asyncio.Event()

    async def handle(received: Received[bytes]) -> None:
        begun.set()
        await asyncio.Event().wait()

    consumer = Consumer(client, queue, handle)
    running = asyncio.create_task(consumer.run())
    await begun.wait()
    await consumer.close(0.01)
    async with asyncio.timeout(patient(10)):
        await running
    assert (await client.pop(queue, wait=30)).payload == b"x"


async def test_c05_what_makes_no_sense_is_refused_when_it_is_made(client: Client, queue: str) -> None:
    with pytest.raises(ValueError, match="batch_messages"):
        Producer(client, queue, batch_messages=0)
    with pytest.raises(ValueError, match="concurrency"):
        Consumer(client, queue, ignore, concurrency=0)
    for limit in (0, -2):
        with pytest.raises(InvalidArgument, match="limit"):
            await client.new_queue(limit=limit)
    with pytest.raises(InvalidArgument, match="name"):
        await client.new_queue(name="/queues/orders")


async def test_c05_a_queue_of_one_message_takes_one(client: Client, small: str) -> None:
    async with Producer(client, small, wait_for_room=False) as producer:
        await producer.put(b"1")
        with pytest.raises(QueueFull):
            await producer.put(b"2")
