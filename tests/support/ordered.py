"""A producer that adds numbers in order, an exclusive consumer in a process of its own, and the oracle for both.

The first deliveries of all numbers are in order, no acknowledged number is redelivered, and tokens grow.
"""

from __future__ import annotations

import threading
import time
from uuid import uuid4

import grpc

from queuelet.v1 import queue_pb2 as pb
from support import forked
from support.rpc import Refused, Rpc

QUEUE = "ordered"
BATCH = 20
"""How many numbers are added together."""


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
        self._is_ending = self._is_abandoned = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop adding."""
        self._is_ending = True
        self._thread.join()
        self._rpc.close()

    def abandon(self) -> None:
        """Stop adding even if the outcome of a batch is not known, because the server is gone."""
        self._is_abandoned = True
        self.end()

    def _run(self) -> None:
        settled = ""
        while not self._is_ending:
            first = self._ledger.added
            messages = [pb.NewMessage(payload=b"%d" % number) for number in range(first, first + BATCH)]
            request = pb.AddBatchRequest(
                queue_id=QUEUE, messages=messages, request_id=str(uuid4()), settled_request_id=settled
            )
            while True:
                try:
                    results = self._rpc.call("AddBatch", request, pb.AddBatchResponse, timeout=10).results
                except Refused as refused:
                    if refused.code not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                        raise
                    if self._is_abandoned:
                        return
                    time.sleep(0.02)
                else:
                    break
            assert all(result.id for result in results)
            self._ledger.added = first + len(messages)
            settled = request.request_id
            time.sleep(0.01)


def made(rpc: Rpc, new: pb.NewQueueRequest) -> bool:
    """Return whether the queue could be created."""
    try:
        rpc.call("NewQueue", new, pb.NewQueueResponse)
    except Refused as refused:
        if refused.code is grpc.StatusCode.UNAVAILABLE:
            return False
        raise
    return True
