"""Who of those that consume a queue is to be the only one."""

from __future__ import annotations

from queuelet.core.consumers import Claim, Claims
from queuelet.core.tokens import Tokens


class Consumer:
    """A claim that counts how often it was told that something changed."""

    def __init__(self, *, is_exclusive: bool = False) -> None:
        self.told = 0
        self.claim = Claim(self._changed, is_exclusive=is_exclusive)

    def _changed(self) -> None:
        self.told += 1


def test_shared_claims_have_no_holder() -> None:
    claims = Claims(Tokens(1))
    one, two = Consumer(), Consumer()
    for consumer in (one, two):
        claims.add(consumer.claim)
    assert claims.holder is None
    claims.drop(one.claim)
    claims.tell_all()
    assert (one.told, two.told) == (0, 1)


def test_the_first_exclusive_claim_holds_and_all_others_hear_of_it() -> None:
    claims = Claims(Tokens(7))
    shared, first, second = Consumer(), Consumer(is_exclusive=True), Consumer(is_exclusive=True)
    for consumer in (shared, first, second):
        claims.add(consumer.claim)
    assert claims.holder is first.claim
    assert (first.claim.token, second.claim.token) == (7, 0)
    assert (shared.told, first.told, second.told) == (1, 1, 0)
    assert claims.in_line == 1


def test_the_next_in_line_follows_with_a_larger_token() -> None:
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


def test_at_the_end_of_a_queue_everybody_is_told() -> None:
    claims = Claims(Tokens(1))
    consumers = [Consumer(is_exclusive=is_exclusive) for is_exclusive in (True, True, False)]
    for consumer in consumers:
        claims.add(consumer.claim)
    before = [consumer.told for consumer in consumers]
    claims.tell_all()
    assert [consumer.told for consumer in consumers] == [told + 1 for told in before]
