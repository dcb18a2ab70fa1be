"""The Redrive RPC, which makes dead messages ready again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial

from queuelet.clock import now_ns
from queuelet.core.manager import Manager
from queuelet.core.queue import Queue
from queuelet.core.stored_form import tags_of
from queuelet.definition import MessageState
from queuelet.errors import InvalidArgument
from queuelet.fairness import TimeSlice
from queuelet.selector import parse_selector
from queuelet.server.endpoint import Call, Send
from queuelet.server.loading import loaded
from queuelet.server.requests import check_batch, checked_uuid
from queuelet.v1 import queue_pb2 as pb

_STEP = 20
"""The most messages between two checks of the time slice."""

_EVERY = 0.5
"""Seconds between progress reports; a redrive with a rate also works in steps of this length."""


class RedriveRpcs:
    """The RPC that redrives dead letters."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._bounds = manager.bounds

    async def redrive(self, requests: AsyncIterator[bytes], send: Send, call: Call) -> None:
        """Make dead messages ready, at the requested rate if there is one, and report progress every half second."""
        data = await anext(requests, b"")
        request = pb.RedriveRequest.FromString(data)
        queue = self._manager.get(request.queue_id)
        if bool(request.ids) + bool(request.selector.strip()) + request.all != 1:
            raise InvalidArgument("ids, selector, all: give exactly one of them", field="ids")
        if request.rate < 0:
            raise InvalidArgument(
                f"rate: {request.rate} is negative; use 1 or more a second, or leave it out", field="rate"
            )
        if request.ids:
            check_batch(request.ids, "ids", self._bounds)
        time_slice = TimeSlice(call.peer_host)
        await time_slice.begin()
        await _Redrive(queue, request, send).run(time_slice)


class _Redrive:
    """One call. It handles the messages that are dead when it begins, in order, and ignores those that die later."""

    def __init__(self, queue: Queue, request: pb.RedriveRequest, send: Send) -> None:
        self._queue = queue
        self._request = request
        self._send = send
        self._ids = list(dict.fromkeys(checked_uuid(each, "ids").encode() for each in request.ids))
        self._chosen = self._by_id() if request.ids else self._by_tags()
        self._response = pb.RedriveResponse(remaining=len(self._ids) or queue.counts.dead)

    async def run(self, time_slice: TimeSlice) -> None:
        loop = asyncio.get_running_loop()
        reported = began = loop.time()
        async for seen, seqs in self._chosen:
            self._queue.check_exists()
            self._response.remaining = max(0, self._response.remaining - seen)
            if self._request.dry_run:
                self._response.redriven += len(seqs)
            else:
                self._response.redriven += self._queue.redrive(seqs, now_ns())
            await time_slice.give()
            if self._request.rate and not self._request.dry_run:
                # No token bucket, because the rate is that of the whole redrive: lost time is made up for.
                behind = began + self._response.redriven / self._request.rate - loop.time()
                await asyncio.sleep(max(0.0, behind))
                await time_slice.begin()
            if loop.time() - reported > _EVERY:
                reported = loop.time()
                await self._report()
                await time_slice.begin()
        self._response.remaining = 0
        await self._report()

    async def _report(self) -> None:
        commit = self._queue.commit()
        if commit is not None:
            await commit
        await self._send(self._response.SerializeToString())

    @property
    def _step(self) -> int:
        """How many messages are made ready at a time: at most what the rate allows in half a second."""
        return max(1, min(_STEP, int(self._request.rate * _EVERY))) if self._request.rate else _STEP

    async def _by_id(self) -> AsyncIterator[tuple[int, Sequence[int]]]:
        for start in range(0, len(self._ids), self._step):
            few = self._ids[start : start + self._step]
            yield len(few), await loaded(partial(self._queue.dead_seqs, few))

    async def _by_tags(self) -> AsyncIterator[tuple[int, Sequence[int]]]:
        selects = parse_selector(self._request.selector) if self._request.selector else None
        began = now_ns()
        after, last = 0, self._queue.last_seq
        while after < last:
            page = await loaded(partial(self._queue.browse, after, self._step, [MessageState.DEAD], now=now_ns()))
            if not page.messages:
                return
            after = page.last
            yield (
                len(page.messages),
                [
                    each.seq
                    for each in page.messages
                    if each.seq <= last
                    and each.delivery
                    and each.delivery.since <= began
                    and (selects is None or selects(tags_of(each.body)))
                ],
            )
