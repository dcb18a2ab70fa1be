"""Fair scheduling on the event loop: long work runs in time slices, so that short calls do not wait until it ends.

All long work of an event loop waits in one line. Only one piece of work runs at a time, and after each slice the loop
is free for short calls for a while, so that long work uses no more than its share of the time. Client addresses get
slices in turn (round robin), so that an address with many expensive calls does not hold up the long work of others. The
first slice waits in the line too, because otherwise 64 expensive calls that arrive together would run 64 slices before
any short call.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

T = TypeVar("T")

SLICE = 0.005
"""The length of a time slice, in seconds. A short call takes about a tenth of that."""

MANY = 2_000
"""Work on more items than this is long: it takes several milliseconds."""

_TICK = 0.001
"""The resolution of timers, in seconds: a shorter pause is skipped, and added to the next one."""


class Line:
    """Work that waits for its next slice: round robin by address, FIFO within each address."""

    def __init__(self, share: float = 0.8) -> None:
        self.share = share
        """The share of the time that all long work may use together."""
        self.seconds = 0.0
        """The total time of all slices."""
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_scheduled = False
        self._free_at = 0.0
        """The time until which the loop is free for short calls."""

    @property
    def waiting(self) -> int:
        """The number of pieces of work that wait for a slice."""
        return sum(map(len, self._waiting.values()))

    @property
    def is_busy(self) -> bool:
        """Whether new work would have to wait for its first slice."""
        return bool(self._waiting) or self._free_at - monotonic() > _TICK

    def used(self, seconds: float, now: float) -> None:
        """Account for `seconds` of a slice that ended at `now`."""
        self.seconds += seconds
        self._free_at = max(self._free_at, now - seconds) + seconds * (1 / self.share)

    async def wait(self, peer: str) -> None:
        """Wait until work for this address may run a slice."""
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
                self._waiting[peer] = of_peer  # now behind the other addresses
            if not turn.done():  # its call may have been cancelled
                turn.set_result(None)
                break
        if self._waiting:
            self._schedule(loop)


LINE = Line()
"""The line of all calls of this process."""


class TimeSlice:
    """Measures the running time of one piece of work, and yields the loop after each slice."""

    def __init__(self, peer: str, *, line: Line = LINE, seconds: float | None = None) -> None:
        """Start measuring now; `begin` starts again.

        Args:
            peer: the address of the client that asked for the work.
            line: the line in which the work waits.
            seconds: the length of a slice; `SLICE` if None.
        """
        self._peer = peer
        self._line = line
        self._slice = SLICE if seconds is None else seconds
        self._began = self._counted = monotonic()

    @property
    def is_over(self) -> bool:
        """Whether this slice has ended."""
        return monotonic() - self._began > self._slice

    async def begin(self) -> None:
        """Wait for the first slice, or for a new one after the work has waited for something else."""
        await self._line.wait(self._peer)
        self._began = self._counted = monotonic()

    async def give(self) -> None:
        """Yield to other work if this slice has ended."""
        self.count()
        if self._counted - self._began > self._slice:
            await self.begin()

    def count(self) -> None:
        """Account for the time since the last count."""
        now = monotonic()
        self._line.used(now - self._counted, now)
        self._counted = now

    def resume(self) -> None:
        """Continue the slice after the work has waited for something else; the wait does not count."""
        now = monotonic()
        self._began += now - self._counted
        self._counted = now


async def in_turn(peer: str, work: Callable[[], T]) -> T:
    """Do work that cannot be split into slices, once earlier long work has had its slices; return its result.

    Args:
        peer: the address of the client that asked for the work.
        work: the work; about as long as a few slices.
    """
    time_slice = TimeSlice(peer)
    await time_slice.begin()
    result = work()
    time_slice.count()
    return result
