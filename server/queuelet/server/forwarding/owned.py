"""The queues of some shards of this server, as long as it owns them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from queuelet.core.manager import Manager
from queuelet.core.queue import Queue
from queuelet.errors import ShardMoved
from queuelet.server.directory import HERE, Directory

ShardOf = Callable[[Queue], int | None]
"""Returns the shard of a queue of this server; None if it is in a store without shards."""


class OwnedQueues:
    """The queues of this server by shard."""

    def __init__(self, manager: Manager, directory: Directory, shard_of: ShardOf) -> None:
        self.manager = manager
        self.shard_of = shard_of
        self._directory = directory

    def of(self, shards: frozenset[int]) -> Iterator[Queue]:
        """Iterate over the queues in some shards."""
        return (queue for queue in self.manager if self.shard_of(queue) in shards)

    def shows(self, queue: Queue, shards: frozenset[int]) -> bool:
        """Return whether a queue is in one of these shards, and this server owns that.

        The queues of a shard that moves are not deleted, although they are gone from this server.
        """
        shard = self.shard_of(queue)
        return shard is not None and shard in shards and self._directory.owner(shard) == HERE

    def check(self, shards: Iterable[int]) -> None:
        """Raise `ShardMoved` unless this server owns all of these shards."""
        for shard in shards:
            if self._directory.owner(shard) != HERE:
                raise ShardMoved(f"another server owns shard {shard} of {self._directory.count}; try again")

    async def until_moved(self, shards: Iterable[int]) -> None:
        """Wait until this server no longer owns all of these shards, and raise `ShardMoved`."""
        while True:
            self.check(shards)
            await self._directory.changed()
