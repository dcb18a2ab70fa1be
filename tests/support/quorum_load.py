"""A server whose queues are in three PostgreSQL nodes, under load, with the oracles of the tests with kills.

A crowd of processes adds, acknowledges, nacks and pops on one queue, and an exclusive consumer gets numbers in order
from another one. So no acknowledged message may be lost or come back, tokens grow, and the order is exact.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from queuelet.v1 import queue_pb2 as pb
from support.crowd import Crowd, check
from support.durable_server import DurableServer
from support.ordered import BATCH, QUEUE, Holder, Ledger, Producer
from support.patience import patient
from support.postgres_quorum import Quorum
from support.postgres_server import new_schema
from support.rpc import eventually


class Load:
    """The server, and all that use it."""

    def __init__(self, flags: tuple[str, ...], seed: int) -> None:
        self.crowd = Crowd(DurableServer(pb.Queue.POSTGRES, flags, lambda: 0), seed)
        self.gaps: list[float] = []
        """How many seconds no message was added, for each fault."""
        self.order = Ledger()
        with closing(self.crowd.rpc()) as rpc:
            request = pb.NewQueueRequest(store=pb.Queue.POSTGRES, limit=-1, name=QUEUE)
            request.delivery.max_deliveries = 1_000
            rpc.call("NewQueue", request, pb.NewQueueResponse)
        self._producer = Producer(self.crowd.server.address, self.order)
        self._holder = Holder(self.crowd.server.address, seed, self.order)
        assert self._holder.holds.wait(patient(60))

    @property
    def added(self) -> int:
        """How many numbers are known to be added."""
        return self.order.added

    def until_resumed(self, within: float = 120) -> None:
        """Wait until messages are added again after a fault that has just begun; note how long it took."""
        began, before = time.monotonic(), self.added
        # The first batch may have been committed before the fault.
        eventually(lambda: self.added >= before + 2 * BATCH, "messages are added again", within)
        self.gaps.append(time.monotonic() - began)
        self.check_order()

    def until_failed(self, times: int = 1) -> None:
        """Wait until the store has failed that often since its start."""
        server = self.crowd.server
        eventually(lambda: len(server.log("postgres store failed")) >= times, "the store has failed", 60)

    @property
    def failures(self) -> int:
        """How often the store has failed."""
        return len(self.crowd.server.log("postgres store failed"))

    def check_order(self) -> None:
        """Check the deliveries so far."""
        assert not self.order.wrong, self.order.wrong[:20]

    def finish(self, what: str) -> None:
        """Take all messages out of the queues, and check that every one is accounted for."""
        self._stop()
        with closing(self.crowd.rpc()) as rpc:
            while rpc.get_queue(QUEUE).messages != pb.MessageCounts():
                at = time.monotonic()
                leased = rpc.receive(QUEUE, 1_000, wait=1, lease=60)
                for each in leased:
                    self.order.got(int(each.message.payload), each.token, at)
                    self.order.acking.add(int(each.message.payload))
                if leased:
                    assert set(rpc.ack(QUEUE, *(each.token for each in leased))) == {""}
        self.crowd.finish()
        self.check_order()
        assert set(range(self.added)) <= self.order.acking | self.order.acked.keys()
        check(self.crowd.ledger)
        ledger = self.crowd.ledger
        gaps = sorted(self.gaps) or [0.0]
        sys.stdout.write(
            f"\n{what}: {len(ledger.kept) + self.added:,} messages added, "
            f"{ledger.deliveries + self.order.deliveries:,} deliveries, {len(ledger.missing)} lost, "
            f"{len(ledger.wrong) + len(self.order.wrong)} back; {len(self.gaps)} gaps of "
            f"{gaps[0]:.1f} / {statistics.median(gaps):.1f} / {gaps[-1]:.1f} s\n"
        )

    def end(self) -> None:
        """Stop all processes."""
        self.crowd.end()
        self._producer.abandon()
        self._holder.kill()
        self._holder.join()

    def _stop(self) -> None:
        self._producer.end()
        self._holder.kill()
        self._holder.join()


@contextmanager
def load(
    quorum: Quorum, *, url: str = "", seed: int = 1, flags: tuple[str, ...] = (), lease: float = 5
) -> Iterator[Load]:
    """A server under load, whose tables are removed at the end of the block.

    Args:
        quorum: the nodes.
        url: the connection string, by default that of the nodes.
        seed: the seed of all random choices.
        flags: more flags of the server.
        lease: the lease of the owner in seconds.
    """
    schema = new_schema()
    where = ("--postgres", url or quorum.url(), "--postgres-schema", schema, "--postgres-lease", f"{lease:g}")
    there = Load((*where, *flags), seed)
    try:
        yield there
    finally:
        there.end()
        with quorum.restored():
            pass
        quorum.drop(schema)
