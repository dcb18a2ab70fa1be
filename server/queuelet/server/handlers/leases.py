"""The RPCs about leases: Receive, Ack, Nack and Extend."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from queuelet.clock import CLOCK, now_ns
from queuelet.core.leases import Leased
from queuelet.core.manager import Manager
from queuelet.core.queue import Queue
from queuelet.core.stored_form import DELIVERY_ENVELOPE, delivered
from queuelet.errors import InvalidArgument, QueueletError
from queuelet.fairness import MANY, in_turn
from queuelet.limits import MAX_CONSUMER_BYTES, MAX_REASON_BYTES
from queuelet.server.endpoint import Call
from queuelet.server.handlers.durability import DURABILITY_2, after_commit
from queuelet.server.handlers.long_poll import LongPoll
from queuelet.server.requests import (
    check_batch,
    delay_from_pb,
    lease_from_pb,
    page_size_from_pb,
    seconds_from_pb,
    text_from_pb,
)
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import BatchErrors

_DONE = b"\x0a\x00"
"""A field `results = 1` without an error."""

_MIN_BYTES = 96
"""The least bytes that a message and its lease take in a response, rounded up a little."""


class LeaseRpcs:
    """The RPCs that lease messages, and end or extend leases."""

    def __init__(self, manager: Manager, long_poll: LongPoll) -> None:
        self._manager = manager
        self._bounds = manager.bounds
        self._long_poll = long_poll

    def receive(self, data: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Lease the first ready messages, up to `max` and as many as fit the response."""
        request = pb.ReceiveRequest.FromString(data)
        queue = self._manager.get(request.queue_id)
        most = min(page_size_from_pb(request.max, "max") or self._bounds.batch, self._bounds.batch)
        wait = seconds_from_pb(request.wait, "wait") if request.HasField("wait") else 0
        lease = lease_from_pb(request.lease) if request.HasField("lease") else 0
        consumer = text_from_pb(request.consumer, "consumer", MAX_CONSUMER_BYTES) if request.consumer else ""
        count, size = fitting(most, self._bounds.message_bytes)

        def receive() -> bytes:
            return deliveries(queue.receive(count, size, now_ns(), lease=lease, consumer=consumer))

        return self._long_poll.take(queue, wait, call, b"r", request.request_id, receive, consumer)

    def ack(self, data: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Remove the messages of the given tokens."""
        request = pb.AckRequest.FromString(data)
        queue = self._manager.get(request.queue_id)
        check_batch(request.tokens, "tokens", self._bounds)

        def ack() -> bytes | Awaitable[bytes]:
            response = _results(queue.ack(request.tokens, now_ns()))
            return after_commit(queue, response + DURABILITY_2[queue.durability])

        return _in_turn(queue, len(request.tokens), call, ack)

    def nack(self, data: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Return leased messages to the queue.

        The response waits for a commit only if a message died or is delayed. Otherwise a crash does no harm, because
        the leases then expire and the messages are redelivered.
        """
        request = pb.NackRequest.FromString(data)
        queue = self._manager.get(request.queue_id)
        check_batch(request.tokens, "tokens", self._bounds)
        delay = nack_delay_from_pb(request)
        reason = text_from_pb(request.reason, "reason", MAX_REASON_BYTES)

        def nack() -> bytes | Awaitable[bytes]:
            buried = queue.tally.buried
            results = queue.nack(
                request.tokens, now_ns(), delay=delay, reason=reason, dead=request.dead, unused=request.unused
            )
            response = _results(results)
            return after_commit(queue, response) if delay or queue.tally.buried > buried else response

        return _in_turn(queue, len(request.tokens), call, nack)

    def extend(self, data: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Extend leases."""
        request = pb.ExtendRequest.FromString(data)
        queue = self._manager.get(request.queue_id)
        check_batch(request.tokens, "tokens", self._bounds)
        lease = lease_from_pb(request.lease) if request.HasField("lease") else 0

        def extend() -> bytes:
            results, deadline = queue.extend(request.tokens, now_ns(), lease=lease)
            response = pb.ExtendResponse()
            response.deadline.FromNanoseconds(CLOCK.shown(deadline))
            return _results(results) + response.SerializeToString()

        return _in_turn(queue, len(request.tokens), call, extend)


def _in_turn(
    queue: Queue, tokens: int, call: Call, work: Callable[[], bytes | Awaitable[bytes]]
) -> bytes | Awaitable[bytes]:
    """Do the work of a call at once, or in the line of long work if it is about many tokens."""
    return work() if tokens <= MANY else _in_line(queue, call, work)


async def _in_line(queue: Queue, call: Call, work: Callable[[], bytes | Awaitable[bytes]]) -> bytes:
    def work_if_it_exists() -> bytes | Awaitable[bytes]:
        queue.check_exists()
        return work()

    response = await in_turn(call.peer_host, work_if_it_exists)
    return response if isinstance(response, bytes) else await response


def nack_delay_from_pb(request: pb.NackRequest | pb.ConsumeNack, field: str = "delay") -> int:
    """Return the delay of a Nack in nanoseconds, and check that its fields do not contradict each other."""
    delay = delay_from_pb(request.delay, field)
    if request.unused and request.dead:
        field = field.replace("delay", "unused")
        raise InvalidArgument(
            f"{field}: not allowed together with dead, because an unused message has not failed; leave out one",
            field=field,
        )
    if delay and request.dead:
        raise InvalidArgument(
            f"{field}: not allowed together with dead, because a dead message is not redelivered; leave out one",
            field=field,
        )
    return delay


def fitting(most: int, message_bytes: int) -> tuple[int, int]:
    """Return the most messages to lease for one response, and their most bytes, so that it fits `message_bytes`.

    The bytes leave room for the lease fields around each message.
    """
    count = max(1, min(most, message_bytes // _MIN_BYTES))
    return count, message_bytes - count * DELIVERY_ENVELOPE


def deliveries(leased: Leased) -> bytes:
    """Return leased messages as the fields of `ReceiveResponse`."""
    return delivered(leased.bodies, leased.first_token, leased.counts, CLOCK.shown(leased.deadline))


def _results(results: Sequence[QueueletError | None]) -> bytes:
    """Return an `AckResponse` with a result for each token. Repeated error messages are left out."""
    if not any(results):
        return _DONE * len(results)
    response = pb.AckResponse()
    errors = BatchErrors()
    for result in results:
        if result is None:
            response.results.add()
        else:
            response.results.add(error=errors.to_pb(result))
    return response.SerializeToString()
