"""Streams of consumers: heartbeats, frozen programs, and messages that wait behind slow work."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import grpc
import pytest

from queuelet.client import Client, Consumer, DeliverySettings, Producer, Received
from queuelet.client.finished import Finished
from queuelet.client.messages import Delivery
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import SERVICE
from support.polling import until
from support.relay import Relay
from support.rpc import Rpc, eventually, pop_request
from support.server_process import ServerProcess

MIB = 1024 * 1024


async def put(client: Client, queue: str, *payloads: bytes) -> None:
    async with Producer(client, queue) as producer:
        await producer.put_many(payloads)


async def is_at_work(consumer: Consumer[bytes]) -> bool:
    return consumer.in_work > 0


# Messages that wait behind slow work


async def test_what_waits_behind_slow_work_goes_to_an_idle_consumer(client: Client, queue: str) -> None:
    await put(client, queue, *(b"%d" % number for number in range(40)))
    may_end = asyncio.Event()
    handled: list[tuple[bytes, int]] = []

    async def be_slow(_: Received[bytes]) -> None:
        await may_end.wait()

    async def handle(received: Received[bytes]) -> None:
        handled.append((received.item, received.count))
        if len(handled) == 39:
            may_end.set()

    async with Consumer(client, queue, be_slow) as slow:
        await until(lambda: is_at_work(slow))
        assert (await client.get_queue(queue)).messages.leased > 1, "some are fetched ahead"
        async with Consumer(client, queue, handle):
            await may_end.wait()
    assert sorted(handled) == sorted((b"%d" % number, 1) for number in range(1, 40)), "each counts as delivered once"


async def test_a_lone_consumer_handles_in_order_what_it_had_handed_back(client: Client, queue: str) -> None:
    await put(client, queue, *(b"%d" % number for number in range(200)))
    handled: list[int] = []

    async def handle(received: Received[bytes]) -> None:
        handled.append(int(received.item))
        if len(handled) in {1, 50}:
            await asyncio.sleep(0.4)

    await Consumer(client, queue, handle, prefetch=20, prefetch_seconds=0.1, until_empty=True).run()
    assert handled == list(range(200))
    stats = await client.stats(queue)
    assert stats.redelivered > 0, "some were handed back"
    assert stats.redelivered < 200, "and not again and again"


async def test_an_exclusive_consumer_hands_nothing_back(client: Client, queue: str) -> None:
    await put(client, queue, *(b"%d" % number for number in range(20)))

    async def handle(_: Received[bytes]) -> None:
        await asyncio.sleep(0.03)

    await Consumer(client, queue, handle, prefetch=20, prefetch_seconds=0.1, exclusive=True, until_empty=True).run()
    assert (await client.stats(queue)).redelivered == 0


async def test_messages_that_are_not_asked_for_go_back(client: Client, queue: str) -> None:
    await put(client, queue, b"1", b"2")

    async def is_back() -> bool:
        return (await client.stats(queue)).nacked > 0 and (await client.get_queue(queue)).messages.ready == 2

    async with Consumer(client, queue, prefetch_seconds=0.1) as consumer:
        await until(is_back)
        assert (await anext(aiter(consumer))).item == b"1", "asking for one gets it again"


async def test_no_more_bytes_are_fetched_ahead_than_may_be(client: Client, queue: str) -> None:
    for _ in range(12):
        await client.add(queue, bytes(MIB))
    may_end = asyncio.Event()

    async def wait(_: Received[bytes]) -> None:
        await may_end.wait()

    async def leased() -> int:
        return (await client.get_queue(queue)).messages.leased

    async with Consumer(client, queue, wait, prefetch=100, prefetch_bytes=3 * MIB, until_empty=True) as consumer:
        await until(lambda: is_at_work(consumer))
        await until(lambda: holds(leased, 3))
        await client.server_stats()
        assert await leased() <= 4
        may_end.set()
        await consumer.wait()
    assert consumer.done == 12


async def holds(leased: object, least: int) -> bool:
    assert callable(leased)
    return bool(await leased() >= least)


# Frozen and blocked programs

IDLE = """
import asyncio, sys
from queuelet.client import Client, Consumer

