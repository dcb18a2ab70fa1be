"""Rate limits per key: one token bucket for each of many keys."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from queuelet.token_bucket import TokenBucket

K = TypeVar("K", bound=Hashable)

_FORGET_EVERY = 1_000
"""Number of new buckets after which full ones are deleted, because a full bucket is the same as none."""


@dataclass(slots=True)
class TokenBuckets(Generic[K]):
    """The buckets. Each holds `size` tokens at first and at most. Times are in ns, of a clock that never steps."""

    size: int
    rate: int
    """Tokens that each bucket gains every `seconds`."""
    seconds: int = 1

    _buckets: dict[K, TokenBucket] = field(default_factory=dict)
    _forget_at: int = _FORGET_EVERY

    def take(self, key: K, now: int) -> bool:
        """Take a token from a bucket; return False if it has none."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self.size, self.rate, now, seconds=self.seconds)
        is_allowed = bucket.available(now) > 0
        if is_allowed:
            bucket.take(1)
        if len(self._buckets) >= self._forget_at:
            self._buckets = {each: bucket for each, bucket in self._buckets.items() if not bucket.is_full(now)}
            self._forget_at = 2 * len(self._buckets) + _FORGET_EVERY
        return is_allowed

    def wait(self, key: K, now: int) -> int:
        """Return in how many ns a bucket has a token; 0 if it has one."""
        bucket = self._buckets.get(key)
        return bucket.wait(now) if bucket else 0

    def __len__(self) -> int:
        return len(self._buckets)
