"""Tags and their bounds."""

from __future__ import annotations

import pytest

from queuelet.bounds import Bounds
from queuelet.errors import InvalidArgument
from queuelet.server.requests import tags_from_pb
from queuelet.tags import Tag, checked_tags
from queuelet.v1 import queue_pb2 as pb

BOUNDS = Bounds(tags=2, tag_key_bytes=4, tag_value_bytes=8)


def test_duplicates_collapse_and_the_order_stays() -> None:
    assert checked_tags([Tag("b", "1"), Tag("a", "1"), Tag("b", "1")], BOUNDS) == (Tag("b", "1"), Tag("a", "1"))


def test_the_number_of_tags_is_checked_before_they_are_parsed() -> None:
    """Equal tags count too, because parsing them takes long."""
    with pytest.raises(InvalidArgument, match="tags: 3 tags are too many; give at most 2"):
        tags_from_pb([pb.Tag(key="a", value="1")] * 3, BOUNDS)


def test_a_key_may_have_several_values() -> None:
    assert len(checked_tags([Tag("a", "1"), Tag("a", "2")], BOUNDS)) == 2


@pytest.mark.parametrize(
    ("tags", "text"),
    [
        ([Tag("", "1")], "a tag has no key"),
        ([Tag("äää", "1")], "keep keys within 4 bytes"),
        ([Tag("a", "ääääx")], "keep values within 8 bytes"),
    ],
)
def test_out_of_bounds_is_refused_with_field_and_rule(tags: list[Tag], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text) as refused:
        checked_tags(tags, BOUNDS, field="message.tags")
    assert refused.value.message.startswith("message.tags: ")
