"""The Browse RPC, which returns messages in any state, page by page, and changes nothing."""

from __future__ import annotations

from functools import partial

from queuelet.clock import CLOCK, now_ns
from queuelet.core.browsing import Browsed, Located
from queuelet.core.manager import Manager
from queuelet.core.queue import Queue
from queuelet.core.stored_form import browsed, next_page, payload_contains, tags_of
from queuelet.fairness import TimeSlice
from queuelet.selector import parse_selector
from queuelet.server.endpoint import Call
from queuelet.server.loading import loaded
from queuelet.server.requests import (
    check_at_most,
    checked_uuid,
    page_size_from_pb,
    payload_bytes_from_pb,
    place_from_token,
    states_from_pb,
    text_from_pb,
    token_of_place,
)
from queuelet.v1 import queue_pb2 as pb

_PAGE_OVERHEAD = 32
"""Bytes of a page that are reserved for its token."""

_STEP = 100
"""How many messages are read at a time."""


class BrowseRpcs:
    """The handler."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._bounds = manager.bounds

    async def browse(self, data: bytes, call: Call) -> bytes:
        """Return a page of messages, selected by state, tags, ID and content."""
        request = pb.BrowseRequest.FromString(data)
        queue = self._manager.get(request.queue_id)
        descending = request.descending
        page = _Page(request, page_size_from_pb(request.page_size) or self._bounds.batch, self._bounds.message_bytes)
        place = place_from_token(request.page_token, descending=descending)
        states = states_from_pb(request.states)
        check_at_most(request.ids, "ids", self._bounds)
        contains = text_from_pb(request.contains, "contains", self._bounds.contains_bytes).encode()
        time_slice = TimeSlice(call.peer_host)
        await time_slice.begin()
        selects = parse_selector(request.selector) if request.selector else None
        among = await _located(queue, request, time_slice) if request.ids else None
        if place is None:
            place = queue.last_seq + 1 if descending else 0
        read = read_bytes = 0
        while read < self._bounds.scan and read_bytes < self._bounds.scan_bytes:
            found = await loaded(
                partial(queue.browse, place, _STEP, states, now=now_ns(), descending=descending, among=among)
            )
            for each in found.messages:
                is_chosen = selects is None or selects(tags_of(each.body))
                if is_chosen and (not contains or payload_contains(each.body, contains)) and not page.add(each):
                    return page.until(place)
                place = each.seq
                read += 1
                read_bytes += len(each.body)
                if time_slice.is_over:
                    break
            else:
                if found.is_end:
                    return page.last
                place = found.last
                read += len(found.others)
                read_bytes += sum(found.others)
            await time_slice.give()
        return page.until(place)


class _Page:
    """A page in the making."""

    def __init__(self, request: pb.BrowseRequest, most: int, message_bytes: int) -> None:
        self._descending = request.descending
        has_bound = request.HasField("payload_bytes")
        self._payload_bytes = payload_bytes_from_pb(request.payload_bytes) if has_bound else None
        self._most = most
        self._space = self._most_bytes = message_bytes - _PAGE_OVERHEAD
        self._ahead = CLOCK.behind_ns()
        self._pieces: list[bytes] = []

    def add(self, each: Browsed) -> bool:
        """Add a message. Return whether it fits; the first one always does."""
        if len(self._pieces) == self._most:
            return False
        until = each.until and each.until + self._ahead
        piece = browsed(each.body, each.state, until, each.delivery, self._most_bytes, self._payload_bytes)
        self._space -= len(piece)
        if self._pieces and self._space < 0:
            return False
        self._pieces.append(piece)
        return True

    @property
    def last(self) -> bytes:
        """The response if this is the last page."""
        return b"".join(self._pieces)

    def until(self, place: int) -> bytes:
        """Return the response if there may be more messages beyond a sequence number."""
        return b"".join([*self._pieces, next_page(token_of_place(place, descending=self._descending))])


async def _located(queue: Queue, request: pb.BrowseRequest, time_slice: TimeSlice) -> list[Located]:
    """Return where the messages with the IDs of a request are, in order, in time slices."""
    located: set[Located] = set()
    for start in range(0, len(request.ids), _STEP):
        few = [checked_uuid(message_id, "ids").encode() for message_id in request.ids[start : start + _STEP]]
        queue.check_exists()
        located.update(await loaded(partial(queue.locate, few)))
        await time_slice.give()
    return sorted(located)
