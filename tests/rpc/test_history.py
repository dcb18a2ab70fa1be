"""GetHistory of a real server, on both stores."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from queuelet.client import Client
from queuelet.errors import InvalidArgument
from queuelet.v1 import queue_pb2 as pb
from support.both_stores import STORES, both, client, new_queue, rpc
from support.rpc import Refused, Rpc, eventually

__all__ = ["both", "client", "rpc"]


def history(rpc: Rpc, queue: str) -> pb.GetHistoryResponse:
    """Return the history of a queue."""
    return rpc.call("GetHistory", pb.GetHistoryRequest(queue_id=queue), pb.GetHistoryResponse)


def is_recorded(response: pb.GetHistoryResponse) -> bool:
    """Return whether the last point is of a step and not of now, and has all that was added."""
    last = response.points[-1]
    return last.enqueued == 3 and last.time.ToNanoseconds() % 10_000_000_000 == 0


def test_changes_become_points_and_idle_queues_have_one(rpc: Rpc) -> None:
    busy = {new_queue(rpc, store): store for store in STORES.values()}
    idle = {new_queue(rpc, store): store for store in STORES.values()}
    for queue in busy:
        rpc.add_batch(queue, [b"x"] * 3)
        rpc.pop(queue)
    # A queue that was created in the step in which it changed has one point.
    eventually(lambda: all(is_recorded(history(rpc, queue)) for queue in busy), "a step has ended", timeout=30)
    for queue in busy:
        response = history(rpc, queue)
        assert response.since == response.points[0].time
        assert response.points[0].enqueued in {0, 3}
        last = response.points[-1]
        assert (last.messages.ready, last.enqueued, last.removed) == (2, 3, 1)
        assert last.time.ToNanoseconds() % 10_000_000_000 == 0
        assert abs(last.time.ToDatetime(UTC) - datetime.now(UTC)) < timedelta(minutes=5)
    for queue in idle:
        (point,) = history(rpc, queue).points
        assert (point.messages, point.enqueued, point.removed) == (pb.MessageCounts(), 0, 0)


def test_an_unknown_queue_is_not_found(rpc: Rpc) -> None:
    with pytest.raises(Refused, match="NOT_FOUND"):
        history(rpc, "absent")


async def test_the_client_returns_points_as_values(client: Client) -> None:
    queue = await client.new_queue()
    found = await client.history(queue.id, max_points=5)
    (point,) = found.points
    assert (point.messages.ready, point.enqueued, point.removed) == (0, 0, 0)
    assert point.time == found.since
    assert not (await client.history(queue.id, after=datetime.now(UTC) + timedelta(days=1))).points
    with pytest.raises(InvalidArgument, match="after"):
        await client.history(queue.id, after=datetime.max.replace(tzinfo=UTC))
