"""The work queue returns each key once, the most urgent first, and retries failed keys with a growing backoff."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from queuelet_operator.workqueue import FIRST_BACKOFF, MAX_BACKOFF, Priority, WorkQueue
from support.counts import soaked


@dataclass
class Clock:
    """A clock that a test sets."""

    now: float = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that does not advance by itself."""
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue[str]:
    """An empty queue."""
    return WorkQueue(clock)


async def take(queue: WorkQueue[str]) -> str | None:
    """Return the key that `get` returns now, None if it would wait."""
    getting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    if getting.done():
        return getting.result()
    getting.cancel()
    with suppress(asyncio.CancelledError):
        await getting
    return None


async def take_all(queue: WorkQueue[str]) -> list[str]:
    """Return the keys that `get` returns now, in order; they stay in progress."""
    taken: list[str] = []
    while (key := await take(queue)) is not None:
        taken.append(key)
    return taken


# Order


async def test_the_most_urgent_comes_first_and_among_equals_the_first(queue: WorkQueue[str]) -> None:
    for key, priority in (
        ("resync", Priority.RESYNC),
        ("change 1", Priority.CHANGE),
        ("retry", Priority.RETRY),
        ("deletion", Priority.DELETION),
        ("change 2", Priority.CHANGE),
    ):
        queue.add(key, priority)
    assert await take_all(queue) == ["deletion", "change 1", "change 2", "retry", "resync"]


async def test_a_key_that_waits_is_not_put_in_line_again(queue: WorkQueue[str]) -> None:
    for _ in range(3):
        queue.add("a", Priority.CHANGE)
    assert len(queue) == 1
    assert await take_all(queue) == ["a"]


async def test_the_more_urgent_of_two_reasons_counts(queue: WorkQueue[str]) -> None:
    queue.add("a", Priority.RESYNC)
    queue.add("b", Priority.CHANGE)
    queue.add("a", Priority.DELETION)
    queue.add("b", Priority.RESYNC)
    assert queue.lengths() == {
        Priority.DELETION: 1,
        Priority.CHANGE: 1,
        Priority.RETRY: 0,
        Priority.RESYNC: 0,
    }
    assert await take_all(queue) == ["a", "b"]


# In progress


