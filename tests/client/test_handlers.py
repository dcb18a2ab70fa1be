"""Handlers of the wrong kind end the consumer with an error. If a handler cancels itself, only its message fails."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from queuelet.client import Client, Consumer, Handler, MessageState, OnError, Producer, Received, blocking
from support.patience import patient
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
        raise AssertionError("this must not be awaited")

    async with Producer(client, queue) as producer:
        await producer.put(b"1")

    def consume() -> None:
        with blocking.Client(server.address) as blocking_client:
            blocking.Consumer(blocking_client, queue, lambda received: handle(received)).run()  # noqa: PLW0108  # a plain function

    with pytest.raises(TypeError, match=r"use queuelet\.client\.Consumer"):
        await asyncio.to_thread(consume)
    assert MessageState.DEAD not in [each.state async for each in client.browse(queue)]
    assert sum(await left(client, queue)) == 1


async def cancel_and_wait(_: Received[bytes]) -> None:
    cancel_this_task()
    await asyncio.Event().wait()


async def cancel_and_return(_: Received[bytes]) -> None:
    cancel_this_task()


def cancel_this_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


@pytest.mark.parametrize("cancel", [cancel_and_wait, cancel_and_return], ids=["and waits", "and returns"])
async def test_a_handler_that_cancels_its_task_fails_and_the_next_message_is_handled(
    client: Client, queue: str, cancel: Handler[bytes]
) -> None:
    handled: list[bytes] = []

    async def handle(received: Received[bytes]) -> None:
        if received.item == b"1":
            await cancel(received)
        await asyncio.sleep(0)
        handled.append(received.item)

    async with Producer(client, queue) as producer:
        await producer.put_many([b"1", b"2"])
    consumer = Consumer(client, queue, handle, on_error=OnError.DEAD_LETTER, until_empty=True)
    async with asyncio.timeout(patient(30)):
        await consumer.run()
    assert handled == [b"2"]
    assert (consumer.done, consumer.failed) == (1, 1)
    (dead,) = [each async for each in client.browse(queue, states=[MessageState.DEAD])]
    assert dead.message.payload == b"1"
    assert dead.tries[0].reason == "CancelledError"


async def test_a_handler_that_keeps_the_cancellation_of_its_task_to_itself_is_done(client: Client, queue: str) -> None:
    async def handle(received: Received[bytes]) -> None:
        with suppress(asyncio.CancelledError):
            await cancel_and_wait(received)

    async with Producer(client, queue) as producer:
        await producer.put_many([b"1", b"2"])
    consumer = Consumer(client, queue, handle, until_empty=True)
    async with asyncio.timeout(patient(30)):
        await consumer.run()
    assert (consumer.done, consumer.failed) == (2, 0)
