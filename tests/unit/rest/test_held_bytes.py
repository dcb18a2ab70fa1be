"""Bodies take no more memory than allowed, and the clients that take most of it lose theirs first."""

from __future__ import annotations

from contextlib import ExitStack

from hypothesis import given
from hypothesis import strategies as st

from queuelet.rest.held_bytes import HeldBytes, Holder

STEPS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60)), max_size=60)


@given(STEPS)
def test_the_total_never_exceeds_the_limit(steps: list[tuple[int, int]]) -> None:
    held = HeldBytes(100)
    closed: list[int] = []
    with ExitStack() as stack:
        holders = [
            stack.enter_context(Holder(held, f"host {number % 3}", lambda number=number: closed.append(number)))  # type: ignore[misc]  # mypy infers no type for it
            for number in range(10)
        ]
        for number, size in steps:
            before = {each: holders[each].held for each in range(10) if each not in closed}
            known = len(closed)
            holders[number].hold(size)
            assert held.total == sum(each.held for each in holders) <= 100
            if len(closed) > known:
                before[number] = before.get(number, 0) + size
                by_host = [sum(of for each, of in before.items() if each % 3 == host) for host in range(3)]
                assert by_host[closed[known] % 3] == max(by_host)
    assert held.total == 0
    assert len(closed) == len(set(closed)) == held.closed


def test_the_one_that_moved_longest_ago_is_closed() -> None:
    held = HeldBytes(100)
    closed: list[str] = []
    with Holder(held, "a", lambda: closed.append("stalled")) as stalled:
        stalled.hold(60)
        with Holder(held, "a", lambda: closed.append("reading")) as reading:
            reading.hold(40)
            reading.hold(-20)
            reading.hold(80)
            assert closed == ["stalled"]
            assert held.total == 100


def test_a_body_that_was_sent_is_no_longer_held() -> None:
    held = HeldBytes(10)
    with Holder(held, "a", lambda: None) as holder:
        for _ in range(5):
            holder.hold(10)
            holder.hold(-10)
    assert (held.total, held.closed) == (0, 0)
