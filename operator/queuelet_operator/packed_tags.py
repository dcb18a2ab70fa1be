"""Tags in few bytes. The operator holds the tags of every Queue in memory, and mostly compares them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from hashlib import sha256
from weakref import WeakValueDictionary

from queuelet.tags import Tag


class PackedTags:
    """A set of tags as UTF-8. Equal sets are one object, so a Queue and its queue on the server share their tags.

    A tuple of tags would take several times the memory, because each `str` has an overhead, and a single character
    outside the Basic Multilingual Plane makes a `str` four times as large.
    """

    __slots__ = ("__weakref__", "_count", "_packed")

    _packed: bytes
    _count: int

    def __new__(cls, tags: Iterable[Tag] = ()) -> PackedTags:  # noqa: PYI034  # it has no subclasses
        """Return the one object for this set of tags, and create it if there is none."""
        unique = sorted(set(tags))
        packed = json.dumps(unique, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
        digest = sha256(packed).digest()
        known = _known.get(digest)
        if known is None:
            known = super().__new__(cls)
            known._packed = packed
            known._count = len(unique)
            _known[digest] = known
        return known

    def __iter__(self) -> Iterator[Tag]:
        return (Tag(key, value) for key, value in json.loads(self._packed.decode("utf-8", "surrogatepass")))

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"PackedTags({list(self)!r})"

    @property
    def hash(self) -> str:
        """A hash of the tags that does not depend on their order or on the process."""
        return sha256(self._packed).hexdigest()[:16]


_known: WeakValueDictionary[bytes, PackedTags] = WeakValueDictionary()
"""The sets in use, by the digest of their bytes."""
