"""Clients behind a real nginx: work that is longer than its idle timeout, and its own error pages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from queuelet.client import Client, Consumer, Producer, Received
from queuelet.errors import MessageTooLarge, QueueletError, Unauthenticated, Unreachable
from queuelet.v1 import queue_pb2 as pb
from support.nginx import Nginx
from support.rpc import Rpc
from support.server_process import ServerProcess

IDLE = 2
"""Seconds of silence after which nginx ends a stream."""


@pytest.fixture
def rpc(server: ServerProcess) -> Iterator[Rpc]:
    client = Rpc(server.address)
    yield client
    client.close()


async def work_behind(
    nginx: Nginx, rpc: Rpc, caplog: pytest.LogCaptureFixture, heartbeat: float
) -> tuple[list[int], list[str]]:
    """Consume with work that takes twice the idle timeout. Return the delivery counts, and the client's log."""
    queue = rpc.new_queue(delivery=pb.DeliverySettings(max_deliveries=1_000)).meta.id
    rpc.add(queue, b"x")
    counts: list[int] = []

    async def work(received: Received[bytes]) -> None:
        counts.append(received.count)
        await asyncio.sleep(2 * IDLE)

    caplog.set_level(logging.INFO, "queuelet.client")
    async with Client(nginx.address) as client:
        await Consumer(client, queue, work, heartbeat=heartbeat, until_empty=True).run()
    rpc.delete_queue(queue)
    return counts, [message for message in caplog.messages if "retrying" in message]


async def test_work_that_is_longer_than_the_idle_timeout_of_a_proxy_runs_once(
    server: ServerProcess, rpc: Rpc, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Nginx(tmp_path, server.address, idle=IDLE) as nginx:
        assert await work_behind(nginx, rpc, caplog, IDLE / 4) == ([1], [])


async def test_without_a_heartbeat_the_proxy_ends_the_stream(
    server: ServerProcess, rpc: Rpc, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """This shows that the test above needs the heartbeat."""
    with Nginx(tmp_path, server.address, idle=IDLE) as nginx:
        _, outages = await work_behind(nginx, rpc, caplog, 0)
    assert outages


async def test_a_message_that_is_too_large_for_a_proxy_is_named_so(
    server: ServerProcess, rpc: Rpc, tmp_path: Path
) -> None:
    queue = rpc.new_queue().meta.id
    with Nginx(tmp_path, server.address, body="64k") as nginx:
        async with Client(nginx.address) as client:
            with pytest.raises(MessageTooLarge, match=r"a proxy in front .* \(HTTP 413\).*client_max_body_size"):
                await client.add(queue, bytes(100_000))
            async with Producer(client, queue) as producer:
                with pytest.raises(MessageTooLarge):
                    await producer.put(bytes(100_000))
                await producer.put(b"small")
    assert rpc.get_queue(queue).messages.ready == 1
    rpc.delete_queue(queue)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_proxy_that_cannot_reach_the_server_is_reported(tmp_path: Path, status: int) -> None:
    with Nginx(tmp_path, status=status) as nginx:
        async with Client(nginx.address) as client:
            with pytest.raises(Unreachable, match=rf"a proxy in front of it answered HTTP {status}"):
                await client.get_queue("orders")


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("status", "kind"), [(400, QueueletError), (401, Unauthenticated), (403, QueueletError), (404, QueueletError)]
)
async def test_what_is_not_a_grpc_server_is_reported_and_not_waited_for(
    tmp_path: Path, status: int, kind: type[QueueletError]
) -> None:
    async def handle(_: Received[bytes]) -> None:
        pass

    with Nginx(tmp_path, status=status) as nginx:
        async with Client(nginx.address) as client:
            with pytest.raises(kind, match=rf"answered HTTP {status} instead of gRPC") as raised:
                await Consumer(client, "orders", handle).run()
    assert type(raised.value) is kind


async def test_a_server_that_is_down_behind_a_proxy_is_waited_for(
    server: ServerProcess, rpc: Rpc, tmp_path: Path
) -> None:
    queue = rpc.new_queue().meta.id
    handled: list[bytes] = []

    async def handle(received: Received[bytes]) -> None:
        handled.append(received.item)

    rpc.add(queue, b"x")
    (tmp_path / "bad").mkdir()
    with Nginx(tmp_path / "bad", "127.0.0.1:1") as nginx:
        async with Client(nginx.address) as client:
            with pytest.raises(Unreachable, match="answered HTTP 502"):
                await Consumer(client, queue, handle, reach_for=0).run()
    with Nginx(tmp_path, server.address) as nginx:
        async with Client(nginx.address) as client:
            await Consumer(client, queue, handle, max_messages=1).run()
    assert handled == [b"x"]
    rpc.delete_queue(queue)
