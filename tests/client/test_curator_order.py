"""Delays, priorities and message IDs. Numbers refer to Curator's behaviours in docs/curator.md."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from queuelet.client import JSON, Client, Consumer, MessageState, Producer, Received
from queuelet.errors import InvalidArgument, QueueEmpty
from queuelet.tags import Tag
from support.patience import patient

WAITING = (MessageState.READY, MessageState.DELAYED)
"""The states of messages that are neither leased nor dead."""

INT32 = 1 << 31


async def items(client: Client, queue: str, count: int) -> list[int]:
    """Pop this many messages from a queue, one after the other."""
    async with Consumer(client, queue, serializer=JSON, prefetch=0, max_messages=count) as consumer:
        return [received.item async for received in consumer]


async def test_c26_a_delayed_item_is_not_delivered_before_its_time_and_one_due_now_is(
    client: Client, queue: str
) -> None:
    async with Producer(client, queue) as producer:
        await producer.put(b"later", not_before=datetime.now(UTC) + timedelta(hours=1))
        await producer.put(b"now", not_before=datetime.now(UTC) - timedelta(hours=1))
    assert (await client.pop(queue)).payload == b"now"
    with pytest.raises(QueueEmpty):
        await client.pop(queue)
    assert (await client.get_queue(queue)).messages.delayed == 1


async def test_c26_delayed_items_come_in_the_order_in_which_they_are_due(client: Client, queue: str) -> None:
    # Longer than it takes to put them, because a message that is due when it is put is ready at once.
    begin = datetime.now(UTC) + timedelta(seconds=patient(2))
    shuffled = random.sample(range(1_000), 1_000)
    async with Producer(client, queue, JSON) as producer:
        for number in shuffled:
            await producer.send(number, not_before=begin + timedelta(milliseconds=number))
    taken: list[int] = []
    async with Consumer(client, queue, serializer=JSON, max_messages=1_000) as consumer:
        async for received in consumer:
            assert received.message.not_before is not None
            taken.append(received.item)
    assert taken == list(range(1_000))


async def test_c27_a_negative_delay_is_refused(client: Client, queue: str) -> None:
    """A time in the past has no effect: the message is due now."""
    async with Producer(client, queue) as producer:
        with pytest.raises(InvalidArgument, match="delay"):
            await producer.put(b"x", delay=4e8)
        await producer.put(b"x", not_before=datetime(1970, 1, 2, tzinfo=UTC))
    assert (await client.get_queue(queue)).messages.ready == 1


async def test_c28_the_smaller_priority_comes_first_in_all_of_int32(client: Client, queue: str) -> None:
    priorities = [-INT32, INT32 - 1, 0, -1, 1, *(random.randrange(-INT32, INT32) for _ in range(95))]
    async with Producer(client, queue, JSON) as producer:
        for priority in priorities:
            await producer.send(priority, priority=priority)
    assert await items(client, queue, 100) == sorted(priorities)


async def test_c28_items_of_one_priority_come_in_the_order_of_their_puts(client: Client, queue: str) -> None:
    async with Producer(client, queue, JSON) as producer:
        for number in range(20):
            await producer.send(number, priority=number % 2)
    assert await items(client, queue, 20) == [*range(0, 20, 2), *range(1, 20, 2)]


async def test_c28_a_priority_beyond_int32_is_refused_here(client: Client, queue: str) -> None:
    async with Producer(client, queue) as producer:
        with pytest.raises(InvalidArgument, match=r"priority: .* is out of range"):
            await producer.put(b"x", priority=INT32)


async def test_c29_an_urgent_item_is_next_though_others_wait(client: Client, queue: str) -> None:
    """This holds without prefetch, because a consumer keeps the messages that it already has."""
    seen: list[int] = []

    async def handle(received: Received[int]) -> None:
        seen.append(received.item)
        if received.item == 0:
            await client.add(queue, b"99", priority=-1)

    async with Producer(client, queue, JSON) as producer:
        await producer.put_many(range(5))
    await Consumer(client, queue, handle, serializer=JSON, prefetch=0, max_messages=6).run()
    assert seen == [0, 99, 1, 2, 3, 4]


async def test_c29_a_consumer_that_keeps_some_in_advance_has_an_urgent_item_soon(client: Client, queue: str) -> None:
    """This holds within the messages that it prefetched."""
    async with Producer(client, queue, JSON) as producer:
        await producer.put_many(range(20))
    seen: list[int] = []
    async with Consumer(client, queue, serializer=JSON, prefetch=5, max_messages=21) as consumer:
        async for received in consumer:
            seen.append(received.item)
            if received.item == 0:
                await client.add(queue, b"99", priority=-1)
    assert seen.index(99) <= 1 + 5


# Ids: a tag of the producer's own, and a selector


async def remove(client: Client, queue: str, key: str) -> int:
    """Remove the messages of an ID that are not leased, as docs/curator.md shows it."""
    return await client.purge(queue, selector=f"id={key}", states=WAITING)


async def test_c30_items_with_ids_come_in_the_order_of_their_puts(client: Client, queue: str) -> None:
    ids = [f"{random.getrandbits(64):x}" for _ in range(100)]
    async with Producer(client, queue) as producer:
        for key in ids:
            await producer.send(key.encode(), tags=[Tag("id", key)])
    taken = await client.pop_batch(queue)
    assert [message.payload.decode() for message in taken] == ids
    assert [message.tags for message in taken] == [(Tag("id", key),) for key in ids]


async def test_c30_all_items_of_an_id_are_removed_and_counted(client: Client, queue: str) -> None:
    async with Producer(client, queue) as producer:
        for key in ("a", "b", "a", "c", "a"):
            await producer.send(key.encode(), tags=[Tag("id", key)])
        await producer.put(b"a", tags=[Tag("id", "a")], delay=600)
    assert await remove(client, queue, "a") == 4
    assert await remove(client, queue, "a") == 0
    assert [message.payload for message in await client.pop_batch(queue)] == [b"b", b"c"]


async def test_c30_an_empty_key_of_a_tag_is_refused(client: Client, queue: str) -> None:
    async with Producer(client, queue) as producer:
        with pytest.raises(InvalidArgument, match="key"):
            await producer.put(b"x", tags=[Tag("", "a")])


async def test_c31_an_item_that_is_worked_on_is_not_removed(client: Client, queue: str) -> None:
    await client.add(queue, b"x", tags=[Tag("id", "a")])
    async with Consumer(client, queue) as consumer:
        async for received in consumer:
            assert await remove(client, queue, "a") == 0
            assert received.is_leased
            break
    assert consumer.done == 1


async def test_c32_an_item_that_comes_again_keeps_its_id(client: Client, queue: str) -> None:
    await client.add(queue, b"x", tags=[Tag("id", "a")])

    async def fail(received: Received[bytes]) -> None:
        raise RuntimeError("it fails")

    await Consumer(client, queue, fail, max_messages=1).run()
    assert (await client.peek(queue)).tags == (Tag("id", "a"),)
    assert await remove(client, queue, "a") == 1


@pytest.mark.parametrize("key", ["orders/7", "a|b", "/|", "//", "a_b"])
async def test_cx8_ids_with_slashes_and_bars_are_what_they_are(client: Client, queue: str, key: str) -> None:
    for other in (key, "a_b_c", key.replace("/", "_").replace("|", "_") + "_"):
        await client.add(queue, other.encode(), tags=[Tag("id", other)])
    assert await remove(client, queue, key) == 1
    assert key.encode() not in [message.payload for message in await client.pop_batch(queue)]
