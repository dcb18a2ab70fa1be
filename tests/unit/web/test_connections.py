"""The connections to an HTTP port that are closed if there are too many."""

from __future__ import annotations

from queuelet.web.connections import Seen, excess


def test_none_has_to_go_up_to_the_most() -> None:
    assert excess([Seen("a", 1, "first"), Seen("a", 2, "second")], 2) == []


def test_of_the_address_with_the_most_those_go_that_stand_still_for_longest() -> None:
    many = [Seen("many", moved_at, moved_at) for moved_at in (5, 3, 1, 2, 4)]
    few = [Seen("few", 0, "oldest of all"), Seen("few", 0, "another")]
    assert [each.protocol for each in excess([*many, *few], 4)] == [1, 2, 3]


def test_addresses_with_equally_many_lose_in_turn() -> None:
    connections = [Seen(host, moved_at, f"{host}{moved_at}") for host in "ab" for moved_at in range(3)]
    assert sorted(each.protocol for each in excess(connections, 2)) == ["a0", "a1", "b0", "b1"]
