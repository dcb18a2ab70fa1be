"""Lines of bars: what they show of numbers over time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuelet.cli.sparklines import BARS, COARSE_STEP, FINE_SECONDS, Spans, Steps, bars, first_of, spans_of

VALUES = st.lists(st.none() | st.integers(0, 10**12), max_size=60)


@given(VALUES)
def test_a_bar_is_as_high_as_its_share_of_the_highest(values: list[float | None]) -> None:
    shown = bars(values)
    assert len(shown) == len(values)
    for value, bar in zip(values, shown, strict=True):
        assert (bar == " ") == (value is None)
        assert (bar == BARS[0]) == (value == 0)
    known = sorted((value, BARS.index(bar)) for value, bar in zip(values, shown, strict=True) if value is not None)
    assert all(lower[1] <= higher[1] for lower, higher in pairwise(known))
    assert not known or known[-1][0] == 0 or known[-1][1] == len(BARS) - 1


@given(st.integers(60, 86_400), st.integers(10, 60))
def test_spans_cover_the_period_in_whole_steps_of_the_server(seconds: int, most: int) -> None:
    spans = spans_of(1_000_000, 1_000_000 + seconds, most)
    assert spans.count <= most
    assert spans.end == 1_000_000 + seconds
    assert spans.start <= 1_000_000 < spans.start + spans.seconds
    assert spans.seconds % (COARSE_STEP if seconds > FINE_SECONDS else 10) == 0
    assert spans.edges[-1] == spans.end


STEPS = Steps(times=[100, 110, 130], values=[0, 50, 20])
"""Known from 100 on, 50 from 110 on, 20 from 130 on."""


def test_a_peak_between_two_edges_is_seen_and_numbers_last_until_the_next() -> None:
    assert STEPS.peaks(Spans(end=180, seconds=20, count=5)) == [0, 50, 50, 20, 20]


def test_what_was_before_the_first_point_is_not_known() -> None:
    assert STEPS.peaks(Spans(end=140, seconds=20, count=4)) == [None, 0, 50, 50]
    assert Steps([], []).peaks(Spans(end=140, seconds=20, count=2)) == [None, None]


@pytest.mark.parametrize(("start", "first"), [(99, 0), (100, 0), (109, 0), (110, 1), (129, 1), (130, 2), (200, 2)])
def test_a_period_begins_with_the_numbers_at_its_start(start: float, first: int) -> None:
    assert first_of(STEPS.times, start) == first


def test_rates_are_those_of_the_known_part_of_a_span() -> None:
    total = Steps(times=[100, 110, 130], values=[0, 50, 90])
    assert total.rates(Spans(end=160, seconds=40, count=2)) == [pytest.approx(50 / 20), pytest.approx(40 / 40)]
    assert total.rates(Spans(end=100, seconds=20, count=2)) == [None, 0.0]


TOTALS = st.lists(st.tuples(st.integers(1, 500), st.integers(0, 1_000)), min_size=1, max_size=30)


@given(TOTALS, st.integers(1, 40), st.sampled_from([10, 20, 120]))
def test_rates_add_up_to_what_was_added(changes: list[tuple[int, int]], count: int, seconds: int) -> None:
    times, values = [0.0], [0]
    for passed, added in changes:
        times.append(times[-1] + passed)
        values.append(values[-1] + added)
    spans = Spans(end=float(count * seconds), seconds=seconds, count=count)
    grown = sum(rate * seconds for rate in Steps(times, values).rates(spans) if rate is not None)
    last = max(i for i, time in enumerate(times) if time <= spans.end)
    assert grown == pytest.approx(values[last])
