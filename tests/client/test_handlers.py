"""Handlers of the wrong kind: the consumer ends with a sentence, and their messages are there for another."""

from __future__ import annotations

import asyncio

import pytest

from queuelet.client import Client, Consumer, Producer, Received, blocking
from queuelet.v1 import queue_pb2 as pb
from support.server_process import ServerProcess


async def left(client: Client, queue: str) -> tuple[int, int]:
    """Return how many messages are ready and dead."""
    messages = (await client.get_queue(queue)).messages
    return messages.ready, messages.dead


async def test_a_plain_function_is_no_handler_of_an_async_consumer(client: Client, queue: str) -> None:
    handled: list[bytes] = []

    def handle(received: Received[bytes]) -> None:
        handled.append(received.item)

    async with Producer(client, queue) as producer:
        await producer.put_many([b"1", b"2"])
    with pytest.raises(TypeError, match="make it `async def`"):
        await Consumer(client, queue, handle).run()  # type: ignore[arg-type]  # the mistake
    assert handled == [b"1"]
    assert await left(client, queue) == (2, 0)


async def test_what_returns_a_coroutine_is_no_handler_of_a_blocking_consumer(
    client: Client, queue: str, server: ServerProcess
) -> None:
    async def handle(_: Received[bytes]) -> None:
        raise AssertionError("nobody awaits this")

    async with Producer(client, queue) as producer:
        await producer.put(b"1")

    def consume() -> None:
        with blocking.Client(server.address) as blocking_client:
            blocking.Consumer(blocking_client, queue, lambda received: handle(received)).run()  # noqa: PLW0108  # a plain function

    with pytest.raises(TypeError, match=r"use queuelet\.client\.Consumer"):
        await asyncio.to_thread(consume)
    assert pb.MESSAGE_STATE_DEAD not in [each.state async for each in client.browse(queue)]
    assert sum(await left(client, queue)) == 1
