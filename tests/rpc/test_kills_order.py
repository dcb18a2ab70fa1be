"""A server with a durable store and the exclusive consumer of a queue are killed together, again and again, under load.

The first deliveries of all messages are in the order of their addition, whichever consumer holds the queue. No added
message is lost, no acknowledged one is redelivered, and tokens grow.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import grpc
import pytest

from queuelet.v1 import queue_pb2 as pb
from support import forked
from support.counts import soaked
from support.durable_server import KINDS, DurableServer, durable_server
from support.patience import patient
from support.ports import lasting_port
from support.rpc import Refused, Rpc, eventually

QUEUE = "orders"
KILLS = int(os.environ.get("QUEUELET_KILLS", "0")) or soaked(8, 10_000)
LANES = soaked(1, 10)
"""Runs side by side: a process that was killed, or sleeps, needs no CPU."""


class Ledger:
    """Records what the holders print, and the violations in it."""

    def __init__(self) -> None:
        self.added = 0
        """How many messages are known to be added; their payloads are the smaller numbers."""
        self.newest = -1
        self.first: set[int] = set()
        self.acking: set[int] = set()
        self.acked: dict[int, float] = {}
        self.deliveries = 0
        self.holder = self.lease = 0
        self.wrong: list[str] = []

    def note(self, line: str) -> None:
        """Read a line of a holder."""
        word, *words = line.split()
        match word:
            case "holds":
                self._grows("holder", int(words[0]))
            case "got":
                for each in words[1:]:
                    number, token = map(int, each.split(":"))
                    self.got(number, token, float(words[0]))
            case "acking":
                self.acking.update(map(int, words))
            case "acked":
                for each in words[1:]:
                    self.acked.setdefault(int(each), float(words[0]))
            case _:
                raise ValueError(f"a holder said {line!r}")

    def got(self, number: int, token: int, at: float) -> None:
        """Record a delivery."""
        self.deliveries += 1
        self._grows("lease", token)
        if token < self.holder:
            self.wrong.append(f"{number} came under {token}, and its holder is {self.holder}")
        if at > self.acked.get(number, at):
            self.wrong.append(f"{number} came back, and was acknowledged")
        if number in self.first:
            return
        self.first.add(number)
        if number < self.newest:
            self.wrong.append(f"{number} came first after {self.newest}")
        self.newest = max(self.newest, number)

    def _grows(self, kind: str, token: int) -> None:
        if token <= getattr(self, kind):
            self.wrong.append(f"{kind} token {token} after {getattr(self, kind)}")
        setattr(self, kind, token)


class Holder:
    """The process of an exclusive consumer."""

    def __init__(self, address: str, seed: int, ledger: Ledger) -> None:
        self._process, self._output = forked.holder([address, QUEUE, str(seed)])
        self.holds = threading.Event()
        self._ledger = ledger
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()

    def join(self) -> None:
        """Wait until all of its output is recorded."""
        self._process.join()
        self._reader.join()

    def _read(self) -> None:
        with open(self._output) as lines:  # noqa: PTH123  # a descriptor
            for line in lines:
                self._ledger.note(line)
                if line.startswith("got"):
                    self.holds.set()


class Producer:
    """Adds numbers in order, and waits for the result of each batch."""

    def __init__(self, address: str, ledger: Ledger) -> None:
        self._rpc = Rpc(address, options=[("grpc.max_reconnect_backoff_ms", 50)])
        self._ledger = ledger
        self._is_ending = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        """Stop adding."""
        self._is_ending = True
        self._thread.join()
        self._rpc.close()

    def _run(self) -> None:
        settled = ""
        while not self._is_ending:
            first = self._ledger.added
            messages = [pb.NewMessage(payload=b"%d" % number) for number in range(first, first + 20)]
            request = pb.AddBatchRequest(
                queue_id=QUEUE, messages=messages, request_id=str(uuid4()), settled_request_id=settled
            )
            while True:
                try:
                    results = self._rpc.call("AddBatch", request, pb.AddBatchResponse, timeout=10).results
                except Refused as refused:
                    if refused.code not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                        raise
                    time.sleep(0.02)
                else:
                    break
            assert all(result.id for result in results)
            self._ledger.added = first + len(messages)
            settled = request.request_id
            time.sleep(0.01)


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
    """Kill a server with a durable store of a kind, and its holder, again and again; check the records."""
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


def made(rpc: Rpc, new: pb.NewQueueRequest) -> bool:
    """Return whether the queue could be created."""
    try:
        rpc.call("NewQueue", new, pb.NewQueueResponse)
    except Refused as refused:
        if refused.code is grpc.StatusCode.UNAVAILABLE:
            return False
        raise
    return True
