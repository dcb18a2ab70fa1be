"""Exclusive consumers: one holds the queue, the others wait."""

from __future__ import annotations

from queuelet.core.consumers import Claim
from support.queues import make_queue


class Consumer:
    """A claim that counts its notifications."""

    def __init__(self, *, is_exclusive: bool = False) -> None:
        self.notified = 0
        self.claim = Claim(self._changed, is_exclusive=is_exclusive)

    def _changed(self) -> None:
        self.notified += 1


def test_shared_claims_have_no_holder() -> None:
    claims = make_queue().claims
    one, two = Consumer(), Consumer()
    for consumer in (one, two):
        claims.add(consumer.claim)
    assert claims.holder is None
    claims.drop(one.claim)
    claims.notify_all()
    assert (one.notified, two.notified) == (0, 1)


def test_the_first_exclusive_claim_holds_and_shared_ones_are_notified() -> None:
    queue = make_queue()
    claims = queue.claims
    shared, first, second = Consumer(), Consumer(is_exclusive=True), Consumer(is_exclusive=True)
    for consumer in (shared, first, second):
        claims.add(consumer.claim)
    assert claims.holder is first.claim
    assert (first.claim.token, second.claim.token) == (1, 0)
    assert (shared.notified, first.notified, second.notified) == (1, 1, 0)
    assert len(queue.waiters) == 1


def test_the_next_exclusive_claim_becomes_the_holder_with_a_larger_token() -> None:
    queue = make_queue()
    claims = queue.claims
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
    assert len(queue.waiters) == 0


def test_all_claims_are_notified_when_a_queue_is_closed() -> None:
    claims = make_queue().claims
    consumers = [Consumer(is_exclusive=is_exclusive) for is_exclusive in (False, True, True)]
    for consumer in consumers:
        claims.add(consumer.claim)
    before = [consumer.notified for consumer in consumers]
    claims.notify_all()
    assert [consumer.notified for consumer in consumers] == [count + 1 for count in before]
