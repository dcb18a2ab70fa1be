"""Records the numbers of all queues every ten seconds, in time slices."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import structlog

from queuelet.clock import now_ns
from queuelet.core.history import STEP_SECONDS, Histories, Numbers
from queuelet.core.manager import Manager
from queuelet.core.queue import Queue
from queuelet.fairness import TimeSlice

log = structlog.get_logger()

STEP_NS = STEP_SECONDS * 1_000_000_000
"""The length of a step, in nanoseconds."""

_EXPIRE_EVERY = 60
"""Steps between two passes over the histories of queues that do not change: ten minutes."""


def step_of(at: int) -> int:
    """Return the step of a time, in ns since 1970."""
    return at // STEP_NS


def numbers_of(queue: Queue) -> Numbers:
    """Return the present numbers of a queue."""
    tally = queue.tally
    return Numbers(*queue.counts, tally.enqueued, tally.consumed + tally.acked)


class HistorySampler:
    """Records histories in the running event loop, from `start` to `stop`."""

    def __init__(self, manager: Manager, histories: Histories) -> None:
        self._manager = manager
        self._histories = histories
        self._task: asyncio.Task[None] | None = None
        self._expired = 0

    def start(self) -> None:
        """Record from now on."""
        if self._histories.is_on:
            self._manager.subscribe(self._changed)
            self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """Stop recording."""
        if self._task is not None:
            self._task.cancel()

    async def record(self, step: int) -> None:
        """Record the numbers of all queues that have changed, as those of a step."""
        histories, time_slice = self._histories, TimeSlice("")
        await time_slice.begin()
        histories.begin(step)
        for queue in self._manager:
            activity = queue.activity
            if not histories.is_current(queue.id, activity) and not (queue.deleted or queue.has_moved):
                histories.record(queue.id, step_of(queue.created), step, numbers_of(queue), activity)
            await time_slice.give()
        await self._in_slices(histories.fit(step), time_slice)
        if step >= self._expired + _EXPIRE_EVERY:
            self._expired = step
            await self._in_slices(histories.expire(step), time_slice)

    async def _run(self) -> None:
        while True:
            step = step_of(now_ns())
            try:
                await self.record(step)
            except Exception:  # a history is not worth ending the server
                log.exception("history not recorded")
            every = self._histories.factor
            due = (step // every + 1) * every * STEP_NS
            await asyncio.sleep(max(0.0, (due - now_ns()) / 1e9))

    def _changed(self, queue: Queue) -> None:
        if queue.deleted or queue.has_moved:
            self._histories.forget(queue.id)

    @staticmethod
    async def _in_slices(work: Iterator[None], time_slice: TimeSlice) -> None:
        for _ in work:
            await time_slice.give()
