"""Recording the numbers of queues, and GetHistory, with steps that the test chooses."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from queuelet.clock import now_ns
from queuelet.core.history import Histories
from queuelet.core.manager import Manager
from queuelet.core.queue import Queue
from queuelet.definition import QueueDefinition
from queuelet.server.endpoint import Call
from queuelet.server.handlers.history import HistoryRpcs
from queuelet.server.history import STEP_NS, HistorySampler, step_of
from queuelet.v1 import queue_pb2 as pb
from support.queues import add, make_manager, pop_all

NOW = step_of(now_ns())


class Here:
    """A call from this machine."""

    peer_host = "127.0.0.1"


class Recorded:
    """A server's histories."""

    def __init__(self, limit: int = 1 << 20) -> None:
        self.manager: Manager = make_manager()
        self.histories = Histories(limit, self.manager.budget)
        self.sampler = HistorySampler(self.manager, self.histories)
        self._rpcs = HistoryRpcs(self.manager, self.histories)

    def new(self, created: int = NOW) -> Queue:
        """Create a queue in a step."""
        return self.manager.new(QueueDefinition(), now=created * STEP_NS)

    async def get(self, queue: Queue, after: int | None = None, max_points: int = 0) -> pb.GetHistoryResponse:
        """Return the history of a queue after a step."""
        request = pb.GetHistoryRequest(queue_id=queue.id, max_points=max_points)
        if after is not None:
            request.after.FromNanoseconds(after * STEP_NS)
        data = await self._rpcs.get_history(request.SerializeToString(), cast("Call", Here()))
        return pb.GetHistoryResponse.FromString(data)


def steps(response: pb.GetHistoryResponse) -> list[int]:
    """Return the steps of the points."""
    return [point.time.ToNanoseconds() // STEP_NS for point in response.points]


async def test_points_have_the_numbers_at_the_end_of_their_steps() -> None:
    recorded = Recorded()
    await recorded.sampler.record(NOW)
    queue = recorded.new(NOW + 1)
    add(queue, b"1", b"2", b"3")
    await recorded.sampler.record(NOW + 2)
    await recorded.sampler.record(NOW + 3)
    leased = queue.receive(1, 1_000, now=1)
    await recorded.sampler.record(NOW + 4)
    queue.ack([leased.first_token], now=1)
    pop_all(queue)
    await recorded.sampler.record(NOW + 5)
    response = await recorded.get(queue)
    assert steps(response) == [NOW + 1, NOW + 2, NOW + 4, NOW + 5]
    assert response.since == response.points[0].time
    counts = [(each.messages.ready, each.messages.leased, each.enqueued, each.removed) for each in response.points]
    assert counts == [(0, 0, 0, 0), (3, 0, 3, 0), (2, 1, 3, 0), (0, 0, 3, 3)]


async def test_only_points_after_a_time_are_returned() -> None:
    recorded = Recorded()
    await recorded.sampler.record(NOW)
    queue = recorded.new()
    for step in range(1, 6):
        add(queue, b"x")
        await recorded.sampler.record(NOW + step)
    assert steps(await recorded.get(queue, after=NOW + 3)) == [NOW + 4, NOW + 5]
    assert steps(await recorded.get(queue, after=NOW + 5)) == []
    assert (await recorded.get(queue, after=NOW + 5)).since.ToNanoseconds() == NOW * STEP_NS


async def test_more_points_than_asked_for_are_joined() -> None:
    recorded = Recorded()
    await recorded.sampler.record(NOW)
    queue = recorded.new()
    for step in range(1, 101):
        add(queue, b"x")
        await recorded.sampler.record(NOW + step)
    response = await recorded.get(queue, max_points=10)
    assert 3 <= len(response.points) <= 10
    assert response.points[-1].enqueued == 100
    assert len((await recorded.get(queue)).points) == 101


async def test_an_idle_queue_has_its_numbers_since_the_start_and_costs_nothing() -> None:
    recorded = Recorded()
    empty = recorded.new(NOW - 100)
    full = recorded.new(NOW - 100)
    add(full, b"x")
    await recorded.sampler.record(NOW)
    before = recorded.histories.used
    for step in range(1, 5):
        await recorded.sampler.record(NOW + step)
    assert recorded.histories.used == before
    assert steps(await recorded.get(empty)) == [NOW]
    response = await recorded.get(full)
    assert steps(response) == [NOW]
    assert response.points[0].messages.ready == 1


async def test_a_deleted_queue_is_forgotten() -> None:
    recorded = Recorded()
    recorded.sampler.start()
    queue = recorded.new()
    add(queue, b"x")
    await recorded.sampler.record(NOW + 1)
    assert len(recorded.histories) == 1
    recorded.manager.delete(queue)
    assert (len(recorded.histories), recorded.histories.used) == (0, 0)
    recorded.sampler.stop()


async def test_without_memory_the_present_numbers_are_the_history() -> None:
    recorded = Recorded(limit=0)
    queue = recorded.new()
    add(queue, b"x")
    recorded.sampler.start()
    response = await recorded.get(queue)
    assert [point.messages.ready for point in response.points] == [1]
    assert steps(response)[0] >= NOW


@pytest.mark.need(5)
async def test_many_queues_are_recorded_in_time_slices() -> None:
    recorded = Recorded(limit=1 << 30)
    await recorded.sampler.record(NOW)
    queues = [recorded.new() for _ in range(3_000)]
    for queue in queues:
        add(queue, b"x")
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await recorded.sampler.record(NOW + 1)
    counting.cancel()
    assert turns > 1
    assert len(recorded.histories) == len(queues)
