"""Two servers of one schema under load, of which one owns the queues at a time, and the oracle for both.

Calls go to both servers at once. A delivery that began after another one had ended has a larger token, whichever
servers they came from; no acknowledged message is delivered or acknowledged again; and no added message is lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import NamedTuple

from queuelet.v1 import queue_pb2 as pb
from support.kill_workers import UNKNOWN
from support.rpc import Refused, Rpc, add_batch_request, eventually, unique_name
from support.server_process import ServerProcess

QUEUE = "orders"

_LEASE = 600
"""Seconds that a message is leased, so that none ends by itself."""

_CALL_SECONDS = 5
"""How long a call may take, because a frozen server does not respond."""


_ENOUGH = 20
"""Messages."""


class Delivery(NamedTuple):
    """A message that a call received. Times are of the machine's monotonic clock, in seconds."""

    began: float
    ended: float
    token: int
    payload: bytes
    server: int


class Record:
    """What all calls have seen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Sets and lists change in single steps, so a thread may read them at any time.
        self.added: set[bytes] = set()
        """Payloads whose Add succeeded."""
        self.tried: set[bytes] = set()
        self.deliveries: list[Delivery] = []
        self.acked: dict[bytes, tuple[float, int]] = {}
        """When an Ack succeeded, and with which token."""
        self.acking: set[bytes] = set()
        """Payloads whose Ack began, so that it may have succeeded."""
        self.wrong: list[str] = []

    def note_added(self, payloads: list[bytes]) -> None:
        """Note an Add that succeeded."""
        with self._lock:
            self.added.update(payloads)

    def note_received(self, deliveries: list[Delivery]) -> None:
        """Note a Receive that succeeded."""
        with self._lock:
            self.deliveries += deliveries

    def note_acked(self, delivery: Delivery) -> None:
        """Note an Ack that succeeded."""
        with self._lock:
            if delivery.payload in self.acked:
                self.wrong.append(f"{delivery.payload!r} was acknowledged twice")
            self.acked[delivery.payload] = time.monotonic(), delivery.token

    def violations(self) -> list[str]:
        """Return what must not have happened."""
        found = list(self.wrong)
        ended = sorted(self.deliveries, key=lambda each: each.ended)
        highest, index = 0, 0
        for each in sorted(self.deliveries, key=lambda each: each.began):
            while ended[index].ended < each.began:
                highest = max(highest, ended[index].token)
                index += 1
            if each.token <= highest:
                found.append(f"server {each.server} gave token {each.token} after {highest}")
            if each.began > self.acked.get(each.payload, (each.began, 0))[0]:
                found.append(f"{each.payload!r} was delivered after it was acknowledged")
            if each.payload not in self.tried:
                found.append(f"{each.payload!r} was never added")
        tokens = [each.token for each in self.deliveries]
        if len(set(tokens)) < len(tokens):
            found.append("a token was given twice")
        # The holder of an older token must not be able to acknowledge once a newer one was given to another call.
        for payload, (_, token) in self.acked.items():
            newer = [each for each in self.deliveries if each.payload == payload and each.token > token]
            if newer:
                found.append(f"{payload!r} was acknowledged with {token}, and delivered with {newer[0].token} too")
        return found


class TwoOwners:
    """Two servers of one schema, and calls on both."""

    def __init__(self, flags: tuple[str, ...]) -> None:
        self.record = Record()
        self.servers = [ServerProcess(*flags).start() for _ in range(2)]
        self._is_ending = False
        with closing(Rpc(self.servers[0].address)) as rpc:
            new = pb.NewQueueRequest(store=pb.Queue.POSTGRES, limit=-1, name=QUEUE)
            new.delivery.max_deliveries = 1_000
            rpc.call("NewQueue", new, pb.NewQueueResponse)
        turns = [(turn, server) for server in range(2) for turn in (self._add, self._consume, self._consume)]
        self._threads = [threading.Thread(target=self._repeat, args=turn, daemon=True) for turn in turns]
        for thread in self._threads:
            thread.start()

    @property
    def owner(self) -> int:
        """Which server owns the queues."""
        found: list[int] = []

        def is_found() -> bool:
            found[:] = [number for number in range(2) if self._is_open(number)]
            return len(found) == 1

        eventually(is_found, "one server owns the queues", 60)
        return found[0]

    def until_acked(self, server: int | None = None) -> None:
        """Wait until messages that a server gave from now on are acknowledged: this one, or any."""
        before = len(self.record.deliveries)

        def is_acked() -> bool:
            late = [each for each in self.record.deliveries[before:] if server in {None, each.server}]
            return sum(each.payload in self.record.acked for each in late) >= _ENOUGH

        eventually(is_acked, "messages are delivered and acknowledged", 120)

    def finish(self) -> None:
        """Stop the calls, take all messages, and check what was seen."""
        self._is_ending = True
        for thread in self._threads:
            thread.join()
        last = self.owner
        with closing(Rpc(self.servers[last].address)) as rpc:
            messages = rpc.get_queue(QUEUE).messages
            left = {each.payload for each in rpc.browse_all(QUEUE)}
            assert len(left) == messages.ready + messages.leased
        record = self.record
        assert not record.violations(), record.violations()[:20]
        lost = record.added - left - record.acked.keys() - record.acking
        assert not lost, f"{len(lost)} of {len(record.added)} messages lost: {sorted(lost)[:20]}"
        back = left & record.acked.keys()
        assert not back, f"{len(back)} acknowledged messages are back: {sorted(back)[:20]}"

    def end(self) -> None:
        """Stop everything."""
        self._is_ending = True
        for server in self.servers:
            server.kill()
        for thread in self._threads:
            thread.join()

    def _is_open(self, number: int) -> bool:
        with closing(Rpc(self.servers[number].address)) as rpc:
            stores = rpc.server_stats().stores
        return not next(each.problem for each in stores if each.store == pb.Queue.POSTGRES)

    def _repeat(self, turn: Callable[[Rpc, int], None], server: int) -> None:
        with closing(Rpc(self.servers[server].address, options=[("grpc.max_reconnect_backoff_ms", 100)])) as rpc:
            while not self._is_ending:
                try:
                    turn(rpc, server)
                except Refused as refused:
                    if refused.code not in UNKNOWN:
                        self.record.wrong.append(f"a call on server {server} was refused: {refused}")
                time.sleep(0.02)

    def _add(self, rpc: Rpc, server: int) -> None:
        """Add a few messages, once: whether they are stored is not known if the call fails."""
        payloads = [unique_name().encode() for _ in range(5)]
        self.record.tried.update(payloads)
        request = add_batch_request(QUEUE, [("", payload) for payload in payloads])
        results = rpc.call("AddBatch", request, pb.AddBatchResponse, timeout=_CALL_SECONDS).results
        assert all(result.id for result in results), f"server {server} did not add all"
        self.record.note_added(payloads)

    def _consume(self, rpc: Rpc, server: int) -> None:
        """Lease a few messages, and acknowledge them after a moment, in which another server may become the owner."""
        began = time.monotonic()
        request = pb.ReceiveRequest(queue_id=QUEUE, max=5)
        request.wait.FromMilliseconds(100)
        request.lease.FromSeconds(_LEASE)
        response = rpc.call("Receive", request, pb.ReceiveResponse, timeout=_CALL_SECONDS)
        ended = time.monotonic()
        got = [Delivery(began, ended, each.token, each.message.payload, server) for each in response.deliveries]
        self.record.note_received(got)
        time.sleep(0.02)
        for delivery in got:
            self._ack(rpc, delivery)

    def _ack(self, rpc: Rpc, delivery: Delivery) -> None:
        """Acknowledge a message until the outcome is known, or another server owns the queue for now."""
        self.record.acking.add(delivery.payload)
        request = pb.AckRequest(queue_id=QUEUE, tokens=[delivery.token])
        (result,) = rpc.call("Ack", request, pb.AckResponse, timeout=_CALL_SECONDS).results
        if not result.error.code:
            self.record.note_acked(delivery)
        elif result.error.reason in {"LEASE_LOST", "MESSAGE_NOT_FOUND"}:
            self.record.acking.discard(delivery.payload)
        else:
            self.record.wrong.append(f"server {delivery.server} refused an Ack: {result.error}")


@contextmanager
def two_owners(flags: tuple[str, ...]) -> Iterator[TwoOwners]:
    """Two servers under load; their processes are stopped at the end of the block."""
    there = TwoOwners(flags)
    try:
        yield there
    finally:
        there.end()
