"""Calls about the queues of all shards: made at each owner, with the shards that it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from queuelet.errors import ShardMoved, StoreFailed
from queuelet.server.directory import HERE
from queuelet.server.endpoint import Call
from queuelet.server.forwarding.origin import origin_of, shards_metadata
from queuelet.server.forwarding.peers import Peers
from queuelet.server.forwarding.places import Patience, Places, unowned

Here = Callable[[frozenset[int]], Awaitable[bytes]]
"""Makes the call for some shards of this server."""


class FanIn:
    """Makes calls at several servers at the same time."""

    def __init__(self, places: Places, peers: Peers) -> None:
        self._places = places
        self._directory = places.directory
        self._peers = peers

    def by_owner(self, shards: Iterable[int]) -> dict[str | None, frozenset[int]]:
        """Return these shards by their owner; those that have none are under None."""
        groups: dict[str | None, set[int]] = {}
        for shard in shards:
            groups.setdefault(self._directory.owner(shard), set()).add(shard)
        return {owner: frozenset(group) for owner, group in groups.items()}

    async def call(self, path: str, request: bytes, here: Here, call: Call) -> list[bytes]:
        """Make a call about all shards, and return the responses, each of which covers other shards.

        Raises:
            ShardMoved: the queues of a shard are missing, because it has no owner.
            StoreFailed: the database has not been read yet.
        """
        if not self._directory.count:
            raise StoreFailed("the database has not been read yet, so that its queues are not known")
        patience = Patience(self._directory, call)
        left = frozenset(range(self._directory.count))
        responses: list[bytes] = []
        while True:
            groups = self.by_owner(left)
            calls = [self._at(owner, group, path, request, here, call, patience) for owner, group in groups.items()]
            found = await asyncio.gather(*calls, return_exceptions=True)
            error: ShardMoved | None = None
            for group, response in zip(groups.values(), found, strict=True):
                if isinstance(response, bytes):
                    responses.append(response)
                    left -= group
                elif isinstance(response, ShardMoved):
                    error = response
                else:
                    raise response
            if error is None:
                return responses
            await patience.wait(error)

    async def _at(  # noqa: PLR0913, PLR0917  # each is a fact of its own
        self,
        owner: str | None,
        shards: frozenset[int],
        path: str,
        request: bytes,
        here: Here,
        call: Call,
        patience: Patience,
    ) -> bytes:
        if owner is None:
            raise unowned(min(shards), self._directory.count)
        if owner == HERE:
            return await here(shards)
        metadata = (origin_of(call), shards_metadata(shards))
        return await self._peers.unary(owner, path, request, metadata, call.seconds_left, patience.left)
