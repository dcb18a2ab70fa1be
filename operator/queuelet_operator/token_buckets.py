"""Rate limits per key: one token bucket for each of many keys."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_FORGET_EVERY = 1_000
"""Number of new buckets after which full ones are deleted, because a full bucket is the same as none."""


@dataclass(slots=True)
class TokenBuckets(Generic[K]):
    """The buckets. Each holds `size` tokens at first and at most."""

    size: float
    rate: float
    """Tokens that each bucket gains per second."""

    _left: dict[K, tuple[float, float]] = field(default_factory=dict)
    """The tokens in each bucket, and the time at which they were counted."""
    _forget_at: int = _FORGET_EVERY

    def take(self, key: K, now: float) -> bool:
        """Take a token from a bucket; return False if it has none. `now` is in seconds, of a clock that never steps."""
        left = self._tokens(key, now)
        is_allowed = left >= 1
        self._left[key] = (left - 1 if is_allowed else left, now)
        if len(self._left) >= self._forget_at:
            self._left = {each: self._left[each] for each in self._left if self._tokens(each, now) < self.size}
            self._forget_at = 2 * len(self._left) + _FORGET_EVERY
        return is_allowed

    def __len__(self) -> int:
        return len(self._left)

    def _tokens(self, key: K, now: float) -> float:
        left, since = self._left.get(key, (self.size, now))
        return min(left + (now - since) * self.rate, self.size)
