"""Remembers the objects whose queues were removed recently, so that a late declaration does not create a queue again.

An operator that was paused, by a busy machine or a debugger, may send a declaration after another operator has taken
over and the object was deleted. No operator would ever remove the queue that such a declaration created.
"""

from __future__ import annotations

from collections import OrderedDict

RETENTION_NS = 60 * 10**9
"""How long a removal is remembered, in nanoseconds: longer than a Lease (15 s) and a call (10 s) together. It is not
longer, because an API server that is restored from a backup has the object again, with the same uid."""

MAX_REMOVALS = 10_000
"""The maximum number of removals that are remembered."""


class RemovedOwners:
    """Recent removals, by the uids of the objects."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, int] = OrderedDict()

    def note(self, uid: str, now: int) -> None:
        """Remember that the queue of an object was removed at `now`, in nanoseconds."""
        self._until.pop(uid, None)
        self._until[uid] = now + RETENTION_NS
        while len(self._until) > MAX_REMOVALS or next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)

    def has(self, uid: str, now: int) -> bool:
        """Return whether the queue of an object was removed recently."""
        return self._until.get(uid, now) > now
