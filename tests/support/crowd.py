"""A server with one durable store, and processes that use a queue of it: each can be killed at any moment."""

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

from queuelet.v1 import queue_pb2 as pb
from support.durable_server import DurableServer
from support.kill_workers import NOTHING_POPPED, UNKNOWN
from support.ledger import Ledger
from support.patience import patient
from support.ports import lasting_port
from support.rpc import Refused, Rpc
from support.server_process import ServerProcess

QUEUE = "orders"
ROLES = ("produce", "produce", "consume", "consume", "consume", "pop")
TESTS = Path(__file__).parent.parent


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
            self.resolve_pops()
        self._start_worker(worker.role)

    def stop_workers(self) -> None:
        """Stop the workers once all of their operations are known."""
        for worker in self._workers:
            worker.begin_to_stop()
        for worker in self._workers:
            assert worker.stopped() == 0, worker.role
        self._workers = []

    def finish(self) -> None:
        """Stop the workers, and pop all remaining messages."""
        self.stop_workers()
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

    def resolve_pops(self) -> None:
        """Retry the Pop of a killed worker until its outcome is known: the same request ID gets the same response."""
        with closing(self.rpc()) as rpc:
            for request_id in list(self.ledger.popping):
                began = time.monotonic_ns()
                ids = popped(rpc, request_id)
                with self._lock:
                    self.ledger.got(ids, began)
                    self.ledger.pop(ids, time.monotonic_ns())
                    self.ledger.popping.discard(request_id)


def popped(rpc: Rpc, request_id: str) -> list[str]:
    """Pop under a request ID until the outcome is known; return the ID of the message, if there was one."""
    end = time.monotonic() + patient(60)
    while True:
        try:
            return [
                rpc.call("Pop", pb.PopRequest(queue_id=QUEUE, request_id=request_id), pb.PopResponse).message.meta.id
            ]
        except Refused as refused:
            if refused.reason in NOTHING_POPPED:
                return []
            # The store may have failed, and be opened again in a moment.
            if refused.code not in UNKNOWN or time.monotonic() > end:
                raise
            time.sleep(0.05)


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
