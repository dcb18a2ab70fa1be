"""A server with a durable store and the exclusive consumer of a queue are killed together, again and again, under load.

The first deliveries of all messages are in the order of their addition, whichever consumer holds the queue. No added
message is lost, no acknowledged one is redelivered, and tokens grow.
"""

from __future__ import annotations

import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from queuelet.v1 import queue_pb2 as pb
from support import forked
from support.counts import soaked
from support.durable_server import KINDS, DurableServer, durable_server
from support.ordered import QUEUE, Holder, Ledger, Producer, made
from support.patience import patient
from support.ports import lasting_port
from support.rpc import Rpc, eventually

KILLS = int(os.environ.get("QUEUELET_KILLS", "0")) or soaked(8, 10_000)
LANES = soaked(1, 10)
"""Runs side by side: a process that was killed, or sleeps, needs no CPU."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(soaked(300, 20_000))
def test_messages_come_in_order_when_the_server_and_its_exclusive_consumer_are_killed_together(
    tmp_path: Path, kind: str
) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(LANES) as lanes:
        ledgers = list(lanes.map(killed_again_and_again, range(LANES), [tmp_path] * LANES, [kind] * LANES))
    sys.stdout.write(
        f"\n{KILLS:,} kills in {time.monotonic() - began:.0f} s: {sum(each.added for each in ledgers):,} messages, "
        f"{sum(each.deliveries for each in ledgers):,} deliveries, "
        f"{sum(len(each.first) for each in ledgers):,} first deliveries in order\n"
    )


def killed_again_and_again(lane: int, folder: Path, kind: str) -> Ledger:
    """Kill a server with a durable store, and its holder, again and again; check the records."""
    with durable_server(kind, folder / str(lane)) as durable:
        return killed_together(lane, folder, durable)


def killed_together(lane: int, folder: Path, durable: DurableServer) -> Ledger:
    """Kill a server and its holder again and again, and check the records."""
    chance, ledger, log = random.Random(lane), Ledger(), folder / f"log-{lane}"
    address = f"127.0.0.1:{lasting_port()}"
    flags = ("--listen", address, "--metrics", "127.0.0.1:0", *durable.flags)
    server = forked.server(flags, log)
    with closing(Rpc(address)) as rpc:
        new = pb.NewQueueRequest(store=durable.store, limit=-1, name=QUEUE, delivery={"max_deliveries": 1_000})
        eventually(lambda: made(rpc, new), "the server serves")
    producer = Producer(address, ledger)
    holder = Holder(address, chance.getrandbits(32), ledger)
    try:
        for _ in range(KILLS // LANES):
            assert holder.holds.wait(patient(60)), log.read_text()[-10_000:]
            time.sleep(chance.uniform(0, 0.8))
            for kill in chance.sample([server.kill, holder.kill], 2):
                kill()
            holder.join()
            server.join()
            holder = Holder(address, chance.getrandbits(32), ledger)
            server = forked.server(flags, log)
            assert not ledger.wrong, ledger.wrong[:20]
        assert holder.holds.wait(patient(60)), log.read_text()[-10_000:]
        producer.end()
        holder.kill()
        holder.join()
        with closing(Rpc(address)) as rpc:
            while rpc.get_queue(QUEUE).messages != pb.MessageCounts():
                at = time.monotonic()
                for each in rpc.receive(QUEUE, 1_000, wait=1, lease=60):
                    ledger.got(int(each.message.payload), each.token, at)
                    ledger.acking.add(int(each.message.payload))
                    assert rpc.ack(QUEUE, each.token) == [""]
    finally:
        producer.end()
        holder.kill()
        holder.join()
        server.kill()
        server.join()
    assert not ledger.wrong, ledger.wrong[:20]
    assert set(range(ledger.added)) <= ledger.acking | ledger.acked.keys()
    return ledger
