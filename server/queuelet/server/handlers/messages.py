"""The RPCs that remove or show the first messages: Pop, PopBatch, Peek and PeekBatch."""

from __future__ import annotations

from collections.abc import Awaitable

from queuelet.clock import now_ns
from queuelet.core.manager import Manager
from queuelet.server.endpoint import Call
from queuelet.server.handlers.durability import DURABILITY_2, about_one, after_commit
from queuelet.server.handlers.long_poll import LongPoll
from queuelet.server.plain_request import read_plain_pop
from queuelet.server.requests import page_size_from_pb, seconds_from_pb
from queuelet.v1 import queue_pb2 as pb

_PAGE_OVERHEAD = 32
"""Bytes of a response that are reserved for its durability."""


class MessageRpcs:
    """The RPCs that remove and show messages."""

    def __init__(self, manager: Manager, long_poll: LongPoll) -> None:
        self._manager = manager
        self._bounds = manager.bounds
        self._long_poll = long_poll

    def pop(self, data: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Remove and return the first ready message."""
        reference = read_plain_pop(data)
        if reference is not None:
            queue = self._manager.get(reference)
            return after_commit(queue, about_one(queue, queue.pop(now_ns()), call))
        request = pb.PopRequest.FromString(data)
        queue = self._manager.get(request.queue_id)
        wait = seconds_from_pb(request.wait, "wait") if request.HasField("wait") else 0
        request_id = request.request_id
        if not request_id and (not wait or queue.has_ready(now_ns())):
            return after_commit(queue, about_one(queue, queue.pop(now_ns()), call))

        def take() -> bytes:
            return about_one(queue, queue.pop(now_ns()), call)

        return after_commit(queue, self._long_poll.take(queue, wait, call, b"p", request_id, take))

    def pop_batch(self, data: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Remove and return the first ready messages, up to `max` and as many as fit the response."""
        request = pb.PopBatchRequest.FromString(data)
        queue = self._manager.get(request.queue_id)
        most = page_size_from_pb(request.max, "max") or self._bounds.batch
        wait = seconds_from_pb(request.wait, "wait") if request.HasField("wait") else 0

        def take() -> bytes:
            bodies = queue.pop_batch(most, self._bounds.message_bytes - _PAGE_OVERHEAD, now_ns())
            return b"".join((*bodies, DURABILITY_2[queue.durability])) if bodies else b""

        return after_commit(queue, self._long_poll.take(queue, wait, call, b"b", request.request_id, take))

    def peek(self, data: bytes, call: Call) -> bytes:
        """Return the first ready message."""
        return self._manager.get(pb.PeekRequest.FromString(data).queue_id).peek(now_ns())

    def peek_batch(self, data: bytes, call: Call) -> bytes:
        """Return the first ready messages, up to `max` and as many as fit the response."""
        request = pb.PeekBatchRequest.FromString(data)
        queue = self._manager.get(request.queue_id)
        most = page_size_from_pb(request.max, "max") or self._bounds.batch
        return b"".join(queue.peek_batch(most, self._bounds.message_bytes, now_ns()))
