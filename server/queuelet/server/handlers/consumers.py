"""The ListConsumers RPC: who takes messages from a queue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from queuelet.clock import CLOCK
from queuelet.core.consumers import Claim
from queuelet.core.manager import Manager
from queuelet.core.queue import Queue
from queuelet.core.waiting import Consumer
from queuelet.fairness import TimeSlice
from queuelet.server.endpoint import Call
from queuelet.server.sockets import peer_of
from queuelet.v1 import queue_pb2 as pb

MAX_LISTED = 1_000
"""The most consumers in a response."""

_ENVELOPE = 64
"""The most bytes around a consumer, or of the numbers in a response."""

_STEP = 100
"""The most consumers or leases between two checks of the time slice."""


class _Listed(NamedTuple):
    """A consumer, and its claim if it is a stream."""

    consumer: Consumer
    claim: Claim | None = None


class ConsumersRpcs:
    """The handler."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    async def list_consumers(self, data: bytes, call: Call) -> bytes:
        """Return the streams and the waiting Receive calls of a queue, the oldest first."""
        queue = self._manager.get(pb.ListConsumersRequest.FromString(data).queue_id)
        time_slice = TimeSlice(call.peer_host)
        await time_slice.begin()
        response = pb.ListConsumersResponse(
            waiting_for_message=len(queue.waiters.takers), waiting_for_space=queue.waiting_adds
        )
        listed: list[_Listed] = []
        for number, each in enumerate(_consumers(queue)):
            listed.append(each)
            if number % _STEP == 0:
                await time_slice.give()
        listed.sort(key=lambda each: each.consumer.since)
        of_streams = 0
        space = self._manager.bounds.message_bytes - _ENVELOPE
        for number, each in enumerate(listed):
            leases, deadline = await _leases(queue, each.consumer.tokens, time_slice)
            of_streams += leases
            if number < MAX_LISTED and space > 0:
                message = _to_pb(queue, each, leases, deadline)
                space -= message.ByteSize() + _ENVELOPE
                if space > 0:
                    response.consumers.append(message)
        response.other_leases = max(0, queue.counts.leased - of_streams)
        return response.SerializeToString()


def _consumers(queue: Queue) -> Iterator[_Listed]:
    for claim in list(queue.claims):
        if claim.describe is not None:
            yield _Listed(claim.describe(), claim)
    for taker in list(queue.waiters.takers):
        if taker.describe is not None:
            yield _Listed(taker.describe())


async def _leases(queue: Queue, tokens: Iterable[int], time_slice: TimeSlice) -> tuple[int, int]:
    """Return how many of these leases have not ended, and when the first of them ends, in ns; 0 if there is none."""
    count, first = 0, 0
    for number, token in enumerate(list(tokens)):
        deadline = queue.deadline_of(token)
        if deadline:
            count += 1
            first = min(first or deadline, deadline)
        if number % _STEP == 0:
            await time_slice.give()
    return count, first


def _to_pb(queue: Queue, listed: _Listed, leases: int, deadline: int) -> pb.Consumer:
    consumer, claim = listed
    host, port = peer_of(consumer.peer)
    message = pb.Consumer(
        kind=pb.Consumer.KIND_RECEIVE if claim is None else pb.Consumer.KIND_STREAM,
        name=consumer.name,
        peer=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        exclusive=claim is not None and claim.is_exclusive,
        holds_queue=claim is not None and queue.claims.holder is claim,
        credit=consumer.credit,
        leases=leases,
    )
    message.since.FromNanoseconds(CLOCK.shown(consumer.since))
    if consumer.last_settled:
        message.last_settled.FromNanoseconds(CLOCK.shown(consumer.last_settled))
    if deadline:
        message.next_deadline.FromNanoseconds(CLOCK.shown(deadline))
    return message
