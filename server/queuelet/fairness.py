"""Turns: long work is done in slices, so that other calls do not wait for its end.

All long work of an event loop shares one line: only one piece of it has a slice at a time, and after each slice the
loop is left to short calls for a while, so that long work takes no more than its share of the time. Addresses have
slices in turn: one that asks for much does not hold up the long work of others. The first slice waits in the line too,
because otherwise 64 expensive calls that come at once would have 64 slices before any short call is served.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from time import monotonic

SLICE = 0.005
"""How long work goes on before others get their turn, in seconds. A call takes a tenth of that."""

_TICK = 0.001
"""Timers are no finer than this, in seconds: a shorter wait is left out, and made up for by the next one."""


class Line:
    """Work that waits for its next slice: addresses in turn, and first come, first served for each."""

    def __init__(self, share: float = 0.8) -> None:
        """Begin with none."""
        self.share = share
        """The part of the time that all long work may take together."""
        self.seconds = 0.0
        """How long all slices took together."""
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_scheduled = False
        self._free_at = 0.0
        """Until when the loop is left to short calls."""

    @property
    def waiting(self) -> int:
        """How many pieces of work wait for a slice."""
        return sum(map(len, self._waiting.values()))

    @property
    def is_busy(self) -> bool:
        """Whether a piece of work that comes now has to wait."""
        return bool(self._waiting) or self._free_at - monotonic() > _TICK

    def used(self, seconds: float, now: float) -> None:
        """Count part of a slice that ended now."""
        self.seconds += seconds
        self._free_at = max(self._free_at, now - seconds) + seconds * (1 / self.share)

    async def wait(self, peer: str) -> None:
        """Return when a piece of work from this address may have a slice."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._waiting.clear()
            self._is_scheduled = False
        turn = loop.create_future()
        self._waiting.setdefault(peer, deque()).append(turn)
        if not self._is_scheduled:
            self._schedule(loop)
        await turn

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_scheduled = True
        delay = self._free_at - monotonic()
        if delay > _TICK:
            loop.call_later(delay, self._next, loop)
        else:
            loop.call_soon(self._next, loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_scheduled = False
        if loop is not self._loop:
            return
        while self._waiting and self._free_at - monotonic() <= _TICK:
            peer, of_peer = self._waiting.popitem(last=False)
            turn = of_peer.popleft()
            if of_peer:
                self._waiting[peer] = of_peer  # behind the other addresses
            if not turn.done():  # it is if its call was cancelled
                turn.set_result(None)
                break
        if self._waiting:
            self._schedule(loop)


LINE = Line()
"""The line of the calls of this process."""


class TimeSlice:
    """Counts the time of one piece of work, and lets others have their turn after each slice of it."""

    def __init__(self, peer: str, *, line: Line = LINE, seconds: float | None = None) -> None:
        """Take the address that asked for the work. The time counts from now on, or from `begin`.

        Args:
            peer: the address.
            line: where the work waits.
            seconds: how long a slice is, `SLICE` by default.
        """
        self._peer = peer
        self._line = line
        self._slice = SLICE if seconds is None else seconds
        self._began = self._counted = monotonic()

    @property
    def is_over(self) -> bool:
        """Whether it is the others' turn."""
        return monotonic() - self._began > self._slice

    async def begin(self) -> None:
        """Wait for the first slice, or for another one after the work has waited for something else."""
        await self._line.wait(self._peer)
        self._began = self._counted = monotonic()

    async def give(self) -> None:
        """Let others have their turn if this slice is over."""
        self.count()
        if self._counted - self._began > self._slice:
            await self.begin()

    def count(self) -> None:
        """Count the time since it was counted last."""
        now = monotonic()
        self._line.used(now - self._counted, now)
        self._counted = now

    def resume(self) -> None:
        """Go on with the slice, after the work has waited for something else since its time was counted."""
        now = monotonic()
        self._began += now - self._counted
        self._counted = now
