"""Token buckets allow each key a burst, and then a number of operations per second."""

from __future__ import annotations

from queuelet.limits import SECOND_NS
from queuelet_operator.token_buckets import TokenBuckets


def at(seconds: float) -> int:
    """Return a time in ns."""
    return round(seconds * SECOND_NS)


def test_a_key_has_its_size_at_once_and_then_its_rate() -> None:
    buckets: TokenBuckets[str] = TokenBuckets(size=3, rate=1, seconds=2)
    assert [buckets.take("a", at(100)) for _ in range(4)] == [True, True, True, False]
    assert [buckets.take("a", at(now)) for now in (101.9, 102.0, 102.1)] == [False, True, False]


def test_one_key_does_not_use_up_the_tokens_of_another() -> None:
    buckets: TokenBuckets[str] = TokenBuckets(size=1, rate=1)
    assert buckets.take("a", at(0))
    assert not buckets.take("a", at(0))
    assert buckets.take("b", at(0))


def test_a_bucket_is_never_more_than_full() -> None:
    buckets: TokenBuckets[str] = TokenBuckets(size=2, rate=1)
    buckets.take("a", at(0))
    assert [buckets.take("a", at(1_000)) for _ in range(3)] == [True, True, False]


def test_buckets_that_are_full_again_are_forgotten() -> None:
    buckets: TokenBuckets[int] = TokenBuckets(size=2, rate=1)
    for key in range(10_000):
        buckets.take(key, at(key))
    assert len(buckets) < 2_000


def test_a_key_without_a_token_is_told_when_it_has_one() -> None:
    buckets: TokenBuckets[str] = TokenBuckets(size=1, rate=1, seconds=2)
    assert buckets.wait("a", at(0)) == 0
    buckets.take("a", at(0))
    assert buckets.wait("a", at(0.5)) == at(1.5)
    assert not buckets.take("a", at(1.9))
    assert buckets.take("a", at(2))
