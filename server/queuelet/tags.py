"""Tags: pairs of key and value on queues and messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from queuelet.bounds import Bounds
from queuelet.errors import InvalidArgument


class Tag(NamedTuple):
    """A key and a value. The same key may occur several times with different values."""

    key: str
    value: str


Tags = tuple[Tag, ...]
"""Tags without duplicates, in the order of their first occurrence."""


def checked_tags(tags: Iterable[Tag], bounds: Bounds, field: str = "tags") -> Tags:
    """Return the tags without duplicates.

    Args:
        tags: the tags to check.
        bounds: the limits on the sizes of keys and values.
        field: the field of the request, for the error text.

    Raises:
        InvalidArgument: a tag has no key, or its key or value is too long; the text names the tag.
    """
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
