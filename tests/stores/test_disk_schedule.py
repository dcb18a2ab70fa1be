"""What the writer thread does next: the table of `schedule.py`, row by row, and its waits."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from queuelet.stores.durable.schedule import (
    FIRST_BACKOFF,
    FIRST_DAMAGED_BACKOFF,
    IDLE,
    MAX_BACKOFF,
    MAX_DAMAGED_BACKOFF,
    QUIET,
    RECLAIM_EVERY,
    STABLE,
    Schedule,
    State,
)

NOW = 1_000.0


def commit(schedule: Schedule, *, is_log_large: bool = False, has_freed: bool = False) -> float:
    """Start a commit and finish it; return in how many seconds reclaiming is due."""
    assert schedule.start_next(is_group_due=True) is State.COMMITTING
    return schedule.committed(NOW, is_log_large=is_log_large, has_freed=has_freed)


def reclaim(schedule: Schedule, *, has_more: bool, is_full: bool, is_quiet: bool, has_pending: bool) -> float | None:
    """Start a slice of reclaiming and finish it; return in how many seconds the next one is due."""
    schedule.reclaim_due()
    assert schedule.start_next(is_group_due=True) is State.RECLAIMING
    return schedule.reclaimed(has_more=has_more, is_full=is_full, is_quiet=is_quiet, has_pending=has_pending)


def in_state(state: State) -> Schedule:
    """Return a schedule in a state, reached only by the transitions of the table."""
    schedule = Schedule()
    if state is not State.CLOSED:
        schedule.opened(NOW)
    if state is State.CHECKPOINTING:
        commit(schedule, is_log_large=True)
    if state is State.RECLAIMING:
        schedule.reclaim_due()
    if state in {State.CHECKPOINTING, State.RECLAIMING, State.COMMITTING, State.BLOCKED}:
        schedule.start_next(is_group_due=True)
    if state is State.BLOCKED:
        schedule.blocked()
    if state is State.FAILED:
        schedule.failed(NOW, is_damaged=False)
    assert schedule.state is state
    return schedule


OPEN = [state for state in State if state not in {State.CLOSED, State.FAILED}]

Event = Callable[[Schedule], object]
ROWS: dict[str, tuple[State, Event, State]] = {
    "opened": (State.CLOSED, lambda it: it.opened(NOW), State.IDLE),
    "a group is due": (State.IDLE, lambda it: it.start_next(is_group_due=True), State.COMMITTING),
    "nothing is due": (State.IDLE, lambda it: it.start_next(is_group_due=False), State.IDLE),
    "checkpointed": (State.CHECKPOINTING, lambda it: it.checkpointed(), State.IDLE),
    "reclaimed": (
        State.RECLAIMING,
        lambda it: it.reclaimed(has_more=True, is_full=False, is_quiet=False, has_pending=True),
        State.IDLE,
    ),
    "committed": (State.COMMITTING, lambda it: it.committed(NOW, is_log_large=True, has_freed=True), State.IDLE),
    "the disk is full": (State.COMMITTING, lambda it: it.blocked(), State.BLOCKED),
    "retried": (State.BLOCKED, lambda it: it.retried(), State.COMMITTING),
    "reopened": (State.FAILED, lambda it: it.opened(NOW), State.IDLE),
    "reopening failed": (State.FAILED, lambda it: it.reopening_failed(is_damaged=False), State.FAILED),
    **{
        f"failed while {state.name}": (state, lambda it: it.failed(NOW, is_damaged=False), State.FAILED)
        for state in OPEN
    },
    **{f"closed while {state.name}": (state, lambda it: it.closed(), State.CLOSED) for state in State},
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_each_event_leads_to_the_state_in_the_table(row: tuple[State, Event, State]) -> None:
    state, event, then = row
    schedule = in_state(state)
    event(schedule)
    assert schedule.state is then
    assert schedule.is_open == (then in OPEN)


@pytest.mark.parametrize("state", [state for state in State if state is not State.IDLE])
def test_a_task_starts_only_if_none_runs_and_the_store_is_open(state: State) -> None:
    schedule = in_state(state)
    schedule.reclaim_due()
    assert schedule.start_next(is_group_due=True) is None
    assert schedule.state is state


def test_a_checkpoint_comes_before_reclaiming_and_that_before_a_commit() -> None:
    schedule = in_state(State.IDLE)
    commit(schedule, is_log_large=True)
    schedule.reclaim_due()
    assert schedule.start_next(is_group_due=True) is State.CHECKPOINTING
    schedule.checkpointed()
    assert schedule.start_next(is_group_due=True) is State.RECLAIMING
    schedule.reclaimed(has_more=False, is_full=False, is_quiet=True, has_pending=True)
    assert schedule.start_next(is_group_due=True) is State.COMMITTING


def test_reopening_forgets_what_was_due_before_the_failure() -> None:
    schedule = in_state(State.IDLE)
    commit(schedule, is_log_large=True)
    schedule.reclaim_due()
    schedule.failed(NOW, is_damaged=False)
    schedule.opened(NOW)
    assert schedule.start_next(is_group_due=False) is None


@pytest.mark.parametrize(("has_freed", "seconds"), [(True, RECLAIM_EVERY), (False, QUIET)])
def test_reclaiming_is_due_soon_after_a_commit_that_freed_space(has_freed: bool, seconds: float) -> None:  # noqa: FBT001  # parametrized
    assert commit(in_state(State.IDLE), has_freed=has_freed) == seconds


def test_reclaiming_goes_on_at_once_unless_there_are_changes_to_commit() -> None:
    schedule = in_state(State.IDLE)
    assert reclaim(schedule, has_more=True, is_full=False, is_quiet=False, has_pending=False) == 0
    assert reclaim(schedule, has_more=True, is_full=False, is_quiet=False, has_pending=True) == RECLAIM_EVERY


def test_reclaiming_ends_once_the_log_is_truncated_unless_the_disk_is_full() -> None:
    schedule = in_state(State.IDLE)
    assert reclaim(schedule, has_more=False, is_full=False, is_quiet=True, has_pending=False) is None
    assert reclaim(schedule, has_more=False, is_full=False, is_quiet=False, has_pending=False) == QUIET
    assert reclaim(schedule, has_more=False, is_full=True, is_quiet=True, has_pending=False) == QUIET


def test_a_store_is_idle_and_then_quiet_only_without_pending_changes() -> None:
    schedule = in_state(State.IDLE)
    idle, quiet = NOW + IDLE + 0.01, NOW + QUIET + 0.01
    assert schedule.idleness(NOW, has_pending=False) == (False, False)
    assert schedule.idleness(idle, has_pending=False) == (True, False)
    assert schedule.idleness(quiet, has_pending=False) == (True, True)
    assert schedule.idleness(quiet, has_pending=True) == (False, False)


@pytest.mark.parametrize(
    ("is_damaged", "first", "longest"),
    [
        (False, FIRST_BACKOFF, MAX_BACKOFF),
        (True, FIRST_DAMAGED_BACKOFF, MAX_DAMAGED_BACKOFF),
    ],
    ids=["failed", "damaged"],
)
def test_the_first_reopening_does_not_wait_and_then_the_wait_doubles(
    is_damaged: bool,  # noqa: FBT001  # parametrized
    first: float,
    longest: float,
) -> None:
    schedule = in_state(State.IDLE)
    waits = [schedule.failed(NOW, is_damaged=is_damaged)]
    waits += [schedule.reopening_failed(is_damaged=is_damaged) for _ in range(20)]
    assert waits[:4] == [0, first, 2 * first, 4 * first]
    assert waits == sorted(waits)
    assert waits[-1] == longest


def test_a_store_that_fails_again_soon_waits_longer_until_it_was_stable() -> None:
    schedule = in_state(State.IDLE)
    assert schedule.failed(NOW, is_damaged=False) == 0
    schedule.opened(NOW)
    assert schedule.failed(NOW + STABLE, is_damaged=False) == FIRST_BACKOFF
    schedule.opened(NOW)
    assert schedule.failed(NOW + STABLE + 1, is_damaged=False) == 0
