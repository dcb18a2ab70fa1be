"""Exclusive consumers: one holds the queue, the others wait."""

from __future__ import annotations

from queuelet.core.consumers import Claim, Claims
from queuelet.core.tokens import Tokens


class Consumer:
    """A claim that counts its notifications."""

    def __init__(self, *, is_exclusive: bool = False) -> None:
        self.notified = 0
        self.claim = Claim(self._changed, is_exclusive=is_exclusive)

    def _changed(self) -> None:
        self.notified += 1


def test_shared_claims_have_no_holder() -> None:
    claims = Claims(Tokens(1))
    one, two = Consumer(), Consumer()
    for consumer in (one, two):
        claims.add(consumer.claim)
    assert claims.holder is None
    claims.drop(one.claim)
    claims.notify_all()
    assert (one.notified, two.notified) == (0, 1)


def test_the_first_exclusive_claim_holds_and_shared_ones_are_notified() -> None:
    claims = Claims(Tokens(7))
    shared, first, second = Consumer(), Consumer(is_exclusive=True), Consumer(is_exclusive=True)
    for consumer in (shared, first, second):
        claims.add(consumer.claim)
    assert claims.holder is first.claim
    assert (first.claim.token, second.claim.token) == (7, 0)
    assert (shared.notified, first.notified, second.notified) == (1, 1, 0)
    assert claims.in_line == 1


def test_the_next_exclusive_claim_becomes_the_holder_with_a_larger_token() -> None:
    claims = Claims(Tokens(7))
    first, second, third = (Consumer(is_exclusive=True) for _ in range(3))
    for consumer in (first, second, third):
        claims.add(consumer.claim)
    claims.drop(second.claim)
    claims.drop(first.claim)
    assert claims.holder is third.claim
    assert third.claim.token > first.claim.token
    assert second.claim.token == 0
    claims.drop(third.claim)
    assert claims.holder is None
    assert claims.in_line == 0


def test_all_claims_are_notified_when_a_queue_is_closed() -> None:
    claims = Claims(Tokens(1))
    consumers = [Consumer(is_exclusive=is_exclusive) for is_exclusive in (True, True, False)]
    for consumer in consumers:
        claims.add(consumer.claim)
    before = [consumer.notified for consumer in consumers]
    claims.notify_all()
    assert [consumer.notified for consumer in consumers] == [count + 1 for count in before]
