"""Iterating over a consumer: the effect of cancellation, timeouts and leaving the loop on messages."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from queuelet.client import Client, Consumer, Producer
from support.patience import patient
from support.polling import until


async def is_done(consumer: Consumer[bytes]) -> bool:
    return consumer.done == 1


async def test_a_reader_may_give_up_and_ask_again_and_no_message_is_lost(client: Client, queue: str) -> None:
    numbers = [b"%d" % number for number in range(200)]
    taken: list[bytes] = []

    async def put() -> None:
        async with Producer(client, queue) as producer:
            for number in numbers:
                await producer.put(number)

    async with asyncio.timeout(patient(60)), asyncio.TaskGroup() as group, Consumer(client, queue) as consumer:
        messages = aiter(consumer)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(messages), 0.01)
        group.create_task(put())
        while len(taken) < len(numbers):
            with suppress(TimeoutError):
                taken.append((await asyncio.wait_for(anext(messages), 0.001)).item)
    assert taken == numbers
    assert consumer.done == len(numbers)


async def test_asking_acknowledges_the_message_before_though_it_is_given_up(client: Client, queue: str) -> None:
    await client.add(queue, b"x")
    async with Consumer(client, queue) as consumer:
        messages = aiter(consumer)
        await anext(messages)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(messages), 0.01)
        await until(lambda: is_done(consumer))


async def test_an_iterator_that_has_ended_stays_ended(client: Client, queue: str) -> None:
    await client.add(queue, b"x")
    async with Consumer(client, queue, max_messages=1) as consumer:
        messages = aiter(consumer)
        assert [each.item async for each in messages] == [b"x"]
        assert await anext(messages, None) is None


async def test_the_message_at_which_a_loop_is_left_is_acknowledged_as_the_block_ends(
    client: Client, queue: str
) -> None:
    await client.add(queue, b"x")
    async with Consumer(client, queue) as consumer:
        async for _ in consumer:
            break
        assert (await client.get_queue(queue)).messages.leased == 1
    assert consumer.done == 1


async def test_the_message_at_which_a_loop_is_left_outside_of_a_block_goes_back(client: Client, queue: str) -> None:
    await client.add(queue, b"x")
    async for received in Consumer(client, queue):
        assert received.item == b"x"
        break
    assert (await client.pop(queue, wait=30)).payload == b"x"
