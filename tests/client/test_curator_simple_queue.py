"""A queue used with add, peek and pop. Numbers refer to Curator's behaviours in docs/curator.md."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from queuelet.client import Client, Message
from queuelet.errors import QueueEmpty, QueueNotFound
from support.polling import until
from support.server_process import ServerProcess

Take = Callable[[Client, str], Awaitable[Message]]


async def pop_with_a_wait(client: Client, queue: str) -> Message:
    """Pop, and wait a little if the queue is empty."""
    return await client.pop(queue, wait=0.05)


async def test_c33_what_is_offered_is_taken_in_order_by_the_consumer_that_comes_first(
    client: Client, server: ServerProcess, queue: str
) -> None:
    """This holds for all 256 byte values, and for another connection."""
    payloads = [bytes(range(256)), b"", *(b"%d" % number for number in range(98))]
    for payload in payloads:
        await client.add(queue, payload)
    async with Client(server.address) as other:
        taken = [await each.pop(queue) for _ in range(50) for each in (client, other)]
    assert [message.payload for message in taken] == payloads


@pytest.mark.parametrize("take", [Client.peek, Client.pop, pop_with_a_wait])
async def test_c34_an_empty_queue_differs_from_an_empty_message(client: Client, queue: str, take: Take) -> None:
    """An error of its own reports it instead of None, also at the end of a wait."""
    with pytest.raises(QueueEmpty):
        await take(client, queue)
    await client.add(queue, b"")
    assert (await take(client, queue)).payload == b""


async def test_c34_a_take_waits_for_an_offer_again_and_again(client: Client, queue: str) -> None:
    for number in range(3):
        taking = asyncio.create_task(client.pop(queue, wait=30))
        done, _ = await asyncio.wait([taking], timeout=0.02)
        assert not done
        await client.add(queue, b"%d" % number)
        assert (await taking).payload == b"%d" % number


async def test_c35_a_look_takes_nothing(client: Client, queue: str) -> None:
    for number in range(5):
        await client.add(queue, b"%d" % number)
    for number in range(5):
        for _ in range(2):
            assert (await client.peek(queue)).payload == b"%d" % number
        await client.pop(queue)


async def test_c36_a_take_does_not_hang_where_its_queue_goes_away(client: Client, queue: str) -> None:
    taking = asyncio.create_task(client.pop(queue, wait=30))

    async def is_waiting() -> int:
        return (await client.stats(queue)).waiting_calls

    await until(is_waiting)
    await client.delete_queue(queue)
    with pytest.raises(QueueNotFound):
        await taking
    await client.new_queue(name=queue)
    await client.add(queue, b"x")
    assert (await client.pop(queue, wait=30)).payload == b"x"


# The blocking consumer


async def test_c39_what_waits_can_be_looked_through_counted_and_taken_at_once(client: Client, queue: str) -> None:
    """getItems, size and drainTo."""
    for number in range(5):
        await client.add(queue, b"%d" % number)
    payloads = [b"%d" % number for number in range(5)]
    assert [each.message.payload async for each in client.browse(queue)] == payloads
    assert (await client.get_queue(queue)).messages.ready == 5
    assert [message.payload for message in await client.pop_batch(queue)] == payloads
    assert await client.pop_batch(queue) == []


async def test_c39_a_take_with_a_wait_ends_with_a_message_or_with_nothing(client: Client, queue: str) -> None:
    assert await client.pop_batch(queue, 1, wait=0.02) == []
    taking = asyncio.create_task(client.pop_batch(queue, 1, wait=30))
    await client.add(queue, b"x")
    assert [message.payload for message in await taking] == [b"x"]
