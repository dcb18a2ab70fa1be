"""The calls about queues, their settings and their statistics.

Methods take and return values, and raise the errors of `queuelet.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime

from queuelet.bounds import UNBOUNDED
from queuelet.client.calls import Calls
from queuelet.client.connection import converted
from queuelet.client.messages import checked_tags_to_pb, timestamp_to_pb
from queuelet.client.text import filled
from queuelet.definition import DeliverySettings, QueueDefinition, StoreKind
from queuelet.errors import InvalidArgument
from queuelet.tags import Tag
from queuelet.v1 import queue_pb2 as pb
from queuelet.values import (
    DeclareResult,
    Queue,
    QueueChanges,
    QueueConsumers,
    QueueDeclaration,
    QueueHistory,
    QueueRemoval,
    QueueStats,
    RemoveResult,
    ServerStats,
)
from queuelet.wire.values import (
    changes_from_pb,
    consumers_from_pb,
    declaration_to_pb,
    declare_result_from_pb,
    delivery_to_pb,
    history_from_pb,
    queue_from_pb,
    queue_stats_from_pb,
    removal_to_pb,
    remove_result_from_pb,
    server_stats_from_pb,
    store_to_pb,
)


class QueueCalls(Calls):
    """The calls about queues."""

    async def list_queues(self, selector: str = "", page_size: int = 0) -> list[Queue]:
        """Return the queues that match a selector, in order of creation.

        Args:
            selector: Tags to match, in the syntax of kubectl's selectors; empty matches all queues.
            page_size: How many queues to ask for at once; 0 for the server's default. All pages are fetched in any
                case.

        Returns:
            The queues with their settings and message counts.

        Raises:
            InvalidArgument: The selector is not valid.
        """
        queues: list[Queue] = []
        token = ""
        while True:
            request = filled(pb.ListQueuesRequest, selector=selector, page_size=page_size, page_token=token)
            response = await self.call("ListQueues", request, pb.ListQueuesResponse)
            queues += [converted("ListQueues", queue_from_pb, each) for each in response.queues]
            token = response.next_page_token
            if not token:
                return queues

    async def new_queue(
        self,
        *,
        store: StoreKind | str = "MEMORY",
        limit: int = UNBOUNDED,
        tags: Iterable[Tag] = (),
        name: str = "",
        delivery: DeliverySettings | None = None,
    ) -> Queue:
        """Create a queue.

        Args:
            store: Where messages are stored, a `StoreKind` or its name: `MEMORY`, `DISK` or `POSTGRES`.
            limit: The largest number of messages in the queue; -1 for unlimited.
            tags: Tags of the queue, as pairs of key and value.
            name: A unique name; empty for a queue that has only an ID.
            delivery: Leases, number of deliveries and time to live; None for the server's defaults.

        Returns:
            The new queue.

        Raises:
            QueueExists: Another queue has the name.
            InvalidArgument: A setting is not valid.
            StoreUnavailable: The server runs without this store.
            TooMany: The server has as many queues as it may.
        """
        request = filled(
            pb.NewQueueRequest,
            store=store_to_pb(store) if isinstance(store, StoreKind) else store,
            limit=limit,
            tags=checked_tags_to_pb(tags),
            name=name,
            delivery=filled(delivery_to_pb, delivery=delivery) if delivery else None,
        )
        response = await self.call("NewQueue", request, pb.NewQueueResponse)
        return converted("NewQueue", queue_from_pb, response.queue)

    async def get_queue(self, queue: str) -> Queue:
        """Return a queue with its settings and message counts.

        Args:
            queue: The queue's name or ID.

        Returns:
            The queue as it is now.

        Raises:
            QueueNotFound: There is no such queue.
        """
        response = await self.call("GetQueue", filled(pb.GetQueueRequest, queue_id=queue), pb.GetQueueResponse)
        return converted("GetQueue", queue_from_pb, response.queue)

    async def delete_queue(self, queue: str) -> None:
        """Delete a queue and its messages. Do nothing if there is no such queue.

        Args:
            queue: The queue's name or ID.
        """
        await self.call("DeleteQueue", filled(pb.DeleteQueueRequest, queue_id=queue), pb.DeleteQueueResponse)

    async def tag_queue(self, queue: str, tag: Tag) -> None:
        """Add a tag to a queue.

        Args:
            queue: The queue's name or ID.
            tag: A pair of key and value.

        Raises:
            QueueNotFound: There is no such queue.
        """
        request = filled(pb.AddQueueTagRequest, queue_id=queue, tag=checked_tags_to_pb([tag])[0])
        await self.call("AddQueueTag", request, pb.AddQueueTagResponse)

    async def untag_queue(self, queue: str, tag: Tag) -> None:
        """Remove a tag from a queue.

        Args:
            queue: The queue's name or ID.
            tag: A pair of key and value.

        Raises:
            QueueNotFound: There is no such queue.
        """
        request = filled(pb.DeleteQueueTagRequest, queue_id=queue, tag=checked_tags_to_pb([tag])[0])
        await self.call("DeleteQueueTag", request, pb.DeleteQueueTagResponse)

    async def declare_queues(self, declarations: Sequence[QueueDefinition | QueueDeclaration]) -> list[DeclareResult]:
        """Create or update queues so that they match their declarations.

        A `QueueDeclaration` can also set the ID of a new queue, and adopt a queue of another owner.

        Args:
            declarations: The desired queues, at least one, by their definitions, which need a name.

        Returns:
            The result of each declaration, in the same order: what changed, or an error.

        Raises:
            InvalidArgument: There are no declarations, or too many.
            StoreFailed: A store failed before the changes were committed.
        """
        desired = [
            QueueDeclaration(definition=each) if isinstance(each, QueueDefinition) else each for each in declarations
        ]
        queues = [filled(declaration_to_pb, declaration=each) for each in desired]
        request = filled(pb.DeclareQueuesRequest, queues=queues)
        response = await self.call("DeclareQueues", request, pb.DeclareQueuesResponse)
        return [converted("DeclareQueues", declare_result_from_pb, each) for each in response.results]

    async def remove_queues(self, removals: Sequence[QueueRemoval]) -> list[RemoveResult]:
        """Delete queues, each only if it belongs to the given owner.

        Args:
            removals: The queues to delete, at least one.

        Returns:
            The result of each removal, in the same order: the number of messages deleted with the queue, or an error.

        Raises:
            InvalidArgument: There are no removals, or too many.
            StoreFailed: A store failed before the removals were committed.
        """
        queues = [filled(removal_to_pb, removal=each) for each in removals]
        request = filled(pb.RemoveQueuesRequest, queues=queues)
        response = await self.call("RemoveQueues", request, pb.RemoveQueuesResponse)
        return [converted("RemoveQueues", remove_result_from_pb, each) for each in response.results]

    async def watch_queues(self, selector: str = "", *, counts_apart: bool = False) -> AsyncIterator[QueueChanges]:
        """Watch queues for changes.

        Args:
            selector: Tags to match, in the syntax of kubectl's selectors; empty matches all queues.
            counts_apart: Whether to get changed counts as `QueueChanges.counts`, with totals, instead of as whole
                queues. It is cheaper for many busy queues. A server that does not know it sends whole queues.

        Yields:
            Batches of changes: first a snapshot of the queues, then their changes, until the iteration is left.

        Raises:
            InvalidArgument: The selector is not valid.
        """
        request = filled(pb.WatchQueuesRequest, selector=selector, counts_apart=counts_apart)
        async for batch in self.stream("WatchQueues", request, pb.WatchQueuesResponse):
            yield converted("WatchQueues", changes_from_pb, batch)

    async def stats(self, queue: str) -> QueueStats:
        """Return the statistics of a queue.

        Args:
            queue: The queue's name or ID.

        Returns:
            The queue's counters and gauges.

        Raises:
            QueueNotFound: There is no such queue.
            InvalidArgument: The name is empty.
        """
        if not queue:
            raise InvalidArgument("queue: empty; give a name or an ID, or use server_stats", field="queue")
        response = await self.call("GetStats", filled(pb.GetStatsRequest, queue_id=queue), pb.GetStatsResponse)
        return converted("GetStats", queue_stats_from_pb, response.queue)

    async def history(self, queue: str, *, after: datetime | None = None, max_points: int = 0) -> QueueHistory:
        """Return how the numbers of a queue changed: every 10 seconds for an hour, every 2 minutes for 24 hours.

        The server keeps it in memory, as far as its memory for histories allows. A restart begins a new history.

        Args:
            queue: The queue's name or id.
            after: Only points after this time; None for all.
            max_points: The most points, at most 10,000; more points are joined into longer steps. 0 for 360.

        Returns:
            The points, and when the history begins.

        Raises:
            QueueNotFound: There is no such queue.
            InvalidArgument: The time or the number is not valid.
        """
        request = filled(
            pb.GetHistoryRequest,
            queue_id=queue,
            after=None if after is None else timestamp_to_pb(after, "after"),
            max_points=max_points,
        )
        return converted("GetHistory", history_from_pb, await self.call("GetHistory", request, pb.GetHistoryResponse))

    async def list_consumers(self, queue: str) -> QueueConsumers:
        """List who takes messages from a queue now: the open streams, and the Receive calls that wait.

        Args:
            queue: The queue's name or id.

        Returns:
            The consumers, and the numbers of calls that wait.

        Raises:
            QueueNotFound: There is no such queue.
        """
        request = filled(pb.ListConsumersRequest, queue_id=queue)
        response = await self.call("ListConsumers", request, pb.ListConsumersResponse)
        return converted("ListConsumers", consumers_from_pb, response)

    async def server_stats(self) -> ServerStats:
        """Return the statistics of the server.

        Returns:
            The server's counters and gauges.
        """
        response = await self.call("GetStats", pb.GetStatsRequest(), pb.GetStatsResponse)
        return converted("GetStats", server_stats_from_pb, response.server)
