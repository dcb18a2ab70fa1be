"""The leases of a stream end with its server: after a reconnect the consumer begins again where it was."""

from __future__ import annotations

import asyncio

import pytest

from queuelet.client import Client, Connection, Consumer, DeliverySettings, Producer, Received
from support.durable_server import DurableServer, durable
from support.ports import lasting_port
from support.server_process import ServerProcess

__all__ = ["durable"]

COUNT = 60


@pytest.mark.parametrize("exclusive", [False, True], ids=["shared", "exclusive"])
def test_after_a_kill_it_begins_again_at_the_first_that_is_not_done(durable: DurableServer, exclusive: bool) -> None:  # noqa: FBT001
    port = lasting_port()
    flags = ("--listen", f"127.0.0.1:{port}", "--metrics", "127.0.0.1:0", *durable.flags)
    handled: list[int] = []
    may_go_on, is_at_ten = asyncio.Event(), asyncio.Event()

    async def handle(received: Received[bytes]) -> None:
        handled.append(int(received.item))
        if len(handled) == 10:
            is_at_ten.set()
            await may_go_on.wait()

    async def main() -> None:
        async with Client(Connection(server=f"127.0.0.1:{port}")) as client:
            with ServerProcess(*flags, free_ports=False) as server:
                await client.new_queue(
                    store=durable.store_name, name="orders", delivery=DeliverySettings(lease_seconds=600)
                )
                async with Producer(client, "orders") as producer:
                    await producer.put_many(b"%d" % number for number in range(COUNT))
                consumer = Consumer(client, "orders", handle, prefetch=30, exclusive=exclusive, max_messages=COUNT)
                consuming = asyncio.create_task(consumer.run())
                await is_at_ten.wait()
                while not await asyncio.to_thread(durable.leases):  # noqa: ASYNC110  # polls a database
                    await asyncio.sleep(0.05)
                server.kill()
            with ServerProcess(*flags, free_ports=False):
                kept = (await client.get_queue("orders")).messages.leased
                may_go_on.set()
                await consuming
                left = (await client.get_queue("orders")).messages
        assert kept == 0, "no lease of a stream outlives its server"
        assert handled == list(range(COUNT))
        assert (left.ready, left.leased, left.dead) == (0, 0, 0)

    asyncio.run(main())
