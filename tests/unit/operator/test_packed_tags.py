"""Packed tags compare like sets, unpack to the same tags, and take few bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from queuelet.tags import Tag
from queuelet_operator.packed_tags import PackedTags

tags = st.lists(st.builds(Tag, st.text(max_size=3), st.text(max_size=3)), max_size=4)


@given(one=tags, other=tags)
def test_they_are_equal_where_the_sets_are(one: list[Tag], other: list[Tag]) -> None:
    assert (PackedTags(one) == PackedTags(other)) == (set(one) == set(other))
    assert (PackedTags(one).hash == PackedTags(other).hash) == (set(one) == set(other))


@given(given=tags)
def test_they_are_unpacked_as_they_were(given: list[Tag]) -> None:
    packed = PackedTags(given)
    assert list(packed) == sorted(set(given))
    assert len(packed) == len(set(given))


def test_the_hash_is_the_same_in_every_process() -> None:
    assert PackedTags([Tag("zone", "b"), Tag("zone", "a")]).hash == "383ac0872f181e26"


def test_equal_sets_take_their_bytes_once() -> None:
    assert PackedTags([Tag("a", "1"), Tag("b", "2")]) is PackedTags([Tag("b", "2"), Tag("a", "1")])
