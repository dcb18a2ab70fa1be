"""The objects whose queues were removed a short time ago: none of them gets its queue back by a late declaration.

An operator that was stopped for a while, as a busy machine or a debugger stops it, sends what it was about to send when
another one has taken over and the object is gone. Nobody would remove the queue that this made.
"""

from __future__ import annotations

from collections import OrderedDict

REMEMBERED = 60 * 10**9
"""How long a removal is remembered, in nanoseconds: longer than a Lease (15 s) and a call (10 s) together. It ends,
because an API server that is restored from a backup has the object again, under the same uid."""

MOST = 10_000
"""Removals that are remembered at most."""


class RemovedOwners:
    """Remembers removals by the uids of their objects, of which no two objects have the same."""

    def __init__(self) -> None:
        """Begin with none."""
        self._until: OrderedDict[str, int] = OrderedDict()

    def note(self, uid: str, now: int) -> None:
        """Note that the queue of an object was removed, at a time in nanoseconds."""
        self._until.pop(uid, None)
        self._until[uid] = now + REMEMBERED
        while len(self._until) > MOST or next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)

    def has(self, uid: str, now: int) -> bool:
        """Return whether the queue of an object was removed a short time ago."""
        return self._until.get(uid, now) > now
