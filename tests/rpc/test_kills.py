"""Producers, consumers and the server are killed at any moment: acknowledged changes are never lost.

In a soak the server is killed 500 times. Then everything is killed from time to time for half an hour, in which memory
must not grow.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from google.protobuf.message import Message as ProtobufMessage

from queuelet.v1 import queue_pb2 as pb
from support.counts import soaked
from support.durable_server import DurableServer, durable
from support.kill_workers import NOTHING_POPPED
from support.ledger import Ledger
from support.patience import patient
from support.ports import lasting_port
from support.rpc import Refused, Rpc
from support.server_process import ServerProcess

__all__ = ["durable"]

QUEUE = "orders"
ROLES = ("produce", "produce", "consume", "consume", "consume", "pop")
TESTS = Path(__file__).parent.parent

KILLS = soaked(12, 500)
MINUTES = soaked(0, int(os.environ.get("QUEUELET_SOAK_MINUTES", "30")))
"""The duration of the soak."""

MIB = 1024 * 1024


class Worker:
    """A process that prints its operations, and a thread that records them."""

    def __init__(self, role: str, arguments: list[str], note: Callable[[str], None]) -> None:
        self.role = role
        self._ready = threading.Event()
        self._note = note
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.kill_workers", role, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def begin_to_stop(self) -> None:
        """Stop it once all of its operations are known."""
        assert self._ready.wait(patient(60))
        self._process.terminate()

    def stopped(self) -> int:
        """Wait until it exits; return its exit code."""
        code = self._process.wait(patient(60))
        self._reader.join()
        return code

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                self._ready.set()
                self._note(line)


class Crowd:
    """A server with one durable store, and workers on one queue of it. Each can be killed, and is then restarted."""

    def __init__(self, durable: DurableServer, seed: int) -> None:
        self.ledger = Ledger()
        self.random = random.Random(seed)
        self._durable = durable
        self._lock = threading.Lock()
        self._port = lasting_port()
        self.server = self.start_server()
        self._workers: list[Worker] = []
        with closing(self.rpc()) as rpc:
            request = pb.NewQueueRequest(store=durable.store, limit=-1, name=QUEUE)
            request.delivery.max_deliveries = 1_000
            rpc.call("NewQueue", request, pb.NewQueueResponse)
        for role in ROLES:
            self._start_worker(role)

    def rpc(self) -> Rpc:
        """Return a client of the server."""
        return Rpc(f"127.0.0.1:{self._port}")

    def start_server(self) -> ServerProcess:
        """Start the server on the same port as before."""
        flags = ("--listen", f"127.0.0.1:{self._port}", "--metrics", "127.0.0.1:0", *self._durable.flags)
        return ServerProcess(*flags, free_ports=False).start()

    def kill_server(self) -> None:
        """Kill the server and restart it."""
        self.server.kill()
        self.server = self.start_server()

    def kill_worker(self) -> None:
        """Kill one of the workers, and start another of its kind."""
        worker = self._workers.pop(self.random.randrange(len(self._workers)))
        worker.kill()
        if worker.role == "pop":
            self._resolve_pops()
        self._start_worker(worker.role)

    def finish(self) -> None:
        """Stop the workers, and pop all remaining messages."""
        for worker in self._workers:
            worker.begin_to_stop()
        for worker in self._workers:
            assert worker.stopped() == 0, worker.role
        self._workers = []
        with closing(self.rpc()) as rpc:
            while rpc.get_queue(QUEUE).messages != pb.MessageCounts():
                began = time.monotonic_ns()
                leased = rpc.receive(QUEUE, 1_000, wait=1, lease=60)
                self.ledger.got((each.message.meta.id for each in leased), began)
                if leased:
                    assert set(rpc.ack(QUEUE, *(each.token for each in leased))) == {""}
                    self.ledger.remove((each.message.meta.id for each in leased), time.monotonic_ns())

    def end(self) -> None:
        """Stop all processes."""
        for worker in self._workers:
            worker.kill()
        if self.server.is_running:
            self.server.kill()

    def _start_worker(self, role: str) -> None:
        arguments = [f"127.0.0.1:{self._port}", QUEUE, str(self.random.getrandbits(32))]
        self._workers.append(Worker(role, arguments, self._note))

    def _note(self, line: str) -> None:
        with self._lock:
            self.ledger.note(line)

    def _resolve_pops(self) -> None:
        """Retry the Pop of a killed worker: the same request ID gets the same response."""
        with closing(self.rpc()) as rpc:
            for request_id in list(self.ledger.popping):
                began = time.monotonic_ns()
                ids = []
                with suppress_nothing_popped():
                    request = pb.PopRequest(queue_id=QUEUE, request_id=request_id)
                    ids = [rpc.call("Pop", request, pb.PopResponse).message.meta.id]
                with self._lock:
                    self.ledger.got(ids, began)
                    self.ledger.pop(ids, time.monotonic_ns())
                    self.ledger.popping.discard(request_id)


@contextmanager
def suppress_nothing_popped() -> Iterator[None]:
    """Make a call whose response may be empty."""
    try:
        yield
    except Refused as refused:
        if refused.reason not in NOTHING_POPPED:
            raise


@contextmanager
def crowd(durable: DurableServer, seed: int) -> Iterator[Crowd]:
    """A crowd at work; its processes are stopped at the end of the block."""
    there = Crowd(durable, seed)
    try:
        yield there
    finally:
        there.end()


def check(ledger: Ledger) -> None:
    """Check that every message is accounted for."""
    assert not ledger.wrong, ledger.wrong[:20]
    assert not ledger.missing, f"{len(ledger.missing)} of {len(ledger.kept)}: {sorted(ledger.missing)[:20]}"
    assert ledger.kept
    assert ledger.gone


def report(what: str, ledger: Ledger) -> None:
    """Write the figures of a run, which pytest shows with -s."""
    sys.stdout.write(f"\n{what}: {len(ledger.kept):,} messages kept, {ledger.deliveries:,} deliveries\n")


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
