"""The RPCs that remove and show messages: Pop, PopBatch, Peek, PeekBatch, Browse and Purge."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from queuelet.clock import CLOCK, now_ns
from queuelet.core.manager import Manager
from queuelet.core.queue import Queue
from queuelet.core.stored_form import browsed, next_page, tags_of
from queuelet.definition import MessageState
from queuelet.errors import InvalidArgument
from queuelet.fairness import TimeSlice
from queuelet.selector import parse_selector
from queuelet.server.endpoint import Call
from queuelet.server.handlers.durability import DURABILITY_2, about_one, after_commit
from queuelet.server.handlers.long_poll import LongPoll
from queuelet.server.requests import (
    check_batch,
    checked_uuid,
    number_from_token,
    page_size_from_pb,
    seconds_from_pb,
    states_from_pb,
)
from queuelet.v1 import queue_pb2 as pb

_PAGE_OVERHEAD = 32
"""Bytes of a page that are reserved for its token or durability."""

_STEP = 100
"""How many messages are browsed at a time."""


class MessageRpcs:
    """The RPCs that remove and show messages."""

    def __init__(self, manager: Manager, long_poll: LongPoll) -> None:
        self._manager = manager
        self._bounds = manager.bounds
        self._long_poll = long_poll

    # Popping and peeking

    def pop(self, data: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Remove and return the first ready message."""
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
            return b"".join((*bodies, DURABILITY_2[queue.is_durable])) if bodies else b""

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

    # Browsing and removing

    async def browse(self, data: bytes, call: Call) -> bytes:
        """Return a page of messages, selected by state and tags."""
        request = pb.BrowseRequest.FromString(data)
        queue = self._manager.get(request.queue_id)
        most = page_size_from_pb(request.page_size) or self._bounds.batch
        after = number_from_token(request.page_token)
        states = states_from_pb(request.states)
        time_slice = TimeSlice(call.peer_host)
        await time_slice.begin()
        selects = parse_selector(request.selector) if request.selector else None
        pieces: list[bytes] = []
        most_bytes = self._bounds.message_bytes - _PAGE_OVERHEAD
        space = most_bytes
        behind = CLOCK.behind_ns()
        looked_at = 0
        while looked_at < self._bounds.scan:
            found = queue.browse(after, _STEP, states, now=now_ns())
            for each in found.messages:
                if selects is None or selects(tags_of(each.body)):
                    piece = browsed(
                        each.body, each.state, each.until and each.until + behind, each.delivery, most_bytes
                    )
                    space -= len(piece)
                    if pieces and (len(pieces) == most or space < 0):
                        return b"".join([*pieces, next_page(str(after))])
                    pieces.append(piece)
                after = each.seq
                looked_at += 1
                if time_slice.is_over:
                    break
            else:
                if found.is_end:
                    return b"".join(pieces)
                after = found.last
            await time_slice.give()
        return b"".join([*pieces, next_page(str(after))])

    def purge(self, data: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Remove messages by ID or selector, or all of them."""
        request = pb.PurgeRequest.FromString(data)
        queue = self._manager.get(request.queue_id)
        # A blank selector would select everything, which has to be requested explicitly by `all`.
        if bool(request.ids) + bool(request.selector.strip()) + request.all != 1:
            raise InvalidArgument("ids, selector, all: give exactly one of them", field="ids")
        states = states_from_pb(request.states)
        if request.ids:
            check_batch(request.ids, "ids", self._bounds)
            return after_commit(queue, self._purge_ids(queue, request.ids, states, call))
        return after_commit(queue, self._purge_in_slices(queue, request.selector, states, call))

    async def _purge_ids(
        self, queue: Queue, message_ids: Sequence[str], states: set[MessageState], call: Call
    ) -> bytes:
        """Remove the messages with these IDs in time slices; none if one of the IDs is malformed."""
        time_slice = TimeSlice(call.peer_host)
        if len(message_ids) > _STEP:
            await time_slice.begin()
        ids = [checked_uuid(message_id, "ids").encode() for message_id in message_ids]
        purged = 0
        for start in range(0, len(ids), _STEP):
            purged += queue.purge_ids(ids[start : start + _STEP], now_ns(), states)
            await time_slice.give()
        return pb.PurgeResponse(purged=purged).SerializeToString()

    async def _purge_in_slices(self, queue: Queue, selector: str, states: set[MessageState], call: Call) -> bytes:
        """Remove the selected ones of the messages that are present now, in time slices."""
        time_slice = TimeSlice(call.peer_host)
        await time_slice.begin()
        selects = parse_selector(selector) if selector else None
        purged = after = 0
        last = queue.last_seq
        while after < last:
            found = queue.browse(after, _STEP, states, now=now_ns())
            chosen: list[int] = []
            for each in found.messages:
                if each.seq <= last and (selects is None or selects(tags_of(each.body))):
                    chosen.append(each.seq)
                after = each.seq
                if time_slice.is_over:
                    break
            else:
                after = last if found.is_end else found.last
            purged += queue.purge(chosen, now_ns())
            await time_slice.give()
        return pb.PurgeResponse(purged=purged).SerializeToString()
