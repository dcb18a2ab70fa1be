"""Where a queue is: the shard of an ID or a name, and the server that owns it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic

from queuelet.errors import ShardMoved
from queuelet.ids import parse_uuid
from queuelet.server.directory import HERE, Directory
from queuelet.server.endpoint import Call

WAIT = 2.0
"""The most seconds that a call waits for an owner of its shard. It has had no effect until then."""

_LOOK_EVERY = 0.05
"""Seconds after which a refused call is tried again even if the directory has not changed."""

_MAX_KNOWN = 100_000
"""How many references are remembered."""

_MAX_CHARACTERS = 400
"""The longest of them; names of queues are shorter."""


class Places:
    """Knows the shards of queues, as the directory does, but without waiting for those that it knows already."""

    def __init__(
        self, directory: Directory, has_queue: Callable[[str], bool], note_absent: Callable[[str], None]
    ) -> None:
        """Make it.

        Args:
            directory: which server owns which shard.
            has_queue: returns whether this server has the queue with an ID.
            note_absent: notes that there is no queue with an ID, so that calls are refused because of that.
        """
        self.directory = directory
        self._has_queue = has_queue
        self._note_absent = note_absent
        self._known: dict[str, int] = {}

    def known(self, reference: str) -> int | None:
        """Return the shard of an ID or a name, or None if `find` has to be asked."""
        return self._known.get(reference)

    async def find(self, reference: str) -> int | None:
        """Return the shard of an ID or a name; None for the ID of no queue, and for an empty reference.

        Raises:
            StoreFailed: the database cannot be read.
        """
        queue_id = parse_uuid(reference)
        if queue_id is None:
            shard = self.directory.shard_of_name(reference) if reference and self.directory.count else None
        else:
            shard = await self.directory.shard_of_id(queue_id)
        if shard is not None and len(reference) <= _MAX_CHARACTERS:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[reference] = shard
        return shard

    def settle_absent(self, shard: int, references: Iterable[str]) -> bool:
        """Decide about queues that this server does not have. Return whether to serve the call again.

        The ID of a deleted queue may be known to have been in a shard. If this server owns that, there is no such
        queue.

        Args:
            shard: the shard of the queues.
            references: their IDs or names.
        """
        if self.directory.owner(shard) != HERE:
            return False
        ids = [
            queue_id
            for reference in references
            if (queue_id := parse_uuid(reference)) and not self._has_queue(queue_id)
        ]
        for queue_id in ids:
            self._note_absent(queue_id)
        return bool(ids)

    def any_owner(self) -> str | None:
        """Return this server if it owns a shard, another owner otherwise, None if no server owns any."""
        owners = [owner for each in self.directory.shards() if (owner := self.directory.owner(each.shard)) is not None]
        return HERE if HERE in owners else next(iter(owners), None)


class Patience:
    """Decides how long a call is tried again that had no effect."""

    def __init__(self, directory: Directory, call: Call) -> None:
        left = call.seconds_left
        self._directory = directory
        self._until = monotonic() + (WAIT if left is None else min(WAIT, left))

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return max(0.0, self._until - monotonic())

    async def wait(self, error: ShardMoved) -> None:
        """Wait until a retry may succeed. Raise the error if the time is over."""
        if not self.left:
            raise error
        changed = asyncio.ensure_future(self._directory.changed())
        try:
            await asyncio.wait([changed], timeout=min(_LOOK_EVERY, self.left))
        finally:
            changed.cancel()


def unowned(shard: int | None, count: int) -> ShardMoved:
    """Return the error for a call on a queue whose shard has no owner. None is for a new queue, in any shard."""
    if shard is None:
        return ShardMoved("no server owns a shard at the moment in which the queue could be; try again")
    return ShardMoved(f"no server owns shard {shard} of {count} at the moment, in which the queue is; try again")