async def test_a_key_in_hand_is_not_handed_out_again_before_it_is_done(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a", Priority.CHANGE)
    assert await take(queue) == "a"
    queue.add("a", Priority.DELETION)
    assert await take(queue) is None
    clock.now += 1
    assert (len(queue), queue.longest_in_progress()) == (0, 1)
    queue.done("a")
    assert queue.longest_in_progress() == 0
    assert await take(queue) == "a"


async def test_a_key_in_hand_that_was_not_added_does_not_come_again(queue: WorkQueue[str]) -> None:
    queue.add("a", Priority.CHANGE)
    await take(queue)
    queue.done("a")
    assert await take(queue) is None


async def test_what_came_in_while_it_was_in_hand_keeps_its_most_urgent_reason(queue: WorkQueue[str]) -> None:
    queue.add("a", Priority.CHANGE)
    await take(queue)
    for priority in (Priority.RETRY, Priority.DELETION, Priority.RESYNC):
        queue.add("a", priority)
    queue.add("b", Priority.CHANGE)
    queue.done("a")
    assert await take_all(queue) == ["a", "b"]


async def test_a_key_that_falls_due_while_it_is_in_hand_comes_again(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a", Priority.CHANGE)
    await take(queue)
    queue.add_at("a", clock.now + 1, Priority.RETRY)
    clock.now += 2
    assert await take(queue) is None
    queue.done("a")
    assert await take(queue) == "a"


async def test_a_waiting_worker_is_given_the_key_that_comes(queue: WorkQueue[str]) -> None:
    waiting = [asyncio.ensure_future(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    for key in ("a", "b", "c"):
        queue.add(key, Priority.CHANGE)
    assert sorted(await asyncio.gather(*waiting)) == ["a", "b", "c"]


async def test_of_many_workers_none_has_a_key_that_another_has(queue: WorkQueue[str], clock: Clock) -> None:
    in_progress: set[str] = set()
    looks = 0

    async def work() -> None:
        nonlocal looks
        while True:
            key = await queue.get()
            assert key not in in_progress
            in_progress.add(key)
            looks += 1
            for _ in range(looks % 4):
                await asyncio.sleep(0)
            in_progress.discard(key)
            queue.done(key)

    workers = [asyncio.ensure_future(work()) for _ in range(5)]
    for number in range(300):
        queue.add(f"key {number % 7}", Priority(number % 4))
        await asyncio.sleep(0)
    for _ in range(50):
        await asyncio.sleep(0)
    clock.now += 1
    assert (len(queue), in_progress, queue.longest_in_progress()) == (0, set(), 0)
    for worker in workers:
        assert not worker.done()
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    assert looks >= 7


# Later


async def test_a_key_for_later_comes_when_it_is_time(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add_at("a", clock.now + 10, Priority.CHANGE)
    clock.now += 9.9
    assert await take(queue) is None
    clock.now += 0.1
    assert await take(queue) == "a"
    queue.done("a")
    clock.now += 100
    assert await take(queue) is None, "it came once"


@pytest.mark.parametrize("times", [(5, 10), (10, 5), (10, 5, 7), (5, 5)])
async def test_the_soonest_time_counts(times: tuple[int, ...], queue: WorkQueue[str], clock: Clock) -> None:
    began = clock.now
    for time in times:
        queue.add_at("a", began + time, Priority.CHANGE)
    clock.now = began + 4.9
    assert await take(queue) is None
    clock.now = began + 5
    assert await take(queue) == "a"
    queue.done("a")
    clock.now = began + 20
    assert await take(queue) is None, "it came once"


async def test_a_key_for_later_can_come_before_for_another_reason(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add_at("a", clock.now + 10, Priority.RESYNC)
    queue.add("a", Priority.CHANGE)
    assert await take(queue) == "a"
    queue.done("a")
    clock.now += 10
    assert await take(queue) == "a", "it is looked at when it is time all the same"


async def test_a_forgotten_entry_does_not_count_for_the_key_that_is_added_again(queue: WorkQueue[str]) -> None:
    queue.add_at("a", 0.0, Priority.DELETION)
    queue.forget("a")
    queue.add("b", Priority.CHANGE)
    queue.add_at("a", 0.0, Priority.CHANGE)
    assert await take_all(queue) == ["b", "a"]


async def test_who_waits_for_a_time_wakes_for_a_sooner_one(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add_at("late", clock.now + 10_000, Priority.CHANGE)
    getting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    queue.add_at("soon", clock.now, Priority.CHANGE)
    assert await getting == "soon"


# Failures


async def test_each_failure_doubles_the_time_up_to_a_bound(queue: WorkQueue[str]) -> None:
    backoff = FIRST_BACKOFF
    for _ in range(20):
        delay = queue.retry("a")
        assert backoff / 2 <= delay <= backoff
        backoff = min(backoff * 2, MAX_BACKOFF)
    assert backoff == MAX_BACKOFF


async def test_any_number_of_failures_is_no_trouble(queue: WorkQueue[str]) -> None:
    for _ in range(2_000):
        assert queue.retry("a") <= MAX_BACKOFF


async def test_what_failed_together_does_not_come_back_together(queue: WorkQueue[str]) -> None:
    assert len({round(queue.retry(f"key {number}"), 4) for number in range(100)}) > 50


async def test_a_key_that_failed_comes_back_when_it_said(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a", Priority.CHANGE)
    await take(queue)
    delay = queue.retry("a")
    queue.done("a")
    clock.now += delay * 0.99
    assert await take(queue) is None
    clock.now += delay * 0.02
    assert await take(queue) == "a"


async def test_it_does_not_come_back_before_it_may(queue: WorkQueue[str], clock: Clock) -> None:
    assert queue.retry("a", not_before=30.0) == 30.0
    clock.now += 29
    assert await take(queue) is None
    clock.now += 1
    assert await take(queue) == "a"


async def test_what_comes_in_meanwhile_does_not_bring_it_back_before_it_may(
    queue: WorkQueue[str], clock: Clock
) -> None:
    """The API server said when to retry, and later changes of the object do not shorten that."""
    queue.add("a", Priority.CHANGE)
    await take(queue)
    queue.add("a", Priority.CHANGE)
    queue.retry("a", not_before=30.0)
    queue.done("a")
    queue.add("a", Priority.DELETION)
    queue.add_at("a", clock.now + 1, Priority.RESYNC)
    clock.now += 29
    assert await take(queue) is None
    clock.now += 1
    assert await take(queue) == "a"


async def test_a_key_that_was_forgotten_and_comes_again_waits_for_nothing(queue: WorkQueue[str], clock: Clock) -> None:
    """It is another object with the same name, to which the wait does not apply."""
    queue.add("a", Priority.CHANGE)
    await take(queue)
    queue.retry("a", not_before=30.0)
    queue.forget("a")
    queue.done("a")
    queue.add("a", Priority.CHANGE)
    assert await take(queue) == "a"


async def test_a_success_starts_the_backoff_again(queue: WorkQueue[str]) -> None:
    for _ in range(10):
        queue.retry("a")
    queue.succeeded("a")
    assert queue.retry("a") <= FIRST_BACKOFF


async def test_a_key_that_is_forgotten_does_not_come(queue: WorkQueue[str], clock: Clock) -> None:
    for _ in range(10):
        queue.retry("a")
    queue.add("a", Priority.CHANGE)
    queue.forget("a")
    clock.now += 2 * MAX_BACKOFF
    assert await take(queue) is None
    assert len(queue) == 0
    assert queue.retry("a") <= FIRST_BACKOFF
    queue.forget("never seen")


async def test_a_key_that_was_forgotten_can_be_added_again(queue: WorkQueue[str]) -> None:
    queue.add("a", Priority.CHANGE)
    queue.forget("a")
    queue.add("a", Priority.RESYNC)
    assert await take_all(queue) == ["a"]


# How long it waits


async def test_it_shows_how_long_the_oldest_key_has_waited(queue: WorkQueue[str], clock: Clock) -> None:
    assert queue.oldest() == 0
    queue.add("a", Priority.RESYNC)
    clock.now += 5
    queue.add("b", Priority.CHANGE)
    clock.now += 1
    assert queue.oldest() == 6
    queue.add("a", Priority.DELETION)
    assert queue.oldest() == 6, "a more urgent reason does not make it younger"
    assert await take(queue) == "a"
    assert queue.oldest() == 1
    assert await take(queue) == "b"
    assert queue.oldest() == 0


async def test_no_worker_has_waited_for_less_than_no_time() -> None:
    """The clock advances between two reads of it."""
    queue: WorkQueue[str] = WorkQueue(map(float, count()).__next__)
    assert (queue.oldest(), queue.longest_in_progress()) == (0, 0)


async def test_it_shows_when_a_key_was_last_done(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a", Priority.CHANGE)
    await take(queue)
    clock.now += 7
    queue.done("a")
    assert queue.last_done == clock.now


KEYS = ("a", "b")

keys = st.sampled_from(KEYS)
priorities = st.sampled_from(Priority)
delays = st.sampled_from((0.0, 0.0, 0.0, 5.0)) | st.floats(0, 10)
"""Few different times, so that a key is often added again for the same time after it was forgotten."""


class WorkQueueMachine(RuleBasedStateMachine):
    """Compares the queue with a model made of plain dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.queue: WorkQueue[str] = WorkQueue(self.clock)
        self.waiting: dict[str, tuple[Priority, int]] = {}
        self.since: dict[str, float] = {}
        self.due: dict[str, tuple[float, int, Priority]] = {}
        self.not_before: dict[str, float] = {}
        self.in_progress: dict[str, list[Priority]] = {}
        self.taken_at: dict[str, float] = {}
        self.failures = dict.fromkeys(KEYS, 0)
        self.number = 0

    def teardown(self) -> None:
        """Get all remaining keys, and close the event loop."""
        self.clock.now += 1_000
        try:
            while (expected := self.model_take()) is not None:
                assert self.loop.run_until_complete(take(self.queue)) == expected
                self.queue.done(expected)
                for priority in sorted(self.in_progress.pop(expected))[:1]:
                    self.model_add(expected, priority)
            assert self.loop.run_until_complete(take(self.queue)) is None
        finally:
            self.loop.close()

    def model_add(self, key: str, priority: Priority) -> None:
        """Add a key."""
        if self.not_before.get(key, 0.0) > self.clock.now:
            self.model_add_at(key, self.not_before[key], priority)
            return
        self.not_before.pop(key, None)
        if key in self.in_progress:
            self.in_progress[key].append(priority)
        elif key not in self.waiting or priority < self.waiting[key][0]:
            self.number += 1
            self.waiting[key] = (priority, self.number)
            self.since.setdefault(key, self.clock.now)

    def model_add_at(self, key: str, when: float, priority: Priority) -> None:
        """Add a key at a time."""
        if key not in self.due or when < self.due[key][0]:
            self.number += 1
            self.due[key] = (when, self.number, priority)

    def model_take(self) -> str | None:
        """Get a key."""
        while self.due:
            key = min(self.due, key=lambda key: self.due[key])
            when, _, priority = self.due[key]
            if when > self.clock.now:
                break
            del self.due[key]
            self.model_add(key, priority)
        if not self.waiting:
            return None
        first = min(self.waiting, key=lambda key: self.waiting[key])
        del self.waiting[first], self.since[first]
        self.in_progress[first] = []
        self.taken_at[first] = self.clock.now
        return first

    @rule(key=keys, priority=priorities)
    def add(self, key: str, priority: Priority) -> None:
        self.queue.add(key, priority)
        self.model_add(key, priority)

    @rule(key=keys, delay=delays, priority=priorities)
    def add_at(self, key: str, delay: float, priority: Priority) -> None:
        when = self.clock.now + delay
        self.queue.add_at(key, when, priority)
        self.model_add_at(key, when, priority)

    @rule(key=keys, not_before=st.just(0.0) | st.floats(0.01, 20))
    def retry(self, key: str, not_before: float) -> None:
        self.failures[key] += 1
        delay = self.queue.retry(key, not_before=not_before)
        backoff = min(FIRST_BACKOFF * 2 ** (self.failures[key] - 1), MAX_BACKOFF)
        assert max(backoff / 2, not_before) <= delay <= max(backoff, not_before)
        if not_before:
            self.not_before[key] = self.clock.now + not_before
        self.model_add_at(key, self.clock.now + delay, Priority.RETRY)

    @rule(key=keys)
    def succeed(self, key: str) -> None:
        self.queue.succeeded(key)
        self.failures[key] = 0

    @rule(key=keys)
    def forget(self, key: str) -> None:
        self.queue.forget(key)
        self.waiting.pop(key, None)
        self.since.pop(key, None)
        self.due.pop(key, None)
        self.not_before.pop(key, None)
        self.failures[key] = 0

    @rule(seconds=st.floats(0.01, 20))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def take(self) -> None:
        expected = self.model_take()
        assert self.loop.run_until_complete(take(self.queue)) == expected

    @precondition(lambda self: self.in_progress)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.in_progress)))
        self.queue.done(key)
        for priority in sorted(self.in_progress.pop(key))[:1]:
            self.model_add(key, priority)

    @invariant()
    def it_is_what_the_model_says(self) -> None:
        assert len(self.queue) == len(self.waiting)
        first = min((self.taken_at[key] for key in self.in_progress), default=self.clock.now)
        assert self.queue.longest_in_progress() == pytest.approx(self.clock.now - first)
        oldest = min(self.since.values(), default=self.clock.now)
        assert self.queue.oldest() == pytest.approx(self.clock.now - oldest)


TestWorkQueue = WorkQueueMachine.TestCase
TestWorkQueue.settings = settings(deadline=None, max_examples=soaked(300, 20_000))
