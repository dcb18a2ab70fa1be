"""The table of all methods of a server that shares the queues of a database with others.

A method that names one queue is served by its owner. The others are served by all owners, and their responses joined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from queuelet.core.manager import Manager
from queuelet.server.directory import Directory
from queuelet.server.endpoint import Method
from queuelet.server.forwarding.declaring import BATCHES, ForwardedBatch
from queuelet.server.forwarding.fan_in import FanIn
from queuelet.server.forwarding.listing import ForwardedListing
from queuelet.server.forwarding.owned import OwnedQueues, ShardOf
from queuelet.server.forwarding.peers import Peers
from queuelet.server.forwarding.places import Places
from queuelet.server.forwarding.stats import ForwardedStats
from queuelet.server.forwarding.streams import ForwardedStream
from queuelet.server.forwarding.unary import ForwardedUnary
from queuelet.server.forwarding.watching import ForwardedWatch
from queuelet.server.handlers.watch import WatchRpcs
from queuelet.wire.queue_field import QUEUE_FIELDS


class Forwarding:
    """Serves any queue at any server."""

    def __init__(
        self,
        directory: Directory,
        peers: Peers,
        manager: Manager,
        shard_of: ShardOf,
        note_absent: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Make it.

        Args:
            directory: which server owns which shard.
            peers: calls the other servers.
            manager: the queues of this server.
            shard_of: returns the shard of one of them.
            note_absent: notes that there is no queue with an ID, in any server.
        """
        self._places = Places(directory, lambda queue_id: manager.find(queue_id) is not None, note_absent)
        self._peers = peers
        self._bounds = manager.bounds
        self._fan_in = FanIn(self._places, peers)
        self._owned = OwnedQueues(manager, directory, shard_of)
        self._watch = ForwardedWatch(WatchRpcs(manager), self._owned, self._places, self._fan_in, peers)

    def forwarded(self, tables: Mapping[str, Sequence[Method]]) -> dict[str, list[Method]]:
        """Return the tables with each method served by the owners of its queues."""
        return {service: [self._method(service, method) for method in methods] for service, methods in tables.items()}

    def _method(self, service: str, method: Method) -> Method:
        if method.name == "WatchQueues":
            return replace(method, stream=self._watch.watch_queues)
        if method.name == "ListQueues":
            return replace(method, unary=ForwardedListing(service, self._owned, self._fan_in).list_queues)
        if method.stream is not None:
            return replace(method, stream=ForwardedStream(service, method, self._places, self._peers).serve)
        unary = ForwardedUnary(service, method, self._places, self._peers)
        if method.name in BATCHES:
            batch = ForwardedBatch(BATCHES[method.name], unary, self._places, self._bounds)
            return replace(method, unary=batch.serve)
        if method.name == "GetStats":
            return replace(method, unary=ForwardedStats(unary, self._fan_in).get_stats)
        if method.name not in QUEUE_FIELDS:
            raise ValueError(f"{method.name}: say how it is served by several servers")
        return replace(method, unary=unary.serve)
