"""Forwards calls with one request and one response to the owner of their queue."""

from __future__ import annotations

from collections.abc import Awaitable

from queuelet.errors import ShardMoved
from queuelet.server.directory import HERE
from queuelet.server.endpoint import Call, Method, UnaryHandler
from queuelet.server.forwarding.origin import forwarded_call, origin_of, shards_metadata, shards_of
from queuelet.server.forwarding.peers import Peers
from queuelet.server.forwarding.places import Patience, Places, unowned
from queuelet.server.loading import loaded
from queuelet.wire.queue_field import QUEUE_FIELDS, queue_of


class ForwardedUnary:
    """A method of one service: served here if this server owns the queue, and by the queue's owner otherwise."""

    def __init__(self, service: str, method: Method, places: Places, peers: Peers) -> None:
        self._path = f"{service}/{method.name}"
        self._field = QUEUE_FIELDS.get(method.name, ())
        self._makes_queue = method.name == "NewQueue"
        self._handler: UnaryHandler = method.unary  # type: ignore[assignment]  # it is one of those with it
        self._places = places
        self._directory = places.directory
        self._peers = peers

    def serve(self, request: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Serve a call."""
        origin = forwarded_call(call)
        if origin is not None:
            return self._at_owner(request, origin)
        reference = queue_of(request, self._field)
        shard = self._places.known(reference)
        if shard is None or self._directory.owner(shard) != HERE:
            return self._find(reference, request, call)
        try:
            response = self._handler(request, call)
        except ShardMoved:
            return self._find(reference, request, call)
        return response if isinstance(response, bytes) else self._wait(response, reference, request, call)

    async def _wait(self, response: Awaitable[bytes], reference: str, request: bytes, call: Call) -> bytes:
        """Wait for a response of this server. If the shard moves meanwhile, the call had no effect."""
        try:
            return await response
        except ShardMoved:
            return await self._find(reference, request, call)

    async def _find(self, reference: str, request: bytes, call: Call) -> bytes:
        shard = await self._places.find(reference)
        if shard is None and self._makes_queue:
            return await self._anywhere(request, call)
        return await self.at(shard, request, call)

    async def at(self, shard: int | None, request: bytes, call: Call) -> bytes:
        """Serve a call by the owner of a shard, or here if it is None. Wait for a moment while there is no owner.

        Raises:
            ShardMoved: there is still none, or it cannot be reached.
        """
        if shard is None:
            return await self.here(request, call)
        patience = Patience(self._directory, call)
        while True:
            owner = self._directory.owner(shard)
            try:
                return await self._at(owner, shard, request, call, patience)
            except ShardMoved as error:
                await patience.wait(error)

    async def _anywhere(self, request: bytes, call: Call) -> bytes:
        """Create a queue without a name in any shard."""
        patience = Patience(self._directory, call)
        while True:
            owner = self._places.any_owner()
            try:
                return await self._at(owner, None, request, call, patience)
            except ShardMoved as error:
                await patience.wait(error)

    async def _at(self, owner: str | None, shard: int | None, request: bytes, call: Call, patience: Patience) -> bytes:
        if owner is None:
            raise unowned(shard, self._directory.count)
        if owner == HERE:
            return await self.here(request, call) if shard is None else await self._here(shard, request, call)
        call.owner = owner
        metadata = (origin_of(call),) if shard is None else (origin_of(call), shards_metadata((shard,)))
        return await self._peers.unary(owner, self._path, request, metadata, call.seconds_left, patience.left)

    def _at_owner(self, request: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Serve a call that another server has forwarded, because it takes this one for the owner."""
        shards = shards_of(call)
        if not shards:
            return self._handler(request, call)
        (shard, *_) = shards
        if self._directory.owner(shard) != HERE:
            raise unowned(shard, self._directory.count)
        return self._here(shard, request, call)

    async def _here(self, shard: int, request: bytes, call: Call) -> bytes:
        """Serve a call on a queue in a shard of this server."""
        try:
            return await self.here(request, call)
        except ShardMoved:
            if not self._places.settle_absent(shard, (queue_of(request, self._field),)):
                raise
            return await self.here(request, call)

    async def here(self, request: bytes, call: Call) -> bytes:
        """Serve a call by this server."""
        call.owner = ""
        response = await loaded(lambda: self._handler(request, call))
        return response if isinstance(response, bytes) else await response
