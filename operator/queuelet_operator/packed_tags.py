"""Tags in few bytes: the operator keeps those of every Queue, and only looks whether two sets are equal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from hashlib import sha256
from weakref import WeakValueDictionary

from queuelet.tags import Tag


class PackedTags:
    """A set of tags as UTF-8. Equal sets are one object, so those of a Queue and of its queue take their bytes once.

    A tuple of tags takes several times as much: each text has an overhead, and one character beyond Latin makes a text
    four times as long.
    """

    __slots__ = ("__weakref__", "_count", "_packed")

    _packed: bytes
    _count: int

    def __new__(cls, tags: Iterable[Tag] = ()) -> PackedTags:  # noqa: PYI034  # it has no subclasses
        """Return these tags, whatever their order."""
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
        """Unpack them, sorted."""
        return (Tag(key, value) for key, value in json.loads(self._packed.decode("utf-8", "surrogatepass")))

    def __len__(self) -> int:
        """Return how many there are."""
        return self._count

    def __repr__(self) -> str:
        """As they are made."""
        return f"PackedTags({list(self)!r})"

    @property
    def hash(self) -> str:
        """A hash that is the same in every process and for every order."""
        return sha256(self._packed).hexdigest()[:16]


_known: WeakValueDictionary[bytes, PackedTags] = WeakValueDictionary()
"""Those that are in use, by a digest of their bytes."""
