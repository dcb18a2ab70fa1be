"""The RPCs about queues themselves: list, create, change and delete them, singly or by declaration."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from operator import add
from typing import TypeVar

from queuelet import __version__
from queuelet.clock import now_ns
from queuelet.core.manager import Manager
from queuelet.core.queue import Queue
from queuelet.core.storage import StoreState
from queuelet.definition import Counts
from queuelet.errors import InvalidArgument, QueueletError, QueueNotFound, ShardMoved
from queuelet.fairness import TimeSlice
from queuelet.ids import parse_uuid
from queuelet.selector import Selector, parse_selector
from queuelet.server.ages import oldest_ready_age
from queuelet.server.endpoint import Call
from queuelet.server.handlers.durability import once_defined
from queuelet.server.replies import queue_to_pb, store_epochs
from queuelet.server.requests import (
    check_batch,
    checked_owner,
    declaration_from_pb,
    new_queue_from_pb,
    number_from_token,
    page_size_from_pb,
    tags_from_pb,
)
from queuelet.tags import Tag
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import NEGZ_SERVICE, SERVICE, error_to_pb
from queuelet.wire.values import counts_to_pb, declare_outcome_to_pb, owner_to_pb

_Item = TypeVar("_Item")
_Result = TypeVar("_Result", pb.DeclareResult, pb.RemoveResult)

_PAGE = 100
"""How many queues are looked up at a time."""

_KEY_AND_LENGTH = 6
"""The most bytes of the key and length before a queue or a result."""

_PAGE_OVERHEAD = 32
"""Bytes of a page that are reserved for its token."""


class QueueRpcs:
    """The RPCs about queues, and the statistics."""

    def __init__(self, manager: Manager, *, started: int) -> None:
        """Make the handlers; `started` is when the server started, in nanoseconds since 1970."""
        self._manager = manager
        self._bounds = manager.bounds
        self._started = started

    async def list_queues(self, data: bytes, call: Call) -> bytes:
        """Return a page of queues in order of creation."""
        request = pb.ListQueuesRequest.FromString(data)
        most = page_size_from_pb(request.page_size) or self._bounds.queues
        space = self._bounds.message_bytes - _PAGE_OVERHEAD
        response = pb.ListQueuesResponse()
        last = 0
        time_slice = TimeSlice(call.peer_host)
        await time_slice.begin()
        selects = parse_selector(request.selector)
        async for queue in self._selected(number_from_token(request.page_token), selects, time_slice):
            message = queue_to_pb(queue)
            size = message.ByteSize()
            space -= size + _KEY_AND_LENGTH
            if len(response.queues) == most or (space < 0 and response.queues):
                # Clients of negz/q know no pages, but its gateway's route may have a page size.
                if call.service == NEGZ_SERVICE and not request.page_size:
                    raise InvalidArgument(
                        f"page_size: all queues do not fit a response of {self._bounds.message_bytes:,} bytes; "
                        f"set it to list them in pages, over gRPC with {SERVICE}, "
                        "or raise --max-message-bytes of the server",
                        field="page_size",
                    )
                response.next_page_token = str(last)
                break
            response.queues.append(message)
            last = queue.number
        return response.SerializeToString()

    async def _selected(self, after: int, selects: Selector, time_slice: TimeSlice) -> AsyncIterator[Queue]:
        """Yield the selected queues after a number, in time slices."""
        while queues := self._manager.after(after, _PAGE):
            for queue in queues:
                if selects(queue.definition.tags):
                    yield queue
                await time_slice.give()
            after = queues[-1].number

    def new_queue(self, data: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Create a queue."""
        definition = new_queue_from_pb(pb.NewQueueRequest.FromString(data), self._bounds)
        queue = self._manager.new(definition, now=now_ns())
        return once_defined(queue, pb.NewQueueResponse(queue=queue_to_pb(queue)).SerializeToString())

    def get_queue(self, data: bytes, call: Call) -> bytes:
        """Return one queue."""
        queue = self._manager.get(pb.GetQueueRequest.FromString(data).queue_id)
        return pb.GetQueueResponse(queue=queue_to_pb(queue)).SerializeToString()

    def delete_queue(self, data: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Delete a queue. As in negz/q, deleting an unknown queue succeeds, but a malformed ID does not.

        See docs/compatibility.md, Q16 and Q14.
        """
        reference = pb.DeleteQueueRequest.FromString(data).queue_id
        try:
            queue = self._manager.get(reference)
        except QueueNotFound:
            if call.service == NEGZ_SERVICE and not parse_uuid(reference):
                raise
            return b""
        self._manager.delete(queue)
        return once_defined(queue, b"")

    def add_queue_tag(self, data: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Add a tag to a queue."""
        queue, tag = self._tagging(pb.AddQueueTagRequest.FromString(data))
        self._manager.tag(queue, tag, now=now_ns())
        return once_defined(queue, b"")

    def delete_queue_tag(self, data: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Delete a tag of a queue."""
        queue, tag = self._tagging(pb.DeleteQueueTagRequest.FromString(data))
        self._manager.untag(queue, tag, now=now_ns())
        return once_defined(queue, b"")

    def _tagging(self, request: pb.AddQueueTagRequest | pb.DeleteQueueTagRequest) -> tuple[Queue, Tag]:
        """Return queue and tag, checked in negz/q's order: ID, queue, tag (Q20)."""
        queue = self._manager.get(request.queue_id)
        if not request.HasField("tag"):
            raise InvalidArgument("tag: give a tag with a key and a value", field="tag", missing="tag")
        (tag,) = tags_from_pb([request.tag], self._bounds, "tag")
        return queue, tag

    async def declare_queues(self, data: bytes, call: Call) -> bytes:
        """Create or update queues by their declarations, each with its own result."""
        time_slice = TimeSlice(call.peer_host)
        await time_slice.begin()
        request = pb.DeclareQueuesRequest.FromString(data)
        results = await self._change(self._declare, request.queues, time_slice)
        return pb.DeclareQueuesResponse(results=results).SerializeToString()

    async def _change(
        self, change: Callable[[_Item, set[StoreState]], _Result], items: Sequence[_Item], time_slice: TimeSlice
    ) -> list[_Result]:
        """Change queues in time slices, and wait for the commit. Return a result for each, of which all fit a response.

        Only the stores of these queues have to commit, because another one may be full or slow.

        Raises:
            InvalidArgument: there are too many items, or none.
            StoreFailed: a store failed before the commit.
            ShardMoved: another server owns a queue, and can make all changes of the request again.
        """
        check_batch(items, "queues", self._bounds)
        results: list[_Result] = []
        stores: set[StoreState] = set()
        for item in items:
            results.append(change(item, stores))
            await time_slice.give()
        commit = self._manager.commit(stores)
        if commit is not None:
            await commit
        fit(results, self._bounds.message_bytes)
        return results

    def _declare(self, declared: pb.QueueDeclaration, stores: set[StoreState]) -> pb.DeclareResult:
        try:
            outcome, queue, previous = self._manager.declare(declaration_from_pb(declared, self._bounds), now=now_ns())
        except ShardMoved:
            raise
        except QueueletError as error:
            existing = None if isinstance(error, InvalidArgument) else self._manager.find(declared.name)
            return pb.DeclareResult(
                outcome=pb.DeclareResult.OUTCOME_REFUSED,
                queue=queue_to_pb(existing) if existing else None,
                error=error_to_pb(error),
            )
        stores.add(queue.store)
        return pb.DeclareResult(
            outcome=declare_outcome_to_pb(outcome),
            queue=queue_to_pb(queue),
            previous_owner=owner_to_pb(previous) if previous else None,
        )

    async def remove_queues(self, data: bytes, call: Call) -> bytes:
        """Delete queues of an owner, each with its own result."""
        time_slice = TimeSlice(call.peer_host)
        await time_slice.begin()
        request = pb.RemoveQueuesRequest.FromString(data)
        results = await self._change(self._remove, request.queues, time_slice)
        return pb.RemoveQueuesResponse(results=results).SerializeToString()

    def _remove(self, removal: pb.QueueRemoval, stores: set[StoreState]) -> pb.RemoveResult:
        queue = self._manager.find(removal.queue_id)
        try:
            dropped = self._manager.remove(removal.queue_id, checked_owner(removal.owner, self._bounds), now=now_ns())
        except ShardMoved:
            raise
        except QueueletError as error:
            return pb.RemoveResult(outcome=pb.RemoveResult.OUTCOME_REFUSED, error=error_to_pb(error))
        # An absent queue may have been removed a moment ago, from any store.
        stores.update([queue.store] if queue else self._manager.states.values())
        if dropped is None:
            return pb.RemoveResult(outcome=pb.RemoveResult.OUTCOME_ABSENT)
        return pb.RemoveResult(outcome=pb.RemoveResult.OUTCOME_REMOVED, dropped=counts_to_pb(dropped))

    async def get_stats(self, data: bytes, call: Call) -> bytes:
        """Return the statistics of the server or of one queue."""
        request = pb.GetStatsRequest.FromString(data)
        if request.queue_id:
            return pb.GetStatsResponse(queue=_queue_stats(self._manager.get(request.queue_id))).SerializeToString()
        return pb.GetStatsResponse(server=await self._server_stats(call)).SerializeToString()

    async def _server_stats(self, call: Call) -> pb.ServerStats:
        total = Counts()
        time_slice = TimeSlice(call.peer_host)
        await time_slice.begin()
        async for queue in self._selected(0, lambda _: True, time_slice):
            total = Counts(*map(add, total, queue.counts))
        stats = pb.ServerStats(
            version=__version__,
            stores=store_epochs(self._manager),
            queues=len(self._manager),
            messages=counts_to_pb(total),
            memory_bytes=self._manager.budget.used,
            memory_watermark_bytes=self._manager.budget.watermark,
        )
        stats.started.FromNanoseconds(self._started)
        return stats


def fit(results: Sequence[pb.DeclareResult | pb.RemoveResult], most_bytes: int) -> None:
    """Remove optional fields from the results, beginning with the last, until all of them fit."""
    excess = sum(result.ByteSize() + _KEY_AND_LENGTH for result in results) - most_bytes
    for result in reversed(results):
        if excess <= 0:
            return
        excess -= result.ByteSize()
        if isinstance(result, pb.DeclareResult):
            result.ClearField("queue")
        if result.HasField("error"):
            result.error.ClearField("message")
        excess += result.ByteSize()


def _queue_stats(queue: Queue) -> pb.QueueStats:
    tally = queue.tally
    stats = pb.QueueStats(
        queue=queue_to_pb(queue),
        enqueued=tally.enqueued,
        consumed=tally.consumed,
        purged=tally.purged,
        refused_full=queue.refused_full,
        stored_bytes=queue.stored_bytes,
        waiting_calls=len(queue.waiters),
        leased=tally.leased,
        redelivered=tally.redelivered,
        acked=tally.acked,
        nacked=tally.nacked,
        released=tally.released,
        expired=tally.expired,
        buried=tally.buried,
        redriven=tally.redriven,
        damaged=queue.damaged,
    )
    age = oldest_ready_age(queue, now_ns())
    if age is not None:
        stats.oldest_ready_age.FromNanoseconds(int(age * 1e9))
    return stats
