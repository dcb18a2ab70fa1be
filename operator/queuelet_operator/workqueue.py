"""A queue of keys that need a look: each at most once, the most urgent first, and never one by two at a time."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_BACKOFF = 0.25
"""Seconds until a key that failed once is tried again."""

LAST_BACKOFF = 60.0
"""Seconds between two tries at most, however often a key failed."""

_MOST_DOUBLINGS = 16
"""Far beyond the last backoff. 1,024 would be too many for a float."""


class Priority(IntEnum):
    """How urgent a look is."""

    DELETION = 0
    CHANGE = 1
    RETRY = 2
    RESYNC = 3


def backoff(failures: int) -> float:
    """Return how many seconds to wait after so many failures in a row.

    Half of it is by chance, so that what failed together does not come back together.
    """
    longest = min(FIRST_BACKOFF * 2.0 ** min(failures - 1, _MOST_DOUBLINGS), LAST_BACKOFF)
    return longest * random.uniform(0.5, 1)  # noqa: S311  # it guards nothing


@dataclass(slots=True)
class _Waiting:
    """A key that waits for its turn. What is no longer in `_waiting` under its key is left in the heap, and skipped."""

    priority: Priority
    number: int
    since: float


@dataclass(slots=True)
class WorkQueue(Generic[K]):
    """The queue. `get` hands out a key; whoever has it says `done`, and only then can it be handed out again."""

    clock: Callable[[], float]
    """Seconds, of a clock that never goes back."""

    _waiting: dict[K, _Waiting] = field(default_factory=dict)
    _heap: list[tuple[Priority, int, K]] = field(default_factory=list)
    _later: list[tuple[float, int, K, Priority]] = field(default_factory=list)
    _due: dict[K, tuple[float, int]] = field(default_factory=dict)
    """The time of each key in `_later` and the number of its entry. Entries with another number are stale."""
    _in_hand: dict[K, Priority | None] = field(default_factory=dict)
    """Keys that were handed out, each with the priority of what came in meanwhile."""
    _failures: dict[K, int] = field(default_factory=dict)
    _not_before: dict[K, float] = field(default_factory=dict)
    """Keys that must not be handed out before a time, whatever comes in."""
    _numbers: count[int] = field(default_factory=count)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    last_done: float = 0.0
    """When a key was last done with."""
    _taken_at: dict[K, float] = field(default_factory=dict)

    def add(self, key: K, priority: Priority) -> None:
        """Have a key looked at. If it waits already, the more urgent of the two counts; one in hand comes again."""
        may_come = self._not_before.get(key, 0.0)
        if may_come > self.clock():
            self.add_at(key, may_come, priority)
            return
        self._not_before.pop(key, None)
        if key in self._in_hand:
            noted = self._in_hand[key]
            self._in_hand[key] = priority if noted is None else min(noted, priority)
            return
        waiting = self._waiting.get(key)
        if waiting and waiting.priority <= priority:
            return
        since = waiting.since if waiting else self.clock()
        number = next(self._numbers)
        self._waiting[key] = _Waiting(priority, number, since)
        heapq.heappush(self._heap, (priority, number, key))
        self._news.set()

    def add_at(self, key: K, when: float, priority: Priority) -> None:
        """Have a key looked at from a time on, of the queue's clock. Only the soonest such time is kept."""
        due = self._due.get(key)
        if due and due[0] <= when:
            return
        # By its number, and not by its time: a forgotten key may be added again for the same time.
        number = next(self._numbers)
        self._due[key] = (when, number)
        heapq.heappush(self._later, (when, number, key, priority))
        self._news.set()

    def retry(self, key: K, *, not_before: float = 0.0) -> float:
        """Have a key that failed looked at again, later each time; return in how many seconds."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = max(backoff(failures), not_before)
        now = self.clock()
        if not_before > 0:
            self._not_before[key] = now + not_before
        self.add_at(key, now + delay, Priority.RETRY)
        return delay

    def succeeded(self, key: K) -> None:
        """Forget that a key failed."""
        self._failures.pop(key, None)

    def forget(self, key: K) -> None:
        """Forget a key that is no more."""
        self._waiting.pop(key, None)
        self._due.pop(key, None)
        self._failures.pop(key, None)
        self._not_before.pop(key, None)

    async def get(self) -> K:
        """Return the most urgent key, waiting until there is one."""
        while True:
            self._news.clear()
            soonest = self._admit_due()
            key = self._pop()
            if key is not None:
                return key
            timeout = None if soonest is None else max(soonest - self.clock(), 0.0)
            try:
                async with asyncio.timeout(timeout):
                    await self._news.wait()
            except TimeoutError:
                continue

    def done(self, key: K) -> None:
        """Give a key back that was handed out."""
        again = self._in_hand.pop(key)
        del self._taken_at[key]
        self.last_done = self.clock()
        if again is not None:
            self.add(key, again)

    def __len__(self) -> int:
        """Return how many keys wait for their turn now."""
        return len(self._waiting)

    def lengths(self) -> dict[Priority, int]:
        """Return how many keys wait, by priority."""
        lengths = dict.fromkeys(Priority, 0)
        for waiting in self._waiting.values():
            lengths[waiting.priority] += 1
        return lengths

    @property
    def in_hand(self) -> int:
        """How many keys are being looked at."""
        return len(self._in_hand)

    def oldest(self) -> float:
        """Return for how many seconds the key that waits longest has waited, 0 if none waits."""
        now = self.clock()
        return now - min((each.since for each in self._waiting.values()), default=now)

    def longest_in_hand(self) -> float:
        """Return for how many seconds the key that was handed out first has been looked at, 0 if there is none."""
        now = self.clock()
        return now - min(self._taken_at.values(), default=now)

    def _admit_due(self) -> float | None:
        """Put what is due into the line; return when the next will be, None if nothing waits for a time."""
        now = self.clock()
        while self._later:
            when, number, key, priority = self._later[0]
            if self._due.get(key) != (when, number):
                heapq.heappop(self._later)
            elif when <= now:
                heapq.heappop(self._later)
                del self._due[key]
                self.add(key, priority)
            else:
                return when
        return None

    def _pop(self) -> K | None:
        while self._heap:
            _, number, key = heapq.heappop(self._heap)
            waiting = self._waiting.get(key)
            if waiting and waiting.number == number:
                del self._waiting[key]
                self._in_hand[key] = None
                self._taken_at[key] = self.clock()
                return key
        return None
