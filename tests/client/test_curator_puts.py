"""Background puts and bounded queues. Numbers refer to Curator's behaviours in docs/curator.md."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from queuelet.client import Added, Client, Consumer, Producer, PutsFailed, Received
from queuelet.errors import InvalidArgument, QueueFull, QueueletError, QueueNotFound
from support.rpc import unique_name
from support.server_process import ServerProcess

PUTS = 1_000
"""For each of four clients, as in Curator's own test."""

LIMIT = 10


async def test_c21_each_put_in_the_background_is_reported_once(client: Client, queue: str) -> None:
    reported: list[Added | QueueletError] = []
    async with Producer(client, queue) as producer:
        for _ in range(10):
            (await producer.send(b"x")).add_done_callback(reported.append)
    assert len(reported) == 10
    assert {each.id for each in reported if isinstance(each, Added)} == {
        message.id for message in await client.pop_batch(queue)
    }


async def test_c22_flush_reports_whether_everything_is_put(client: Client, small: str) -> None:
    async with Producer(client, small) as producer:
        assert await producer.flush(0)
        await producer.send(b"1")
        assert await producer.flush()
        await producer.send(b"2")
        assert not await producer.flush(0.05)
        await client.pop(small)
        assert await producer.flush()
    assert (await client.pop(small)).payload == b"2"


async def test_c23_a_timed_put_on_a_full_queue_waits_and_gives_up(client: Client, small: str) -> None:
    """Leased messages count. Once it is done, all accepted messages arrive in order."""
    payloads: list[bytes] = []
    goes_on = asyncio.Event()

    async def handle(received: Received[bytes]) -> None:
        payloads.append(received.item)
        await goes_on.wait()

    async with Producer(client, small) as producer, Consumer(client, small, handle, max_messages=4) as consumer:
        await producer.put(b"1")
        with pytest.raises(QueueFull):
            await producer.put(b"no room", timeout=0.05)
        goes_on.set()
        for payload in (b"2", b"3", b"4"):
            await producer.put(payload, timeout=30)
        await consumer.wait()
    assert payloads == [b"1", b"2", b"3", b"4"]


async def test_c24_a_put_on_a_full_queue_waits_until_there_is_room(client: Client, small: str) -> None:
    async with Producer(client, small, timeout=None) as producer:
        await producer.put(b"1")
        waiting = asyncio.create_task(producer.put(b"2"))
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        assert not done
        assert (await client.pop(small)).payload == b"1"
        await waiting
    assert (await client.pop(small)).payload == b"2"


async def test_c25_a_queue_never_holds_more_than_its_limit_however_many_put(
    client: Client, server: ServerProcess
) -> None:
    """Four clients put 1,000 messages each, as fast as they can, while the limit is checked."""
    name = (await client.new_queue(name=unique_name(), limit=LIMIT)).name
    handled: list[bytes] = []

    async def handle(received: Received[bytes]) -> None:
        handled.append(received.item)

    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(server.address)) for _ in range(4)]
        producers = [await stack.enter_async_context(Producer(each, name)) for each in clients]
        puts = [
            asyncio.create_task(producer.put_many([b"%d-%d" % (number, count) for count in range(PUTS)]))
            for number, producer in enumerate(producers)
        ]
        work = asyncio.create_task(Consumer(client, name, handle, max_messages=4 * PUTS).run())
        deepest = 0
        while not work.done():
            messages = (await client.get_queue(name)).messages
            deepest = max(deepest, messages.ready + messages.leased)
        await work
        await asyncio.gather(*puts)
    assert 0 < deepest <= LIMIT
    assert len(set(handled)) == len(handled) == 4 * PUTS
    for number in range(4):
        own = [payload for payload in handled if payload.startswith(b"%d-" % number)]
        assert own == [b"%d-%d" % (number, count) for count in range(PUTS)]


async def test_cx3_a_slow_consumer_holds_as_many_as_it_may_and_the_rest_waits(client: Client, queue: str) -> None:
    """The server keeps the messages for which a bounded buffer would have no space."""
    async with Producer(client, queue) as producer:
        await producer.put_many([b"x"] * 20)
    taken = 0
    most_leased = 0
    async with Consumer(client, queue, prefetch=2, max_messages=20) as consumer:
        async for _ in consumer:
            taken += 1
            most_leased = max(most_leased, (await client.get_queue(queue)).messages.leased)
    assert taken == 20
    assert most_leased <= 3


async def test_cx4_a_put_in_the_background_that_fails_is_reported_and_flush_ends(client: Client, queue: str) -> None:
    reported: list[Added | QueueletError] = []
    async with Producer(client, queue) as producer:
        (await producer.send(b"x", delay=4e8)).add_done_callback(reported.append)
        assert await producer.flush()
        assert isinstance(reported[0], InvalidArgument)
        await client.delete_queue(queue)
        (await producer.send(b"x")).add_done_callback(reported.append)
        assert await producer.flush()
        assert isinstance(reported[1], QueueNotFound)


async def test_cx4_a_put_in_the_background_that_no_caller_awaits_is_reported_at_the_end(
    client: Client, queue: str
) -> None:
    producer = await Producer(client, queue).__aenter__()
    await producer.send(b"kept")
    await producer.send(b"refused", ttl=4e8)
    assert await producer.flush()
    with pytest.raises(PutsFailed) as reported:
        await producer.__aexit__(None, None, None)
    assert reported.value.failed == 1
    assert isinstance(reported.value.errors[0], InvalidArgument)
    assert [message.payload for message in await client.pop_batch(queue)] == [b"kept"]
