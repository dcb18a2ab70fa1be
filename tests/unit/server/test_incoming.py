"""The connections that are cut because of what they hold or because they are idle, and those that never are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuelet.core.budget import MemoryBudget
from queuelet.server.incoming import CALL_BYTES, Flow, IncomingLimit, excess, idle_ones
from queuelet.server.sockets import Connection, Peer

MIB = 1 << 20


def flow(host: str = "a", port: int = 1, *, held: int = 0, calls: int = 0, handed_over: int = 0) -> Flow:
    """Return the flow of a connection with these numbers."""
    made = Flow(Peer(host, port))
    made.held, made.calls, made.handed_over = held, calls, handed_over
    return made


# Bytes that a connection holds


def test_a_connection_holds_what_came_in_and_is_not_complete() -> None:
    made = flow()
    made.update(3 * MIB)
    assert made.held == 3 * MIB
    made.complete(3 * MIB)
    made.update(3 * MIB)
    assert made.held == 0


def test_an_open_call_counts_for_what_it_takes() -> None:
    made = flow(calls=3)
    made.update(0)
    assert made.held == 3 * CALL_BYTES


def test_a_connection_in_use_for_long_never_seems_to_hold_something_or_to_have_credit() -> None:
    """More bytes are counted as handled with each request than arrived, but the excess must not hide later bytes."""
    made, received = flow(), 0
    for _ in range(10_000):
        received += 100
        made.complete(90)
        made.sent()
        made.update(received)
        assert made.held == 0
    made.update(received + MIB)
    assert made.held == MIB


# Cut because they hold too many bytes


def test_nothing_is_cut_up_to_the_bound() -> None:
    assert excess([flow(held=60), flow("b", held=40)], 100) == []


def test_the_largest_connection_of_the_largest_address_is_cut_first() -> None:
    small, large = flow("many", 1, held=30), flow("many", 2, held=40)
    alone = flow("alone", held=50)
    assert excess([small, large, alone], 80) == [large]
    assert excess([small, large, alone], 60) == [large, alone]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 100)), max_size=40), st.integers(0, 500))
def test_as_much_is_cut_as_has_to_be_and_no_more(held: list[tuple[str, int]], bound: int) -> None:
    flows = [flow(host, port, held=size) for port, (host, size) in enumerate(held)]
    chosen = excess(flows, bound)
    left = sum(each.held for each in flows) - sum(each.held for each in chosen)
    assert left <= bound
    assert not chosen or left + chosen[-1].held > bound
    assert len({id(each) for each in chosen}) == len(chosen)


# Cut because there are too many


def test_idle_connections_stay_while_there_is_room() -> None:
    assert idle_ones([flow(port=port) for port in range(90)], 100) == []


def test_those_without_a_request_go_first_and_those_with_calls_never() -> None:
    used = [flow(port=port, handed_over=1) for port in range(30)]
    busy = [flow(port=port, calls=1) for port in range(30, 61)]
    new = [flow(port=port) for port in range(61, 91)]
    chosen = idle_ones([*used, *busy, *new], 100)
    assert len(chosen) == 11, "four fifths are left"
    assert all(each in new for each in chosen)
    assert idle_ones([flow(port=port, calls=1) for port in range(100)], 100) == []


@pytest.mark.parametrize("most", [1, 5, 100])
def test_another_address_keeps_its_connections(most: int) -> None:
    many = [flow("many", port) for port in range(most)]
    chosen = idle_ones([*many, flow("alone")], most)
    assert chosen
    assert all(each.peer.host == "many" for each in chosen)


# All connections of a port


def test_a_look_cuts_and_counts_and_forgets_closed_connections() -> None:
    budget = MemoryBudget(1_000 * MIB)
    incoming = IncomingLimit(budget, 10 * MIB, 100)
    opened = [Connection(Peer("a", port), port, size * MIB) for port, size in ((1, 3), (2, 9), (3, 1))]
    cut: list[Connection] = []

    def note_cut(connection: Connection, _: int) -> bool:
        cut.append(connection)
        return True

    incoming.listen(1, lambda _: opened, note_cut)
    incoming.check_now()
    assert cut == [Connection(Peer("a", 2), 2, 9 * MIB)]
    assert (incoming.cut, incoming.connections, incoming.held) == (1, 3, 13 * MIB)
    del opened[1]
    incoming.check_now()
    assert (incoming.cut, incoming.connections, incoming.held) == (1, 2, 4 * MIB)
    assert budget.incoming == 4 * MIB
    incoming.flow("ipv4:127.0.0.1:1").calls = 7
    assert incoming.most_calls == 7
    incoming.flow("ipv4:127.0.0.1:1").calls = 0
    opened.clear()
    incoming.check_now()
    assert (incoming.held, incoming.most_calls) == (0, 0)


def test_a_connection_that_cannot_be_looked_at_counts_for_its_calls() -> None:
    incoming = IncomingLimit(MemoryBudget(MIB), MIB, 100)
    found = incoming.flow("ipv4:10.0.0.7:99")
    found.calls = 2
    incoming.listen(1, lambda _: [], lambda *_: True)
    incoming.check_now()
    assert incoming.flow("ipv4:10.0.0.7:99") is found
    assert incoming.held == 2 * CALL_BYTES
