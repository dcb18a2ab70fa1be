"""Connections that are delayed, stalled, cut and half-closed at random lose no messages, and keep their order."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest

from queuelet.client import Client, Connection, Consumer, DeliverySettings, PendingPut, Producer, Received
from support.counts import soaked
from support.rough_proxy import RoughProxy
from support.server_process import ServerProcess

SECONDS = soaked(15, 600)
"""How long connections are disturbed, in seconds."""

MESSAGES = soaked(20_000, 100_000)
"""Over all queues."""

QUEUES = {"shared": 0.5, "one by one": 0.1, "in order": 0.4}
"""The share of the messages for each queue."""


class Handled:
    """The messages that a consumer was given, in order."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    async def __call__(self, received: Received[bytes]) -> None:
        """Record a message; shortly afterwards it is done."""
        self.numbers.append(int(received.item))
        await asyncio.sleep(0)


def check_prefix(numbers: Sequence[int]) -> None:
    """Check that deliveries never skip a message, though they may go back after a broken connection.

    So at any time all messages up to some number have been handled.
    """
    furthest = -1
    for number in numbers:
        assert number <= furthest + 1, f"{number} came before {furthest + 1}"
        furthest = max(furthest, number)


def check_one_by_one(numbers: Sequence[int]) -> None:
    """Check that each message comes after the previous one is done; only the last one may be redelivered."""
    for before, number in pairwise(numbers):
        assert number in {before, before + 1}, f"{number} came after {before}"


async def put_all(client: Client, queue: str, count: int, seconds: float) -> None:
    """Put numbered messages over this many seconds, each with its outcome."""
    begin = time.monotonic()
    async with Producer(client, queue, timeout=None, close_timeout=None) as producer:
        sent = []
        for number in range(count):
            sent.append(await producer.send(b"%d" % number))
            ahead = begin + seconds * number / count - time.monotonic()
            if ahead > 0:
                await asyncio.sleep(ahead)
        ids = {(await each).id for each in sent}
    assert len(ids) == count


async def run(proxy: RoughProxy, queues: dict[str, str]) -> dict[str, Handled]:
    """Put and consume through the proxy until all is done."""
    connection = Connection(server=f"127.0.0.1:{proxy.port}")
    handled = {name: Handled() for name in queues}
    async with Client(connection) as putting, Client(connection) as taking:
        consumers = [
            Consumer(taking, queues["shared"], handled["shared"], concurrency=4),
            Consumer(taking, queues["one by one"], handled["one by one"], exclusive=True, prefetch=0),
            Consumer(taking, queues["in order"], handled["in order"], exclusive=True, prefetch=50),
        ]
        working = [asyncio.create_task(consumer.run()) for consumer in consumers]
        counts = {name: int(MESSAGES * part) for name, part in QUEUES.items()}
        trouble = asyncio.create_task(gentle_after(proxy, SECONDS))
        await asyncio.gather(*(put_all(putting, queues[name], counts[name], SECONDS * 0.9) for name in queues))
        await trouble
        while any(len(set(handled[name].numbers)) < counts[name] for name in queues):
            assert not any(task.done() for task in working), "no consumer gives up"
            await asyncio.sleep(0.1)
        for consumer in consumers:
            consumer.stop()
        await asyncio.gather(*working)
    return handled


def tasks() -> list[asyncio.Task[object]]:
    """Return all tasks, but for gRPC's own: those that watch a call may outlive the call's connection."""
    return [task for task in asyncio.all_tasks() if "_AioCall" not in repr(task)]


async def gentle_after(proxy: RoughProxy, seconds: float) -> None:
    await asyncio.sleep(seconds)
    proxy.be_gentle()


@pytest.mark.timeout(SECONDS + 120)
def test_whatever_becomes_of_connections_each_message_is_handled_and_in_order() -> None:
    async def main() -> None:
        with ServerProcess() as server:
            before = len(tasks())
            async with Client(server.address) as client:
                # Each broken connection uses up a delivery of the leased messages.
                settings = DeliverySettings(max_deliveries=1_000)
                made = {name: (await client.new_queue(delivery=settings)).id for name in QUEUES}
                async with RoughProxy(server.port, seed=1) as proxy:
                    handled = await run(proxy, made)
                left = [await client.get_queue(queue) for queue in made.values()]
            assert [(each.messages.ready, each.messages.leased, each.messages.dead) for each in left] == [(0, 0, 0)] * 3
            gc.collect()
            assert len(tasks()) == before, "no task is left over"
            assert not [each for each in gc.get_objects() if isinstance(each, PendingPut | Received)], "nor a message"
        print(proxy.done, {name: (len(each.numbers), len(set(each.numbers))) for name, each in handled.items()})  # noqa: T201  # its figures
        assert proxy.done["connections"] > SECONDS / 4
        for name, part in QUEUES.items():
            assert set(handled[name].numbers) == set(range(int(MESSAGES * part))), name
        check_one_by_one(handled["one by one"].numbers)
        check_prefix(handled["in order"].numbers)

    asyncio.run(main())
