"""DeclareQueues and RemoveQueues over several servers: split by shard, with the results in the order of the request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from queuelet.bounds import Bounds
from queuelet.errors import QueueletError, ShardMoved
from queuelet.server.directory import HERE
from queuelet.server.endpoint import Call, RefusedElsewhere
from queuelet.server.forwarding.origin import forwarded_call, shards_of
from queuelet.server.forwarding.places import Places
from queuelet.server.forwarding.unary import ForwardedUnary
from queuelet.server.handlers.queues import fit
from queuelet.server.requests import check_batch
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import error_of, error_to_pb


@dataclass(frozen=True, slots=True)
class Batch:
    """A method with one queue in each item of its request, and one result for each."""

    request: Any
    response: Any
    reference: Callable[[Any], str]
    """Returns the queue of an item."""
    refused: Callable[[QueueletError], Any]
    """Returns the result of an item that was refused."""


BATCHES: Mapping[str, Batch] = {
    "DeclareQueues": Batch(
        pb.DeclareQueuesRequest,
        pb.DeclareQueuesResponse,
        lambda declaration: str(declaration.name),
        lambda error: pb.DeclareResult(outcome=pb.DeclareResult.OUTCOME_REFUSED, error=error_to_pb(error)),
    ),
    "RemoveQueues": Batch(
        pb.RemoveQueuesRequest,
        pb.RemoveQueuesResponse,
        lambda removal: str(removal.queue_id),
        lambda error: pb.RemoveResult(outcome=pb.RemoveResult.OUTCOME_REFUSED, error=error_to_pb(error)),
    ),
}
"""The methods, by name."""


class ForwardedBatch:
    """One of these methods."""

    def __init__(self, batch: Batch, forwarded: ForwardedUnary, places: Places, bounds: Bounds) -> None:
        """Make the method.

        Args:
            batch: what it is like.
            forwarded: makes its calls at the owner of a shard.
            places: where queues are.
            bounds: the limits of requests and responses.
        """
        self._batch = batch
        self._forwarded = forwarded
        self._places = places
        self._bounds = bounds

    async def serve(self, data: bytes, call: Call) -> bytes:
        """Serve a call."""
        origin = forwarded_call(call)
        if origin is not None:
            return await self._at_owner(data, origin)
        items = self._batch.request.FromString(data).queues
        check_batch(items, "queues", self._bounds)
        parts = await self._parts(items)
        owner = self._places.directory.owner
        if all(shard is None or owner(shard) == HERE for shard in parts):
            try:
                return await self._forwarded.here(data, call)
            except ShardMoved:
                pass  # what has been done already is done again at the owners, with the same outcome
        return await self._split(items, parts, call)

    async def _at_owner(self, data: bytes, call: Call) -> bytes:
        """Serve a part of a call, which another server has forwarded."""
        try:
            return await self._forwarded.here(data, call)
        except ShardMoved:
            items = self._batch.request.FromString(data).queues
            references = [self._batch.reference(item) for item in items]
            if not any(self._places.settle_absent(shard, references) for shard in shards_of(call) or ()):
                raise
            return await self._forwarded.here(data, call)

    async def _parts(self, items: Sequence[Any]) -> dict[int | None, list[int]]:
        """Return the places of the items in the request, by shard."""
        parts: dict[int | None, list[int]] = {}
        for place, item in enumerate(items):
            reference = self._batch.reference(item)
            shard = self._places.known(reference)
            parts.setdefault(await self._places.find(reference) if shard is None else shard, []).append(place)
        return parts

    async def _split(self, items: Sequence[Any], parts: Mapping[int | None, Sequence[int]], call: Call) -> bytes:
        """Change the queues of all shards at the same time, and join the results.

        The queues of a shard that cannot be changed now are refused, each with the error, so that others do not depend
        on them. If that is all of them, the error is raised.
        """
        calls = [self._change(shard, [items[place] for place in places], call) for shard, places in parts.items()]
        found = await asyncio.gather(*calls, return_exceptions=True)
        results: list[Any] = [None] * len(items)
        errors: list[BaseException] = []
        for places, changed in zip(parts.values(), found, strict=True):
            if isinstance(changed, BaseException):
                errors.append(changed)
                changed = [self._batch.refused(_raised(changed))] * len(places)  # noqa: PLW2901  # for all of them
            for place, result in zip(places, changed, strict=True):
                results[place] = result
        if len(errors) == len(parts):
            raise errors[0]
        fit(results, self._bounds.message_bytes)
        return bytes(self._batch.response(results=results).SerializeToString())

    async def _change(self, shard: int | None, items: Sequence[Any], call: Call) -> Sequence[Any]:
        request = self._batch.request(queues=items).SerializeToString()
        response = await self._forwarded.at(shard, request, call)
        return list(self._batch.response.FromString(response).results)


def _raised(error: BaseException) -> QueueletError:
    """Return the error of a part of a call; raise any other exception."""
    if isinstance(error, RefusedElsewhere):
        return error_of(*error.status)
    if isinstance(error, QueueletError):
        return error
    raise error
