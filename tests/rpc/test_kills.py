"""Producers, consumers and the server are killed at any moment: acknowledged changes are never lost.

In a soak the server is killed 500 times. Then everything is killed from time to time for half an hour, in which memory
must not grow.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from uuid import uuid4

import pytest
from google.protobuf.message import Message as ProtobufMessage

from queuelet.v1 import queue_pb2 as pb
from support.counts import soaked
from support.crowd import check, crowd, report
from support.durable_server import DurableServer, durable
from support.ports import lasting_port
from support.rpc import Rpc
from support.server_process import ServerProcess

__all__ = ["durable"]

KILLS = soaked(12, 500)
MINUTES = soaked(0, int(os.environ.get("QUEUELET_SOAK_MINUTES", "30")))
"""The duration of the soak."""

MIB = 1024 * 1024


@pytest.mark.timeout(soaked(300, 3_600))
def test_a_server_that_is_killed_under_load_loses_nothing_and_brings_nothing_back(durable: DurableServer) -> None:
    with crowd(durable, seed=KILLS) as there:
        for _ in range(KILLS):
            time.sleep(there.random.uniform(0.02, 0.4))
            there.kill_server()
        there.finish()
        check(there.ledger)
        report(f"{KILLS} kills of the server", there.ledger)


def test_changes_of_queues_that_had_their_response_survive_a_kill_right_after_it(durable: DurableServer) -> None:
    """Nothing else writes it to disk."""
    port = lasting_port()
    flags = ("--listen", f"127.0.0.1:{port}", "--metrics", "127.0.0.1:0", *durable.flags)

    def change(*changes: tuple[str, ProtobufMessage]) -> dict[str, pb.Queue]:
        """Make changes, kill the server, and return the queues after its restart."""
        with ServerProcess(*flags, free_ports=False) as server, closing(Rpc(server.address)) as rpc:
            for method, request in changes:
                rpc.raw(method, request.SerializeToString())
            server.kill()
        with ServerProcess(*flags, free_ports=False) as server, closing(Rpc(server.address)) as rpc:
            listed = rpc.call("ListQueues", pb.ListQueuesRequest(), pb.ListQueuesResponse).queues
        return {queue.name: queue for queue in listed}

    new = pb.NewQueueRequest(store=durable.store, limit=-1, name="new")
    declared = pb.QueueDeclaration(name="declared", store=durable.store, limit=5)
    first = change(("NewQueue", new))
    assert first.keys() == {"new"}
    then = change(("DeclareQueues", pb.DeclareQueuesRequest(queues=[declared])))
    assert then["declared"].limit == 5
    tag = pb.AddQueueTagRequest(queue_id="new", tag=pb.Tag(key="team", value="a"))
    then = change(("AddQueueTag", tag))
    assert [(each.key, each.value) for each in then["new"].meta.tags] == [("team", "a")]
    assert then["new"].revision == first["new"].revision + 1
    assert then["new"].meta.id == first["new"].meta.id
    assert change(("DeleteQueue", pb.DeleteQueueRequest(queue_id="new"))).keys() == {"declared"}
    removal = pb.RemoveQueuesRequest(queues=[pb.QueueRemoval(queue_id="declared")])
    assert not change(("RemoveQueues", removal))


@pytest.mark.parametrize("way", ["calls", "a stream"])
def test_a_message_that_was_given_back_to_be_dead_or_away_is_so_after_a_kill(durable: DurableServer, way: str) -> None:
    """Nothing else writes it to disk. A message that was only nacked may still be leased."""
    with ServerProcess(*durable.flags) as server, closing(Rpc(server.address)) as rpc:
        new = pb.NewQueueRequest(name="orders", store=durable.store, limit=-1)
        queue = rpc.call("NewQueue", new, pb.NewQueueResponse).queue.meta.id
        rpc.add_batch(queue, [b"dead", b"away"])
        if way == "calls":
            dead, away = (delivery.token for delivery in rpc.receive(queue, lease=600))
            time.sleep(1)  # until the leases are on disk
            rpc.nack(queue, dead, dead=True)
            rpc.nack(queue, away, delay=600)
        else:
            consumer = rpc.consume(queue, credit=2, lease={"seconds": 600})
            dead, away = (delivery.token for delivery in consumer.take(2))
            time.sleep(1)
            nacks = [pb.ConsumeNack(token=dead, dead=True), pb.ConsumeNack(token=away, delay={"seconds": 600})]
            consumer.say(nack=nacks)
            consumer.until(lambda so_far: len(so_far.settled) == 2)
        server.kill()
    with ServerProcess(*durable.flags) as server, closing(Rpc(server.address)) as rpc:
        messages = rpc.get_queue("orders").messages
        assert (messages.ready, messages.delayed, messages.leased, messages.dead) == (0, 1, 0, 1)


@pytest.mark.parametrize("way", ["calls", "a stream"])
def test_a_message_that_is_dead_since_it_was_given_back_too_often_is_so_after_a_kill(
    durable: DurableServer, way: str
) -> None:
    with ServerProcess(*durable.flags) as server, closing(Rpc(server.address)) as rpc:
        new = pb.NewQueueRequest(name="orders", store=durable.store, limit=-1, delivery={"max_deliveries": 1})
        queue = rpc.call("NewQueue", new, pb.NewQueueResponse).queue.meta.id
        rpc.add_batch(queue, [b"poison"])
        if way == "calls":
            rpc.nack(queue, rpc.receive(queue)[0].token, reason="bad")
        else:
            consumer = rpc.consume(queue, credit=1)
            consumer.say(nack=[pb.ConsumeNack(token=consumer.take(1)[0].token, reason="bad")])
            consumer.until(lambda so_far: len(so_far.settled) == 1)
        server.kill()
    with ServerProcess(*durable.flags) as server, closing(Rpc(server.address)) as rpc:
        messages = rpc.get_queue("orders").messages
        assert (messages.ready, messages.leased, messages.dead) == (0, 0, 1)


@pytest.mark.parametrize("durable", ["postgres"], indirect=True)
def test_the_pop_of_a_killed_worker_is_retried_until_its_outcome_is_known(durable: DurableServer) -> None:
    """The store may be closed when the worker is killed: here because the server made no progress for a lease."""
    with crowd(durable, seed=1) as there:
        there.stop_workers()
        request_id = str(uuid4())
        there.ledger.note(f"{time.monotonic_ns()} popping {request_id}")
        there.server.signal(signal.SIGSTOP)
        time.sleep(2)
        there.server.signal(signal.SIGCONT)
        there.resolve_pops()
        assert not there.ledger.popping
        there.finish()


@pytest.mark.timeout(soaked(300, 2 * 3_600))
def test_whichever_process_is_killed_and_whenever_every_message_is_accounted_for(durable: DurableServer) -> None:
    """For some seconds; in a soak for half an hour, after which the server's memory must not have grown either."""
    end = time.monotonic() + (MINUTES * 60 or 8)
    next_kill = time.monotonic() + (60 if MINUTES else 2)
    kills = {"server": 0, "worker": 0}
    sizes: list[int] = []
    with crowd(durable, seed=MINUTES) as there:
        while time.monotonic() < end:
            time.sleep(there.random.uniform(0.2, 2.0 if MINUTES else 0.8))
            there.kill_worker()
            kills["worker"] += 1
            if time.monotonic() > next_kill:
                sizes.append(there.server.resident_bytes())
                there.kill_server()
                kills["server"] += 1
                next_kill = time.monotonic() + there.random.uniform(*((30, 120) if MINUTES else (1, 3)))
        there.finish()
        sizes.append(there.server.resident_bytes())
        check(there.ledger)
        report(f"kills {kills}, the server's memory in MiB {[size // MIB for size in sizes]}", there.ledger)
        third = len(sizes) // 3
        if third:
            assert max(sizes[-third:]) <= max(sizes[:third]) * 1.2 + 16 * MIB, sizes