async def handle(received):
    print("handled", flush=True)
    await asyncio.sleep(600)

async def main():
    async with Client(sys.argv[1]) as client, Consumer(client, sys.argv[2], handle, lease=1) as consumer:
        while not consumer.was_connected:
            await asyncio.sleep(0.01)
        print("ready", flush=True)
        await consumer.wait()

asyncio.run(main())
"""


@pytest.fixture
async def frail(client: Client) -> AsyncIterator[str]:
    """A queue that dead-letters messages after two deliveries."""
    made = await client.new_queue(delivery=DeliverySettings(max_deliveries=2))
    yield made.id
    await client.delete_queue(made.id)


async def test_a_frozen_worker_uses_up_no_delivery_of_a_message_that_it_never_read(
    client: Client, server: ServerProcess, frail: str
) -> None:
    program = [sys.executable, "-c", IDLE, server.address, frail]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as worker:  # noqa: ASYNC220  # it is begun at once
        assert worker.stdout
        try:
            assert await asyncio.to_thread(worker.stdout.readline) == b"ready\n"
            rpc_waits = await client.stats(frail)
            while not rpc_waits.waiting_calls:
                rpc_waits = await client.stats(frail)
            os.kill(worker.pid, signal.SIGSTOP)
            await client.add(frail, b"x")

            async def is_back() -> bool:
                queue = await client.get_queue(frail)
                return (await client.stats(frail)).leased > 0 and queue.messages.ready > 0

            await until(is_back)
            (delivery,) = await client.receive(frail)
            assert delivery.count == 1
            assert (await client.stats(frail)).expired == 0
        finally:
            worker.kill()


async def test_a_handler_that_blocks_the_event_loop_past_its_lease_is_run_once(client: Client, queue: str) -> None:
    await put(client, queue, b"x")
    runs: list[int] = []

    async def block(received: Received[bytes]) -> None:
        runs.append(received.count)
        time.sleep(2)  # noqa: ASYNC251  # the mistake

    consumer = Consumer(client, queue, block, lease=1, until_empty=True)
    await consumer.run()
    assert len(runs) == 1
    assert consumer.done == 1


def delivery(token: int, number: int, *, count: int = 2, created: int = 1) -> Delivery:
    made = pb.Delivery(token=token, count=count)
    made.message.meta.id = f"{number:08d}-0000-4000-8000-000000000000"
    made.message.meta.created.seconds = created
    return Delivery(made)


def test_what_was_finished_is_known_again_by_its_id_and_its_time() -> None:
    finished = Finished()
    assert not finished.among([delivery(1, 1)], [])
    finished.note(delivery(1, 1, count=1))
    assert finished.among([delivery(2, 1, count=1), delivery(3, 2)], []) == {2}
    assert not finished.among([delivery(4, 1, created=2)], []), "a later message of the same id is another one"
    assert finished.among([delivery(5, 7)], [delivery(6, 7), pb.ConsumeNack()]) == {5}, "its ack is in flight"


def test_as_many_finished_messages_are_remembered_as_there_is_room_for() -> None:
    finished = Finished()
    for number in range(10_001):
        finished.note(delivery(number + 1, number))
    assert not finished.among([delivery(20_000, 0)], [])
    assert finished.among([delivery(20_001, 1)], []) == {20_001}


# Silence


async def test_a_consumer_whose_server_is_silent_connects_again(
    client: Client, server: ServerProcess, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    handled: list[bytes] = []

    async def handle(received: Received[bytes]) -> None:
        handled.append(received.item)

    caplog.set_level(logging.INFO, "queuelet.client")
    with Relay(server.port) as relay:
        async with Client(relay.address) as relayed:
            consumer = Consumer(relayed, queue, handle, max_messages=1, heartbeat=0.3)
            running = asyncio.create_task(consumer.run())

            async def waits() -> bool:
                return (await client.stats(queue)).waiting_calls > 0

            await until(waits)
            await asyncio.sleep(0.7)  # some beats
            assert not caplog.messages
            relay.silence()
            # The streams of an earlier connection go on, so the next try needs one of its own.
            await until(lambda: logs(caplog, "was silent for 0.9 s"))
            await client.add(queue, b"x")
            relay.cut()
            await running
    assert handled == [b"x"]


async def logs(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return any(text in message for message in caplog.messages)


def test_a_waiting_call_of_a_client_that_vanished_is_ended(server: ServerProcess) -> None:
    """The server pings an idle connection after ten seconds, and closes it after five more."""
    rpc = Rpc(server.address)
    queue = rpc.new_queue().meta.id
    with Relay(server.port) as relay:
        vanishing = Rpc(relay.address, options=[("grpc.enable_http_proxy", 0)])
        call = vanishing.start("Pop", pop_request(queue, 600), timeout=None)
        eventually(lambda: rpc.stats(queue).waiting_calls == 1, "it waits")
        relay.silence()
        eventually(lambda: rpc.stats(queue).waiting_calls == 0, "it waits no longer")
        call.cancel()
        vanishing.close()
    rpc.delete_queue(queue)
    rpc.close()


# Refusals


async def test_consumers_for_which_there_is_no_room_back_off(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "queuelet.client")

    async def handle(received: Received[bytes]) -> None:
        raise AssertionError(received)

    with ServerProcess("--max-waiting", "1") as crowded:
        async with Client(crowded.address) as client:
            made = await client.new_queue()
            consumers = [Consumer(client, made.id, handle) for _ in range(4)]
            running = [asyncio.create_task(consumer.run()) for consumer in consumers]
            await asyncio.sleep(3)
            for consumer in consumers:
                consumer.stop()
            await asyncio.gather(*running)
        assert crowded.stop() == 0
        tries = [line for line in crowded.log() if line.get("reason") == "TOO_MANY"]
    assert 3 <= len(tries) <= 30
    assert not [message for message in caplog.messages if "is back" in message]
    assert len([message for message in caplog.messages if message.endswith("; retrying")]) == 3


# A server from before there were heartbeats


async def test_a_server_that_knows_of_no_heartbeat_may_be_silent(client: Client) -> None:
    streams: list[pb.ConsumeStart] = []
    made = pb.Queue(store=pb.Queue.MEMORY, delivery=pb.DeliverySettings(lease_seconds=30))

    async def get_queue(_: bytes, __: object) -> bytes:
        return pb.GetQueueResponse(queue=made).SerializeToString()

    async def consume(requests: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        streams.append(pb.ConsumeRequest.FromString(await anext(requests)).start)
        await asyncio.sleep(1)
        response = pb.ConsumeResponse(deliveries=[pb.Delivery(token=7, count=1)])
        yield response.SerializeToString()
        async for request in requests:
            if 7 in pb.ConsumeRequest.FromString(request).ack:
                yield pb.ConsumeResponse(settled=[7]).SerializeToString()
                return

    old = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "GetQueue": grpc.unary_unary_rpc_method_handler(get_queue),
        "Consume": grpc.stream_stream_rpc_method_handler(consume),
    }
    old.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = old.add_insecure_port("127.0.0.1:0")
    await old.start()

    async def handle(_: Received[bytes]) -> None:
        pass

    async with Client(f"127.0.0.1:{port}") as to_old:
        consumer = Consumer(to_old, "orders", handle, max_messages=1, heartbeat=0.1)
        await consumer.run()
    await old.stop(0)
    assert consumer.done == 1
    assert [start.heartbeat.nanos for start in streams] == [100_000_000], "one stream was enough"
