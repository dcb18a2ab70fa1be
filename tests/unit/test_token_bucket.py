"""A token bucket allows a burst, and then a rate, however often it is looked at."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from queuelet.limits import SECOND_NS
from queuelet.token_bucket import TokenBucket

sizes = st.integers(1, 1_000)
rates = st.integers(1, 1_000)
seconds = st.integers(1, 10)


@given(
    size=sizes,
    rate=rates,
    every=seconds,
    steps=st.lists(st.tuples(st.integers(0, 3 * SECOND_NS), st.integers(0, 2_000))),
)
def test_a_bucket_gives_at_most_its_size_and_its_rate(
    size: int, rate: int, every: int, steps: list[tuple[int, int]]
) -> None:
    bucket, now, taken = TokenBucket(size, rate, 0, seconds=every), 0, 0
    for pause, wanted in steps:
        now += pause
        available = bucket.available(now)
        assert 0 <= available <= size
        bucket.take(min(wanted, available))
        taken += min(wanted, available)
        assert taken <= size + rate * now / (every * SECOND_NS)


@given(size=sizes, rate=rates, every=seconds, looks=st.lists(st.integers(0, SECOND_NS), max_size=50))
def test_looking_at_a_bucket_changes_nothing(size: int, rate: int, every: int, looks: list[int]) -> None:
    seen, unseen = (TokenBucket(size, rate, 0, seconds=every) for _ in range(2))
    for bucket in (seen, unseen):
        bucket.take(size)
    now = 0
    for pause in looks:
        now += pause
        seen.available(now)
        seen.is_full(now)
        seen.wait(now)
    assert seen.available(now) == unseen.available(now) == min(size, rate * now // (every * SECOND_NS))


@given(size=sizes, rate=rates, every=seconds, taken=st.integers(0, 1_000), now=st.integers(0, 3 * SECOND_NS))
def test_there_is_a_token_after_the_wait_and_not_before(size: int, rate: int, every: int, taken: int, now: int) -> None:
    bucket = TokenBucket(size, rate, 0, seconds=every)
    bucket.take(min(taken, size))
    wait = bucket.wait(now)
    assert (wait == 0) == (bucket.available(now) > 0)
    if wait:
        assert bucket.available(now + wait - 1) == 0
    assert bucket.available(now + wait) >= 1


def test_a_bucket_fills_again() -> None:
    bucket = TokenBucket(20, 20, 0)
    bucket.take(20)
    assert [bucket.available(now * SECOND_NS // 20) for now in (0, 1, 10, 100)] == [0, 1, 10, 20]
    assert bucket.available(0) == 20, "a clock that goes back takes nothing away"


def test_a_bucket_is_full_at_first_and_once_what_was_taken_has_come_back() -> None:
    bucket = TokenBucket(2, 1, 0, seconds=5)
    assert bucket.is_full(0)
    bucket.take(1)
    assert [bucket.is_full(now * SECOND_NS) for now in (0, 4, 5)] == [False, False, True]
