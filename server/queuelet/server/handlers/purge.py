"""The Purge RPC, which removes messages for good."""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial

from queuelet.clock import now_ns
from queuelet.core.manager import Manager
from queuelet.core.queue import Queue
from queuelet.core.stored_form import tags_of
from queuelet.definition import MessageState
from queuelet.errors import InvalidArgument
from queuelet.fairness import TimeSlice
from queuelet.selector import parse_selector
from queuelet.server.endpoint import Call
from queuelet.server.handlers.durability import after_commit
from queuelet.server.loading import loaded
from queuelet.server.requests import check_batch, checked_uuid, states_from_pb
from queuelet.v1 import queue_pb2 as pb

_STEP = 100
"""How many messages are removed at a time."""


class PurgeRpcs:
    """The handler."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._bounds = manager.bounds

    def purge(self, data: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Remove messages by ID or selector, or all of them; or only count them."""
        request = pb.PurgeRequest.FromString(data)
        queue = self._manager.get(request.queue_id)
        # A blank selector would select everything, which has to be requested explicitly by `all`.
        if bool(request.ids) + bool(request.selector.strip()) + request.all != 1:
            raise InvalidArgument("ids, selector, all: give exactly one of them", field="ids")
        states = states_from_pb(request.states)
        if request.ids:
            check_batch(request.ids, "ids", self._bounds)
            return after_commit(queue, _purge_ids(queue, request, states, call))
        return after_commit(queue, _purge_in_slices(queue, request, states, call))


async def _purge_ids(queue: Queue, request: pb.PurgeRequest, states: set[MessageState], call: Call) -> bytes:
    """Remove the messages with the IDs of a request in time slices; none if one of the IDs is malformed."""
    time_slice = TimeSlice(call.peer_host)
    if len(request.ids) > _STEP:
        await time_slice.begin()
    ids = list(dict.fromkeys(checked_uuid(message_id, "ids").encode() for message_id in request.ids))
    remove = queue.count_ids if request.dry_run else queue.purge_ids
    purged = 0
    for start in range(0, len(ids), _STEP):
        few = ids[start : start + _STEP]
        purged += await loaded(partial(remove, few, now_ns(), states))
        await time_slice.give()
    return pb.PurgeResponse(purged=purged).SerializeToString()


async def _purge_in_slices(queue: Queue, request: pb.PurgeRequest, states: set[MessageState], call: Call) -> bytes:
    """Remove the selected ones of the messages that are present now, in time slices."""
    time_slice = TimeSlice(call.peer_host)
    await time_slice.begin()
    selects = parse_selector(request.selector) if request.selector else None
    purged = after = 0
    last = queue.last_seq
    while after < last:
        found = await loaded(partial(queue.browse, after, _STEP, states, now=now_ns()))
        chosen: list[int] = []
        for each in found.messages:
            if each.seq <= last and (selects is None or selects(tags_of(each.body))):
                chosen.append(each.seq)
            after = each.seq
            if time_slice.is_over:
                break
        else:
            after = last if found.is_end else found.last
        purged += len(chosen) if request.dry_run else await loaded(partial(queue.purge, chosen, now_ns()))
        await time_slice.give()
    return pb.PurgeResponse(purged=purged).SerializeToString()
