"""The producer: what it does with messages that are refused, callers that go away, and servers that are small."""

from __future__ import annotations

import asyncio
import time

import pytest

from queuelet.client import Client, Connection, Producer
from queuelet.errors import InvalidArgument, Unreachable
from queuelet.tags import Tag
from support.server_process import ServerProcess


async def payloads(client: Client, queue: str) -> list[bytes]:
    """Take all there is."""
    return [message.payload for message in await client.pop_batch(queue)]


async def test_a_message_that_breaks_a_rule_fails_and_no_other_does(client: Client, queue: str) -> None:
    async with Producer(client, queue) as producer:
        sent = [
            await producer.send(b"%d" % number, tags=[Tag("k" * 300, "v")] if number == 5 else ())  # any
            for number in range(10)
        ]
        outcomes = await asyncio.gather(*sent, return_exceptions=True)
    assert [number for number, outcome in enumerate(outcomes) if isinstance(outcome, InvalidArgument)] == [5]
    assert await payloads(client, queue) == [b"%d" % number for number in range(10) if number != 5]


async def test_an_item_of_another_type_is_refused_and_the_producer_goes_on(client: Client, queue: str) -> None:
    async with Producer(client, queue) as producer:
        await producer.send(b"1")
        with pytest.raises(TypeError, match="a payload is bytes, and the serializer made str of str"):
            await producer.put("2")  # type: ignore[arg-type]  # the mistake
        await producer.put(b"3")
    assert await payloads(client, queue) == [b"1", b"3"]


async def test_a_busy_task_leaves_room_to_others(client: Client, queue: str) -> None:
    """Whoever waits for room in the buffer is let in before those who come later."""
    async with Producer(client, queue, buffer_messages=10) as producer:

        async def keep_busy() -> None:
            while True:
                await producer.send(b"busy")

        busy = asyncio.create_task(keep_busy())
        for _ in range(20):
            await producer.put(b"urgent", timeout=30)
        busy.cancel()
        await asyncio.wait([busy])


async def test_batches_are_as_small_as_the_server_wants_them() -> None:
    with ServerProcess("--max-batch", "7", "--max-message-bytes", "16Ki") as server:
        async with Client(server.address) as client:
            queue = (await client.new_queue()).meta.id
            async with Producer(client, queue) as producer:
                outcomes = await producer.put_many(b"%d" % number for number in range(100))
            assert len({outcome.id for outcome in outcomes}) == 100
            taken = [message.payload for _ in range(20) for message in await client.pop_batch(queue, 7)]
            assert taken == [b"%d" % number for number in range(100)]


async def test_messages_larger_than_a_batch_go_alone_and_in_order(client: Client, queue: str) -> None:
    """A request that gRPC refuses for its size is sent in parts, too."""
    mebibyte = 1024 * 1024
    async with Producer(client, queue, batch_bytes=100 * mebibyte) as producer:
        await producer.put_many(bytes((number,)) * mebibyte for number in range(10))
    firsts = [(await client.pop(queue)).payload[0] for _ in range(10)]
    assert firsts == list(range(10))


async def test_a_put_that_is_cancelled_on_its_way_has_no_more_than_one_message(client: Client, queue: str) -> None:
    """Its fate is that of the call under way: added or not, and others go on behind it."""
    async with Producer(client, queue) as producer:
        putting = asyncio.create_task(producer.put(b"cancelled"))
        await asyncio.sleep(0)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        await producer.put(b"next")
    assert await payloads(client, queue) in ([b"cancelled", b"next"], [b"next"])


async def test_a_put_that_is_cancelled_before_it_is_sent_is_called_back(client: Client, small: str) -> None:
    """Here an earlier one is under way, for there is no room."""
    async with Producer(client, small) as producer:
        await producer.put(b"first")
        under_way = asyncio.create_task(producer.put(b"under way"))
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(producer.put(b"waiting"))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert await payloads(client, small) == [b"first"]
        await under_way
        assert await payloads(client, small) == [b"under way"]
        await producer.put(b"last")
    assert await payloads(client, small) == [b"last"]


async def test_who_does_not_want_to_try_again_hears_at_once() -> None:
    connection = Connection(server="127.0.0.1:1", retry_for=0)
    begin = time.monotonic()
    async with Client(connection) as client, Producer(client, "orders", timeout=600) as producer:
        with pytest.raises(Unreachable):
            await producer.put(b"x")
    assert time.monotonic() - begin < 300, "long before its patience is over"


async def test_many_producers_at_the_same_time_do_without_being_remembered(client: Client, queue: str) -> None:
    """A queue keeps 1,000 answers; the message of one producer more is added all the same."""
    async with Producer(client, queue) as producer:
        await producer.put_many([b"x"] * 999)
    for number in range(999):  # and the answer of the batch is one more
        await client.pop(queue, request_id=f"call {number}")
    async with Producer(client, queue) as producer:
        await producer.put(b"more")
    assert await payloads(client, queue) == [b"more"]
