"""The history of queues: what it says about any time is what was recorded, and its memory is bounded."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuelet.core.budget import MemoryBudget
from queuelet.core.history import (
    COARSE_KEEP,
    COARSE_STEPS,
    FINE_KEEP,
    LEVELS_BYTES,
    MAX_FACTOR,
    NOTHING,
    STILL_BYTES,
    Histories,
    Numbers,
    Point,
    thinned,
)

BEGIN = 175_000_000
"""The step in which tests begin."""

QUEUE = "7d8e2f6c-1b1a-4c3e-9b7e-2f6c1b1a4c3e"

GAPS = st.one_of(
    st.integers(0, 3), st.integers(1, 40), st.just(FINE_KEEP), st.integers(300, 900), st.integers(8_000, 9_000)
)
NUMBERS = st.builds(
    Numbers,
    ready=st.integers(0, 3),
    delayed=st.integers(0, 1),
    leased=st.integers(0, 1),
    dead=st.sampled_from([0, 1, 2**40]),
    enqueued=st.sampled_from([0, 1, 2**62]),
    removed=st.integers(0, 300),
)


def make(limit: int = 1 << 30) -> Histories:
    """Return histories that have begun."""
    histories = Histories(limit, MemoryBudget(1 << 40))
    histories.begin(BEGIN)
    return histories


def at(points: list[Point], step: int) -> Numbers:
    """Return the numbers at a step, which has to be after the first point."""
    return points[bisect_right(points, step, key=lambda point: point.step) - 1].numbers


@given(changes=st.lists(st.tuples(GAPS, NUMBERS), min_size=1, max_size=60))
def test_the_numbers_at_any_time_of_the_last_hour_and_at_two_minutes_of_the_day_are_those_recorded(
    changes: list[tuple[int, Numbers]],
) -> None:
    histories, now, model = make(), BEGIN, [Point(BEGIN, NOTHING)]
    for activity, (gap, numbers) in enumerate(changes, 1):
        now += gap
        histories.record(QUEUE, BEGIN, now, numbers, activity)
        model.append(Point(now, numbers))
    points = histories.points(QUEUE)
    steps = [point.step for point in points]
    assert steps == sorted(set(steps))
    since = points[0].step
    assert since <= max(BEGIN, now - COARSE_KEEP), "it is complete"
    assert [a for a, b in pairwise(points) if a.numbers == b.numbers] == [], "only changes"
    for step in range(max(BEGIN, now - FINE_KEEP), now + 1):
        assert at(points, step) == at(model, step)
    first = -(-max(BEGIN, now - COARSE_KEEP) // COARSE_STEPS) * COARSE_STEPS
    for step in range(first, now + 1, COARSE_STEPS):
        assert at(points, step) == at(model, step)


@given(changes=st.lists(st.tuples(GAPS, NUMBERS, st.booleans()), min_size=1, max_size=60))
def test_with_longer_steps_the_last_numbers_and_the_order_are_still_right(
    changes: list[tuple[int, Numbers, bool]],
) -> None:
    histories, now = make(), BEGIN
    for activity, (gap, numbers, is_short) in enumerate(changes, 1):
        now += gap
        histories.record(QUEUE, BEGIN, now, numbers, activity)
        histories._limit = histories.used - 1 if is_short else 1 << 30  # noqa: SLF001  # as if other queues had taken it
        drain(histories, now)
        points = histories.points(QUEUE)
        steps = [point.step for point in points]
        assert steps == sorted(steps)
        if points:
            assert points[-1].numbers == numbers
            assert points[-1].step <= now + COARSE_STEPS * MAX_FACTOR
        check_counted(histories)


def drain(histories: Histories, now: int) -> None:
    """Make the histories fit."""
    for _ in histories.fit(now):
        pass


def check_counted(histories: Histories) -> None:
    """Check that all memory is counted, in the budget too."""
    of_queue = histories._by_queue.values()  # noqa: SLF001  # only tests need it
    assert histories.used == histories._budget.used == sum(history.size for history in of_queue)  # noqa: SLF001  # as above
    assert histories._points_used == sum(history.points_size for history in of_queue)  # noqa: SLF001  # as above


@pytest.mark.need(5)
def test_a_queue_that_never_changes_costs_nothing() -> None:
    histories = make()
    assert histories.is_current(QUEUE, 0)
    assert (len(histories), histories.used, histories.points(QUEUE)) == (0, 0, [])
    assert histories.since(BEGIN - 5) == BEGIN
    assert histories.since(BEGIN + 5) == BEGIN + 5


def test_a_queue_with_messages_at_the_start_has_them_from_the_start() -> None:
    histories = make()
    histories.record(QUEUE, 5, BEGIN, Numbers(ready=3), 3)
    assert histories.points(QUEUE) == [Point(BEGIN, Numbers(ready=3))]
    assert histories.used == STILL_BYTES
    histories.record(QUEUE, 5, BEGIN + 7, Numbers(ready=4), 4)
    assert histories.points(QUEUE) == [Point(BEGIN, Numbers(ready=3)), Point(BEGIN + 7, Numbers(ready=4))]


def test_a_new_queue_begins_empty_when_it_was_created() -> None:
    histories = make()
    histories.record(QUEUE, BEGIN + 2, BEGIN + 3, Numbers(ready=1), 1)
    assert histories.points(QUEUE) == [Point(BEGIN + 2, NOTHING), Point(BEGIN + 3, Numbers(ready=1))]


def test_a_change_that_was_undone_within_a_step_is_no_point() -> None:
    histories = make()
    histories.record(QUEUE, BEGIN, BEGIN + 3, Numbers(ready=1), 1)
    histories.record(QUEUE, BEGIN, BEGIN + 3, NOTHING, 2)
    assert histories.points(QUEUE) == [Point(BEGIN, NOTHING)]


def test_a_day_after_its_last_change_a_history_has_only_the_last_numbers() -> None:
    histories = make()
    for step in range(1, 100):
        histories.record(QUEUE, BEGIN, BEGIN + step, Numbers(ready=step), step)
    for _ in histories.expire(BEGIN + 100 + 2 * COARSE_KEEP):
        pass
    assert histories.points(QUEUE) == [Point(BEGIN + 99, Numbers(ready=99))]
    assert histories.used == STILL_BYTES
    check_counted(histories)


def test_a_deleted_queue_has_no_history() -> None:
    histories = make()
    histories.record(QUEUE, BEGIN, BEGIN + 1, Numbers(ready=1), 1)
    histories.forget(QUEUE)
    histories.forget(QUEUE)
    assert (histories.points(QUEUE), histories.used) == ([], 0)


def busy(histories: Histories, queues: int, steps: int, settled: Callable[[], None] = lambda: None) -> int:
    """Change the numbers of queues at each step. Return the last step."""
    for step in range(1, steps + 1):
        for queue in range(queues):
            numbers = Numbers(ready=step * 7 % 1_000 + queue, enqueued=step * 100_000, removed=step * 99_000)
            histories.record(str(queue), BEGIN, BEGIN + step, numbers, step)
        drain(histories, BEGIN + step)
        settled()
    return BEGIN + steps


def test_a_queue_that_changes_all_the_time_takes_little_memory() -> None:
    histories = make()
    busy(histories, 1, 12_000)
    points = histories.points("0")
    assert FINE_KEEP + (COARSE_KEEP - FINE_KEEP) // COARSE_STEPS - 2 <= len(points) <= 1_100
    assert histories.used < 20_000


@pytest.mark.need(6)
def test_past_the_limit_steps_become_longer_and_shorter_again_when_there_is_room() -> None:
    limit = 10 * (STILL_BYTES + LEVELS_BYTES + 1_000)
    histories = make(limit)

    def settled() -> None:
        assert histories.used <= limit
        check_counted(histories)

    now = busy(histories, 10, 600, settled)
    assert 1 < histories.factor < MAX_FACTOR
    assert all(len(histories.points(str(queue))) > 10 for queue in range(10)), "every queue still has a history"
    for queue in range(9):
        histories.forget(str(queue))
    for step in range(20):
        drain(histories, now + step)
    assert histories.factor == 1


@pytest.mark.need(6)
def test_with_too_many_queues_the_memory_is_bounded_and_the_others_have_their_present_numbers_only() -> None:
    limit = 20 * STILL_BYTES + 5 * LEVELS_BYTES
    histories = make(limit)

    def settled() -> None:
        assert histories.used <= limit

    busy(histories, 40, 50, settled)
    assert len(histories) <= 40
    check_counted(histories)
    assert any(len(histories.points(str(queue))) > 2 for queue in range(40))


def test_without_memory_nothing_is_recorded() -> None:
    histories = Histories(0, MemoryBudget(1 << 40))
    assert not histories.is_on
    histories.record(QUEUE, BEGIN, BEGIN, Numbers(ready=1), 1)
    assert (histories.points(QUEUE), histories.used) == ([], 0)


def test_a_history_that_had_no_room_invents_no_past() -> None:
    histories = make(10 * STILL_BYTES + LEVELS_BYTES)
    histories._limit = 0  # noqa: SLF001  # as if other queues had taken it
    histories.record(QUEUE, BEGIN, BEGIN + 1, Numbers(ready=5), 1)
    histories._limit = 1 << 30  # noqa: SLF001  # as above
    histories.record(QUEUE, BEGIN, BEGIN + 9, Numbers(ready=7), 2)
    assert histories.points(QUEUE) == [Point(BEGIN + 9, Numbers(ready=7))]


@given(steps=st.lists(st.integers(0, 10_000), unique=True, max_size=300), most=st.integers(1, 50))
def test_a_thinned_history_has_at_most_as_many_points_and_ends_with_the_last(steps: list[int], most: int) -> None:
    points = [Point(step, Numbers(ready=step)) for step in sorted(steps)]
    few = thinned(points, most)
    assert len(few) <= most
    assert few == sorted(few)
    assert set(few) <= set(points)
    assert few[-1:] == points[-1:]
    if len(points) <= most:
        assert few == points


@pytest.mark.parametrize("queues", [300])
def test_the_memory_is_that_which_is_counted(queues: int) -> None:
    import tracemalloc  # noqa: PLC0415  # only here

    histories = make()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for step in range(1, 40):
            for queue in range(queues):
                numbers = Numbers(1_000 + step, 1_000 + queue, 900, 800, 10**9 + step * 10**4, 10**9 + queue * step)
                histories.record(f"{queue:036d}", BEGIN, BEGIN + step, numbers, 10**6 + step)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.8 * taken < histories.used < 1.3 * taken
