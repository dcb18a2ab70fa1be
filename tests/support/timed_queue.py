"""A queue with a clock that the test advances, in seconds."""

from __future__ import annotations

from queuelet.core.browsing import Browsed
from queuelet.core.message import DeliveryRecord, Terms
from queuelet.definition import DeliverySettings
from queuelet.errors import QueueletError
from support.drafts import draft, payload_of
from support.queues import make_queue

SECOND = 1_000_000_000
BEGIN = 1_000 * SECOND


class TimedQueue:
    """A queue in memory whose methods take payloads and seconds."""

    def __init__(self, *, limit: int = -1, lease: int = 30, max_deliveries: int = 5, ttl: int | None = None) -> None:
        delivery = DeliverySettings(lease_seconds=lease, max_deliveries=max_deliveries, message_ttl_seconds=ttl)
        self.now = BEGIN
        self.queue = make_queue(limit=limit, delivery=delivery, now=BEGIN)

    def wait(self, seconds: float) -> None:
        """Advance the clock without notifying the queue."""
        self.now += int(seconds * SECOND)

    def add(self, *payloads: bytes, priority: int = 0, delay: float = 0, ttl: float = 0) -> None:
        """Add messages, with terms if any are given."""
        asked = Terms(priority, 0, int(delay * SECOND), int(ttl * SECOND))
        for payload in payloads:
            self.queue.add(draft(payload, terms=None if asked == Terms() else asked), self.now)

    def receive(self, count: int = 1, *, lease: float = 0) -> list[int]:
        """Lease messages; return their tokens."""
        leased = self.queue.receive(count, 1 << 20, self.now, lease=int(lease * SECOND), consumer="worker")
        return list(range(leased.first_token, leased.first_token + len(leased.bodies)))

    def received(self, count: int = 10) -> list[bytes]:
        """Lease messages; return their payloads."""
        return [payload_of(body) for body in self.queue.receive(count, 1 << 20, self.now).bodies]

    def popped(self, count: int = 1_000) -> list[bytes]:
        """Pop messages and return their payloads."""
        return [payload_of(body) for body in self.queue.pop_batch(count, 1 << 20, self.now)]

    def ready(self) -> list[bytes]:
        """Return the payloads of the ready messages, in order."""
        return [payload_of(body) for body in self.queue.peek_batch(1_000, 1 << 20, self.now)]

    def ack(self, *tokens: int) -> list[str]:
        """Ack messages and return the reasons of errors."""
        return _reasons(self.queue.ack(tokens, self.now))

    def nack(
        self, *tokens: int, delay: float = 0, reason: str = "", dead: bool = False, unused: bool = False
    ) -> list[str]:
        """Nack messages and return the reasons of errors."""
        away = int(delay * SECOND)
        return _reasons(self.queue.nack(tokens, self.now, delay=away, reason=reason, dead=dead, unused=unused))

    def extend(self, *tokens: int, lease: float = 0) -> list[str]:
        """Extend leases and return the reasons of errors."""
        return _reasons(self.queue.extend(tokens, self.now, lease=int(lease * SECOND))[0])

    def redrive(self, *seqs: int) -> int:
        """Make dead messages ready and return how many were dead."""
        return self.queue.redrive(seqs, self.now)

    def look(self, seq: int = 1) -> Browsed:
        """Return a message with its state and delivery."""
        return self.queue.browse(seq - 1, 1, now=self.now).messages[0]

    def delivery(self, seq: int = 1) -> DeliveryRecord:
        """Return the delivery of a message."""
        delivery = self.look(seq).delivery
        assert delivery
        return delivery

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """The numbers of ready, delayed, leased and dead messages, after all overdue transitions."""
        self.queue.peek_batch(1, 0, self.now)
        return tuple(self.queue.counts)  # type: ignore[return-value]  # it has four


def _reasons(results: list[QueueletError | None]) -> list[str]:
    return [result.reason if result else "" for result in results]
