"""Tags: pairs of texts on queues and messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from queuelet.bounds import Bounds
from queuelet.errors import InvalidArgument


class Tag(NamedTuple):
    """A key and a value. A key may have several values in one set of tags."""

    key: str
    value: str


Tags = tuple[Tag, ...]
"""A set of tags: no duplicates, in the order in which they were first given."""


def checked_tags(tags: Iterable[Tag], bounds: Bounds, field: str = "tags") -> Tags:
    """Return the tags as a set, or raise `InvalidArgument` naming the tag that is out of bounds."""
    unique = tuple(dict.fromkeys(tags))
    for tag in unique:
        if not tag.key:
            raise InvalidArgument(f"{field}: a tag has no key; give each tag a key", field=field)
        if len(tag.key.encode()) > bounds.tag_key_bytes:
            raise InvalidArgument(
                f"{field}: the key {tag.key[:40]!r}... is too long; keep keys within {bounds.tag_key_bytes} bytes",
                field=field,
            )
        if len(tag.value.encode()) > bounds.tag_value_bytes:
            raise InvalidArgument(
                f"{field}: the value of {tag.key!r} is too long; keep values within {bounds.tag_value_bytes} bytes",
                field=field,
            )
    return unique
