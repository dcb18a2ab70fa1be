"""The GetHistory RPC: how the numbers of a queue changed over time."""

from __future__ import annotations

from queuelet.clock import CLOCK, now_ns
from queuelet.core.history import Histories, Point, thinned
from queuelet.core.manager import Manager
from queuelet.core.queue import Queue
from queuelet.definition import Counts
from queuelet.errors import InvalidArgument
from queuelet.fairness import TimeSlice
from queuelet.server.endpoint import Call
from queuelet.server.history import STEP_NS, numbers_of, step_of
from queuelet.server.requests import time_from_pb
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.values import counts_to_pb

USUAL_POINTS, MAX_POINTS = 360, 10_000
"""The number of points, if the client sets none, and at most."""

_POINT_BYTES = 128
"""The most bytes of a point in a response."""


class HistoryRpcs:
    """The handler."""

    def __init__(self, manager: Manager, histories: Histories) -> None:
        self._manager = manager
        self._histories = histories

    async def get_history(self, data: bytes, call: Call) -> bytes:
        """Return the points of a queue after a time, the oldest first."""
        request = pb.GetHistoryRequest.FromString(data)
        queue = self._manager.get(request.queue_id)
        most = min(_most(request), self._manager.bounds.message_bytes // _POINT_BYTES)
        after = time_from_pb(request.after, "after") - CLOCK.behind_ns() if request.HasField("after") else None
        time_slice = TimeSlice(call.peer_host)
        await time_slice.begin()
        points = self._points(queue)
        response = pb.GetHistoryResponse()
        response.since.FromNanoseconds(_shown(points[0]))
        if after is not None:
            points = [point for point in points if point.step * STEP_NS > after]
        for point in thinned(points, most):
            numbers = point.numbers
            message = response.points.add(
                messages=counts_to_pb(Counts(*numbers[:4])), enqueued=numbers.enqueued, removed=numbers.removed
            )
            message.time.FromNanoseconds(_shown(point))
        return response.SerializeToString()

    def _points(self, queue: Queue) -> list[Point]:
        """Return the points of a queue; if it has none, its present numbers since when they are known to be these."""
        points = self._histories.points(queue.id)
        if points:
            return points
        if self._histories.is_on and self._histories.is_current(queue.id, queue.activity):
            return [Point(self._histories.since(step_of(queue.created)), numbers_of(queue))]
        return [Point(step_of(now_ns()), numbers_of(queue))]


def _most(request: pb.GetHistoryRequest) -> int:
    if not 0 <= request.max_points <= MAX_POINTS:
        raise InvalidArgument(
            f"max_points: {request.max_points:,} is out of range; use 1 to {MAX_POINTS:,}, or 0 for {USUAL_POINTS}",
            field="max_points",
        )
    return request.max_points or USUAL_POINTS


def _shown(point: Point) -> int:
    return max(0, CLOCK.shown(point.step * STEP_NS))
