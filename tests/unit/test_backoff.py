"""A backoff doubles with each failure up to its bound, and is spread at random between half and all of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuelet.backoff import Backoff, next_backoff, with_jitter

bounds = st.floats(0.001, 1_000).flatmap(lambda shortest: st.tuples(st.just(shortest), st.floats(shortest, 100_000)))
"""A shortest and a longest backoff."""


def test_each_failure_in_a_row_doubles_the_backoff_up_to_its_bound() -> None:
    seen = [0.0]
    for _ in range(6):
        seen.append(next_backoff(seen[-1], 0.25, 3.0))
    assert seen[1:] == [0.25, 0.5, 1.0, 2.0, 3.0, 3.0]


@given(bounds=bounds, failures=st.integers(1, 200))
def test_the_backoff_is_that_of_the_number_of_failures(bounds: tuple[float, float], failures: int) -> None:
    shortest, longest = bounds
    backoff = 0.0
    for _ in range(failures):
        backoff = next_backoff(backoff, shortest, longest)
    assert backoff == pytest.approx(min(shortest * 2 ** (failures - 1), longest))


@given(bounds=bounds, last=st.floats(0, 1e6))
def test_a_backoff_is_within_its_bounds_whatever_it_was_before(bounds: tuple[float, float], last: float) -> None:
    """The bounds may change in a row of failures, as those of a store do once its file is damaged."""
    shortest, longest = bounds
    assert shortest <= next_backoff(last, shortest, longest) <= longest


@given(backoff=st.floats(0, 1e6))
def test_jitter_leaves_at_least_half_of_a_backoff(backoff: float) -> None:
    assert backoff / 2 <= with_jitter(backoff) <= backoff


def test_callers_that_failed_together_do_not_retry_together() -> None:
    assert len({round(Backoff(1.0, 1.0).next_delay(), 4) for _ in range(100)}) > 50


@given(bounds=bounds, failures=st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_a_success_starts_the_backoff_again(bounds: tuple[float, float], failures: list[int]) -> None:
    shortest, longest = bounds
    backoff = Backoff(shortest, longest)
    for in_a_row in failures:
        expected = shortest
        for _ in range(in_a_row):
            assert expected / 2 <= backoff.next_delay() <= expected
            expected = min(2 * expected, longest)
        backoff.reset()
    assert backoff.next_delay() <= shortest
