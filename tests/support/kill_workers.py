"""Programs that use a queue while everything is killed, and print what they know, line by line.

A line is a time (that of the machine's monotonic clock, in nanoseconds), a word and IDs of messages. What a worker knew
but did not print before it was killed is lost, so a worker also prints what it is about to do before it does it. A call
is retried until its outcome is known.

    python -m support.kill_workers ROLE HOST:PORT QUEUE SEED
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from uuid import UUID

import grpc

from queuelet.v1 import queue_pb2 as pb
from support.rpc import Refused, Response, Rpc, add_batch_request

UNKNOWN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}
"""Status codes of a call that leave its outcome unknown."""

NOTHING_POPPED = {"QUEUE_EMPTY", "TOO_MANY_ANSWERS"}
"""Reasons for which a Pop was refused before it took anything."""

PAUSE = 0.02
"""Seconds that a worker rests between two calls, because many kills prove more than many messages."""

LEASE = 2
"""Seconds that a lease lasts: short, because messages that dead consumers hold have to be redelivered."""


Request = pb.AddBatchRequest | pb.AckRequest | pb.PopRequest


def say(word: str, *ids: str, at: int | None = None) -> None:
    """Write a line, whole or not at all."""
    os.write(1, f"{at or time.monotonic_ns()} {word} {' '.join(ids)}\n".encode())


class Worker:
    """Behaviour that all workers share."""

    def __init__(self, address: str, queue: str, seed: int) -> None:
        self.rpc = Rpc(address, options=[("grpc.max_reconnect_backoff_ms", 200)])
        self.queue = queue
        self.random = random.Random(seed)
        self.stopped = False
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stopped", True))

    def run(self, turn: Callable[[], None]) -> None:
        """Take turns until stopped. A turn ends when all its outcomes are known."""
        say("ready")
        while not self.stopped:
            turn()
            time.sleep(PAUSE)

    def ask(
        self, path: str, request: Request, response: type[Response], repeated: Callable[[], None] = lambda: None
    ) -> Response:
        """Call until the outcome is known, and print each retry. Raises Refused."""
        while True:
            try:
                return self.rpc.call(path, request, response, timeout=10)
            except Refused as refused:
                if refused.code not in UNKNOWN:
                    raise
                time.sleep(0.05)
                repeated()

    # The roles

    def produce(self) -> None:
        """Add a few messages under IDs of its own."""
        ids = [str(UUID(int=self.random.getrandbits(128), version=4)) for _ in range(self.random.randint(1, 20))]
        say("try", *ids)
        request = add_batch_request(self.queue, [(each, each.encode() * self.random.randint(1, 30)) for each in ids])
        # A message of the first call may have been consumed by now, and is then added once more.
        results = self.ask("AddBatch", request, pb.AddBatchResponse, lambda: say("repeat", *ids)).results
        assert [result.id for result in results] == ids, results
        say("kept", *ids)

    def consume(self) -> None:
        """Lease a few; acknowledge most, nack some, forget the others."""
        began = time.monotonic_ns()
        try:
            leased = self.rpc.receive(self.queue, 10, wait=0.2, lease=LEASE, consumer=f"worker {os.getpid()}")
        except Refused as refused:
            if refused.code not in UNKNOWN:
                raise
            return
        if not leased:
            return
        say("got", *(each.message.meta.id for each in leased), at=began)
        assert all(each.message.payload.startswith(each.message.meta.id.encode()) for each in leased)
        chance = [self.random.random() for _ in leased]
        done = [each for each, luck in zip(leased, chance, strict=True) if luck < 0.85]
        if done:
            self._acknowledge(done)
        back = [each.token for each, luck in zip(leased, chance, strict=True) if 0.85 <= luck < 0.95]
        if back:
            try:
                self.rpc.nack(self.queue, *back, reason="by chance")
            except Refused as refused:
                if refused.code not in UNKNOWN:
                    raise

    def _acknowledge(self, done: list[pb.Delivery]) -> None:
        ids = [each.message.meta.id for each in done]
        say("acking", *ids)
        request = pb.AckRequest(queue_id=self.queue, tokens=[each.token for each in done])
        results = self.ask("Ack", request, pb.AckResponse).results
        gone = [each for each, result in zip(ids, results, strict=True) if not result.error.code]
        # NOT_FOUND is ambiguous: either an earlier attempt succeeded and its response was lost, or the lease was lost
        # with the server, and the message will be redelivered.
        lost = [each for each, result in zip(ids, results, strict=True) if result.error.code]
        assert {result.error.reason for result in results} <= {"", "LEASE_LOST", "MESSAGE_NOT_FOUND"}, results
        say("acked", *gone)
        say("lost", *lost)

    def pop(self) -> None:
        """Pop one under a request ID, which returns the same message each time.

        Rest, because few responses are cached.
        """
        time.sleep(10 * PAUSE)
        request_id = str(UUID(int=self.random.getrandbits(128), version=4))
        say("popping", request_id)
        began = time.monotonic_ns()
        try:
            request = pb.PopRequest(queue_id=self.queue, request_id=request_id)
            message = self.ask("Pop", request, pb.PopResponse).message
        except Refused as refused:
            if refused.reason not in NOTHING_POPPED:
                raise
            say("popped", request_id)
        else:
            say("got", message.meta.id, at=began)
            say("popped", request_id, message.meta.id)


def main() -> None:
    """Work until SIGTERM."""
    role, address, queue, seed = sys.argv[1:]
    worker = Worker(address, queue, int(seed))
    worker.run(getattr(worker, role))


if __name__ == "__main__":
    main()
