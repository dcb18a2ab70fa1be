"""GetStats without a queue over several servers: the sum of their statistics."""

from __future__ import annotations

from collections.abc import Iterable

from queuelet.server.endpoint import Call
from queuelet.server.forwarding.fan_in import FanIn
from queuelet.server.forwarding.origin import forwarded_call
from queuelet.server.forwarding.stores import merged_stores
from queuelet.server.forwarding.unary import ForwardedUnary
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import SERVICE
from queuelet.wire.queue_field import QUEUE_FIELDS, queue_of


class ForwardedStats:
    """The method GetStats."""

    def __init__(self, forwarded: ForwardedUnary, fan_in: FanIn) -> None:
        self._forwarded = forwarded
        self._fan_in = fan_in

    async def get_stats(self, data: bytes, call: Call) -> bytes:
        """Return the statistics of one queue, or those of all servers together."""
        if forwarded_call(call) is not None or queue_of(data, QUEUE_FIELDS["GetStats"]):
            response = self._forwarded.serve(data, call)
            return response if isinstance(response, bytes) else await response

        async def here(_: frozenset[int]) -> bytes:
            return await self._forwarded.here(data, call)

        own = pb.GetStatsResponse.FromString(await self._forwarded.here(data, call)).server
        responses = await self._fan_in.call(f"{SERVICE}/GetStats", data, here, call)
        stats = [pb.GetStatsResponse.FromString(response).server for response in responses]
        return pb.GetStatsResponse(server=summed(own, stats)).SerializeToString()


def summed(own: pb.ServerStats, stats: Iterable[pb.ServerStats]) -> pb.ServerStats:
    """Return the statistics of several servers together.

    Args:
        own: those of this server, for its version and when it started.
        stats: those of the servers that own shards.
    """
    total = pb.ServerStats(version=own.version, started=own.started)
    each: list[pb.ServerStats] = list(stats)
    total.stores.extend(merged_stores([store for stats in each for store in stats.stores]))
    for one in each:
        total.queues += one.queues
        total.messages.ready += one.messages.ready
        total.messages.delayed += one.messages.delayed
        total.messages.leased += one.messages.leased
        total.messages.dead += one.messages.dead
        total.memory_bytes += one.memory_bytes
        total.memory_watermark_bytes += one.memory_watermark_bytes
    return total
