"""Forwards streams to the owner of their queue, in both directions and with the flow control of both connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Self

from queuelet.errors import ShardMoved
from queuelet.server.directory import HERE
from queuelet.server.endpoint import Call, Method, Send, StreamHandler
from queuelet.server.forwarding.origin import forwarded_call, origin_of, shards_metadata, shards_of
from queuelet.server.forwarding.peers import Peers
from queuelet.server.forwarding.places import Patience, Places, unowned
from queuelet.wire.queue_field import QUEUE_FIELDS, queue_of


class ForwardedStream:
    """A method with streams whose first request names a queue: served by the queue's owner."""

    def __init__(self, service: str, method: Method, places: Places, peers: Peers) -> None:
        self._path = f"{service}/{method.name}"
        self._field = QUEUE_FIELDS[method.name]
        self._handler: StreamHandler = method.stream  # type: ignore[assignment]  # it is one of those with it
        self._places = places
        self._peers = peers

    async def serve(self, requests: AsyncIterator[bytes], send: Send, call: Call) -> None:
        """Serve a stream until it ends."""
        origin = forwarded_call(call)
        first = await anext(requests, None)
        if origin is not None:
            await self._at_owner(first, requests, send, origin)
            return
        shard = None if first is None else await self._places.find(queue_of(first, self._field))
        if first is None or shard is None:
            await self._handler(_chained(first, requests), send, call)
        else:
            await self._at_shard(shard, first, requests, send, call)

    async def _at_shard(self, shard: int, first: bytes, requests: AsyncIterator[bytes], send: Send, call: Call) -> None:
        """Serve a stream by the owner of a shard; try again while it has had no effect."""
        directory = self._places.directory
        patience = Patience(directory, call)
        metadata = (origin_of(call), shards_metadata((shard,)))
        with _Replay(first, requests, send) as replay:
            while True:
                owner = directory.owner(shard)
                try:
                    if owner == HERE:
                        call.owner = ""
                        await self._here(shard, first, requests, send, call)
                        return
                    if owner is None:
                        raise unowned(shard, directory.count)
                    call.owner = owner
                    await self._peers.stream(
                        owner, self._path, replay.requests(), replay.send, metadata, call.seconds_left
                    )
                except ShardMoved as error:
                    if owner == HERE or not replay.is_possible:
                        raise
                    await patience.wait(error)
                else:
                    return

    async def _at_owner(self, first: bytes | None, requests: AsyncIterator[bytes], send: Send, call: Call) -> None:
        """Serve a stream that another server has forwarded, because it takes this one for the owner."""
        shards = shards_of(call)
        if first is None or not shards:
            await self._handler(_chained(first, requests), send, call)
        else:
            await self._here(min(shards), first, requests, send, call)

    async def _here(self, shard: int, first: bytes, requests: AsyncIterator[bytes], send: Send, call: Call) -> None:
        """Serve a stream about a queue in a shard of this server."""
        self._places.settle_absent(shard, (queue_of(first, self._field),))
        await self._handler(_chained(first, requests), send, call)


class _Replay:
    """A stream that can be opened again as long as only its first request was passed on, and no response came."""

    def __init__(self, first: bytes, requests: AsyncIterator[bytes], send: Send) -> None:
        self._first = first
        self._requests = requests
        self._send = send
        self._next: asyncio.Future[bytes | None] | None = None
        self.is_possible = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._next is not None:
            self._next.cancel()

    async def requests(self) -> AsyncIterator[bytes]:
        """Yield all requests. A read that is not done when this ends goes on, and the next one has its result."""
        yield self._first
        while True:
            if self._next is None:
                self._next = asyncio.ensure_future(_next(self._requests))
            request = await asyncio.shield(self._next)
            self._next = None
            if request is None:
                return
            self.is_possible = False
            yield request

    async def send(self, response: bytes) -> None:
        """Send a response."""
        self.is_possible = False
        await self._send(response)


async def _next(requests: AsyncIterator[bytes]) -> bytes | None:
    return await anext(requests, None)


async def _chained(first: bytes | None, requests: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first is not None:
        yield first
        async for request in requests:
            yield request
