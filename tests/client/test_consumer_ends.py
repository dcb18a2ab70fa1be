"""What ends a consumer, such as a closed client or a deleted queue, and what does not."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from textwrap import indent

import pytest

from queuelet.client import Client, Closed, Consumer, Producer, Received
from queuelet.errors import QueueHeld, QueueNotFound
from support.patience import patient
from support.polling import until
from support.relay import Relay
from support.rpc import unique_name
from support.server_process import ServerProcess


async def never_end(_: Received[bytes]) -> None:
    await asyncio.Event().wait()


async def is_connected(consumer: Consumer[bytes]) -> bool:
    return consumer.was_connected


async def is_at_work(consumer: Consumer[bytes]) -> bool:
    return consumer.in_work > 0


async def closed_under(server: ServerProcess, queue: str, *, at_work: bool) -> Consumer[bytes]:
    """Return a consumer whose client was closed after it was opened."""
    async with Client(server.address) as own:
        consumer = await Consumer(own, queue, never_end if at_work else None).__aenter__()
        await until(lambda: is_at_work(consumer) if at_work else is_connected(consumer))
    return consumer


@pytest.mark.parametrize("at_work", [False, True], ids=["idle", "at work"])
async def test_a_client_that_is_closed_under_a_consumer_ends_the_calls_that_wait_for_it(
    client: Client,
    server: ServerProcess,
    queue: str,
    at_work: bool,  # noqa: FBT001
) -> None:
    await client.add(queue, b"x")
    async with asyncio.timeout(patient(30)):
        consumer = await closed_under(server, queue, at_work=at_work)
        with pytest.raises(Closed, match=r"the client is not open; open it before the consumer"):
            await consumer.wait()
        await consumer.close()
    assert (await client.pop(queue, wait=30)).payload == b"x"


async def test_a_client_that_is_closed_under_a_consumer_ends_the_iteration(server: ServerProcess, queue: str) -> None:
    async with asyncio.timeout(patient(30)):
        consumer = await closed_under(server, queue, at_work=False)
        with pytest.raises(Closed, match="the client is not open"):
            await anext(aiter(consumer))
        await consumer.close()


async def test_a_client_that_is_closed_while_its_server_is_away_ends_the_consumer(queue: str) -> None:
    async with asyncio.timeout(patient(30)):
        async with Client("127.0.0.1:1") as away:
            running = asyncio.create_task(Consumer(away, queue, never_end).run())
            await asyncio.sleep(0.5)
        with pytest.raises(Closed, match="the client is not open"):
            await running


async def test_a_client_that_was_not_opened_ends_the_consumer(server: ServerProcess, queue: str) -> None:
    async with asyncio.timeout(patient(30)):
        with pytest.raises(Closed, match="the client is not open"):
            await Consumer(Client(server.address), queue, never_end).run()


async def test_a_stream_whose_client_is_closed_is_closed_too(server: ServerProcess, queue: str) -> None:
    async with asyncio.timeout(patient(30)):
        async with Client(server.address) as own:
            late = own.consume(queue)
            stream = await own.consume(queue).__aenter__()
            listening = asyncio.create_task(anext(stream))
            await asyncio.sleep(0.1)
        with pytest.raises(Closed):
            await listening
        with pytest.raises(Closed):
            await late.__aenter__()


async def test_an_idle_consumer_whose_connection_is_cut_without_a_word_connects_again(
    client: Client, server: ServerProcess, queue: str
) -> None:
    handled: list[bytes] = []

    async def handle(received: Received[bytes]) -> None:
        handled.append(received.item)

    with Relay(server.port) as relay:
        async with Client(relay.address) as relayed:
            consumer = Consumer(relayed, queue, handle, max_messages=1)
            running = asyncio.create_task(consumer.run())
            await until(lambda: is_connected(consumer))
            relay.silence()
            await client.add(queue, b"x")
            await running
    assert handled == [b"x"]


async def test_a_queue_that_is_deleted_ends_the_consumer(client: Client) -> None:
    made = await client.new_queue(name=unique_name())
    consumer = Consumer(client, made.name, never_end, missing_for=0)
    async with asyncio.timeout(patient(30)):
        running = asyncio.create_task(consumer.run())
        await until(lambda: is_connected(consumer))
        await client.delete_queue(made.name)
        with pytest.raises(QueueNotFound):
            await running


async def test_an_exclusive_consumer_ends_those_that_are_not_and_gets_their_messages(
    client: Client, queue: str
) -> None:
    await client.add(queue, b"x")
    shared = Consumer(client, queue, never_end)
    counts: list[int] = []

    async def note(received: Received[bytes]) -> None:
        counts.append(received.count)

    async with asyncio.timeout(patient(30)):
        running = asyncio.create_task(shared.run())
        await until(lambda: is_at_work(shared))
        await Consumer(client, queue, note, exclusive=True, max_messages=1).run()
        with pytest.raises(QueueHeld):
            await running
    assert counts == [2]
    assert (shared.done, shared.failed) == (0, 0)


PROGRAM = """
import asyncio
import sys

from queuelet.client import Client, Consumer, OnError


async def handle(received):
    begun.set()
    await asyncio.sleep(600)


async def close_at_the_end(consumer):
    try:
        await asyncio.Event().wait()
    finally:
        await consumer.close()


async def main():
    client = await Client(sys.argv[1]).__aenter__()
    consumer = Consumer(client, sys.argv[2], handle, prefetch=5, on_error=OnError.DROP)
{forgets}


begun = asyncio.Event()
asyncio.run(main())
"""


@pytest.mark.parametrize(
    "forgets",
    [
        pytest.param("await consumer.__aenter__()\nawait begun.wait()", id="an open consumer at work"),
        pytest.param(
            "task = asyncio.create_task(consumer.run())\nawait begun.wait()", id="a task that runs a consumer"
        ),
        pytest.param(
            "await consumer.__aenter__()\nawait begun.wait()\n"
            "task = asyncio.create_task(close_at_the_end(consumer))\nawait asyncio.sleep(0)",
            id="a task that waits for the work",
        ),
    ],
)  # fmt: skip
async def test_a_program_that_forgets_its_consumer_ends_and_its_messages_go_back(
    client: Client, server: ServerProcess, queue: str, forgets: str
) -> None:
    async with Producer(client, queue) as producer:
        await producer.put_many([b"1", b"2"])
    program = [sys.executable, "-c", PROGRAM.format(forgets=indent(forgets, "    ")), server.address, queue]
    ended = await asyncio.to_thread(subprocess.run, program, timeout=60, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert b"failed" not in ended.stderr, "the work was cut off"
    assert [(await client.pop(queue, wait=30)).payload for _ in range(2)] == [b"1", b"2"]
