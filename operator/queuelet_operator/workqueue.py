"""A queue of keys that have to be reconciled: deduplicated, by priority, and each processed by one worker at a time."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count
from typing import Generic, TypeVar

from queuelet.backoff import next_backoff, with_jitter

K = TypeVar("K", bound=Hashable)

FIRST_BACKOFF = 0.25
"""Seconds until the first retry of a key that failed."""

MAX_BACKOFF = 60.0
"""The longest time between two retries, in seconds."""


class Priority(IntEnum):
    """How urgent a key is; lower numbers come first."""

    DELETION = 0
    CHANGE = 1
    RETRY = 2
    RESYNC = 3


@dataclass(slots=True)
class _Waiting:
    """A key that waits to be processed. Heap entries with another number than the one in `_waiting` are stale."""

    priority: Priority
    number: int
    since: float


@dataclass(slots=True)
class WorkQueue(Generic[K]):
    """The queue. A worker gets a key from `get` and must call `done`; until then no other worker gets the same key."""

    clock: Callable[[], float]
    """Returns seconds by a clock that never goes back."""

    _waiting: dict[K, _Waiting] = field(default_factory=dict)
    _heap: list[tuple[Priority, int, K]] = field(default_factory=list)
    _later: list[tuple[float, int, K, Priority]] = field(default_factory=list)
    _due: dict[K, tuple[float, int]] = field(default_factory=dict)
    """The time of each key in `_later` and the number of its entry. Entries with another number are stale."""
    _in_progress: dict[K, Priority | None] = field(default_factory=dict)
    """Keys in progress, each with the priority with which it was added again meanwhile, if it was."""
    _backoffs: dict[K, float] = field(default_factory=dict)
    """The last backoff of each key that failed."""
    _not_before: dict[K, float] = field(default_factory=dict)
    """Keys that must not be processed before a time, even if they are added again."""
    _numbers: count[int] = field(default_factory=count)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    last_done: float = 0.0
    """When the processing of a key last ended."""
    _taken_at: dict[K, float] = field(default_factory=dict)

    def add(self, key: K, priority: Priority) -> None:
        """Add a key. If it waits already, it gets the more urgent priority; if it is in progress, it is added after."""
        may_come = self._not_before.get(key, 0.0)
        if may_come > self.clock():
            self.add_at(key, may_come, priority)
            return
        self._not_before.pop(key, None)
        if key in self._in_progress:
            noted = self._in_progress[key]
            self._in_progress[key] = priority if noted is None else min(noted, priority)
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
        """Add a key at a time by the queue's clock, in seconds. Only the earliest such time of a key counts."""
        due = self._due.get(key)
        if due and due[0] <= when:
            return
        # Entries are compared by number instead of by time, because a forgotten key may be added for the same time.
        number = next(self._numbers)
        self._due[key] = (when, number)
        heapq.heappush(self._later, (when, number, key, priority))
        self._news.set()

    def retry(self, key: K, *, not_before: float = 0.0) -> float:
        """Add a failed key again after a backoff, or after `not_before` seconds if that is longer; return the delay."""
        backoff = self._backoffs[key] = next_backoff(self._backoffs.get(key, 0.0), FIRST_BACKOFF, MAX_BACKOFF)
        delay = max(with_jitter(backoff), not_before)
        now = self.clock()
        if not_before > 0:
            self._not_before[key] = now + not_before
        self.add_at(key, now + delay, Priority.RETRY)
        return delay

    def succeeded(self, key: K) -> None:
        """Reset the backoff of a key."""
        self._backoffs.pop(key, None)

    def forget(self, key: K) -> None:
        """Remove a key whose object no longer exists."""
        self._waiting.pop(key, None)
        self._due.pop(key, None)
        self._backoffs.pop(key, None)
        self._not_before.pop(key, None)

    async def get(self) -> K:
        """Wait for a key and return the most urgent one."""
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
        """End the processing of a key that `get` returned."""
        again = self._in_progress.pop(key)
        del self._taken_at[key]
        self.last_done = self.clock()
        if again is not None:
            self.add(key, again)

    def __len__(self) -> int:
        return len(self._waiting)

    def lengths(self) -> dict[Priority, int]:
        """Return the number of waiting keys by priority."""
        lengths = dict.fromkeys(Priority, 0)
        for waiting in self._waiting.values():
            lengths[waiting.priority] += 1
        return lengths

    def oldest(self) -> float:
        """Return how long the oldest waiting key has waited, in seconds; 0 if none waits."""
        now = self.clock()
        return now - min((each.since for each in self._waiting.values()), default=now)

    def longest_in_progress(self) -> float:
        """Return how long the oldest key in progress has been processed, in seconds; 0 if there is none."""
        now = self.clock()
        return now - min(self._taken_at.values(), default=now)

    def _admit_due(self) -> float | None:
        """Add the keys whose time has come; return the time of the next one, None if there is none."""
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
                self._in_progress[key] = None
                self._taken_at[key] = self.clock()
                return key
        return None
