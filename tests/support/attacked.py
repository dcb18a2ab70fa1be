"""A server under attack, in a memory limit of 1 GiB, and a client that continues to work meanwhile."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread

import grpc

from support.attacks import DONE
from support.memory_limit import MemoryLimit, memory_limit
from support.pages import samples
from support.patience import patient
from support.rpc import Metadata, Refused, Rpc
from support.server_process import ServerProcess, server_command

GIB = 1 << 30

_PROGRAM = Path(__file__).with_name("attacks.py")


class Attacked:
    """The server, and the experience of its client."""

    def __init__(self, server: ServerProcess, limit: MemoryLimit, metadata: Metadata, *, may_retry: bool) -> None:
        self._may_retry = may_retry
        self.server = server
        self._limit = limit
        self._metadata = metadata
        self.acknowledged = 0
        self.slowest = 0.0
        self.failures: list[str] = []
        self.retried = 0
        """How many calls gRPC refused before the server saw them. They were retried, as our client library does."""
        self._stopped = Event()
        with closing(self.client()) as rpc:
            rpc.new_queue("good")
            for _ in range(50):
                self._add(rpc)
        self.idle_slowest = self.slowest
        self._worker = Thread(target=self._work)

    def client(self) -> Rpc:
        """Return a client with a connection of its own."""
        return Rpc(self.server.address, metadata=self._metadata)

    @contextmanager
    def attack(self, name: str, target: str = "", **options: int) -> Iterator[None]:
        """Attack from another process; continue once everything is sent, and kill it after the block."""
        given = [f"{key}={value}" for key, value in options.items()]
        command = [sys.executable, str(_PROGRAM), name, target or self.server.address, *given]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout
                assert process.stdout.readline().strip() == DONE
                yield
            finally:
                process.kill()

    def metric(self, name: str) -> float:
        """Return a metric of the server."""
        return samples(f"{self.server.metrics_url}/metrics", name)[""]

    def check(self) -> None:
        """Check that the server survived, and that the client was served in time and lost nothing."""
        assert self.server.is_running, self.server.output()[-2_000:]
        self._stopped.set()
        self._worker.join()
        assert not self.failures
        assert self._may_retry or not self.retried
        with closing(self.client()) as rpc:
            assert len(rpc.pop_all("good")) == self.acknowledged
        assert self.slowest < patient(1.0) + 10 * self.idle_slowest

    def figures(self) -> Mapping[str, float]:
        """Return the resources that it used."""
        peak = self._limit.peak_bytes(self.server.pid)
        return {
            "peak MiB": peak >> 20,
            "slowest call s": round(self.slowest, 3),
            "calls": self.acknowledged,
            "retried": self.retried,
        }

    def begin(self) -> None:
        """Start the client's work."""
        self._worker.start()

    def end(self) -> None:
        """Stop it."""
        self._stopped.set()
        if self._worker.ident:
            self._worker.join()

    def _work(self) -> None:
        with closing(self.client()) as rpc:
            while not self._stopped.wait(0.005):
                self._add(rpc)

    def _add(self, rpc: Rpc) -> None:
        began = time.monotonic()
        try:
            while not self._try_to_add(rpc):
                self.retried += 1
                self._stopped.wait(0.05)
        except Exception as error:  # noqa: BLE001  # any exception is part of the client's experience
            self.failures.append(str(error))
        else:
            self.acknowledged += 1
        self.slowest = max(self.slowest, time.monotonic() - began)

    @staticmethod
    def _try_to_add(rpc: Rpc) -> bool:
        """Add a message; return False if gRPC refused the call."""
        try:
            rpc.add("good", b"payload")
        except Refused as refused:
            if refused.code is grpc.StatusCode.CANCELLED:
                return False
            raise
        return True


def few_files(count: int) -> Sequence[str]:
    """Return the prefix that starts a program which may open this many files; program and arguments follow."""
    return ("sh", "-c", f'ulimit -n {count}; exec "$@"', "files")


@contextmanager
def attacked(*flags: str, metadata: Metadata = (), files: int = 0, may_retry: bool = False) -> Iterator[Attacked]:
    """Start a server with 1 GiB, and this limit of open files if given, and a client that adds messages.

    The check fails if a call of the client is refused, unless it may retry.
    """
    with memory_limit(GIB) as limit:
        # The server does not read a resource limit, but reads a cgroup's: with the flag it behaves the same in both.
        by_hand = () if limit.cgroup else ("--memory-watermark", "800Mi", "--max-incoming-bytes", "128Mi")
        with ServerProcess(
            *by_hand, *flags, program=[*limit.prefix, *(few_files(files) if files else ()), *server_command()]
        ) as server:
            subject = Attacked(server, limit, metadata, may_retry=may_retry)
            subject.begin()
            try:
                yield subject
                subject.check()
            finally:
                subject.end()
