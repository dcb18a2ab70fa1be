"""Ids that a producer gives its messages, so that a message sent twice is queued once."""

from __future__ import annotations

import secrets
from uuid import UUID


class MessageIdMaker:
    """Makes ids: a random prefix of its own, and a counter. Each is a valid random UUID by its bits."""

    __slots__ = ("_count", "_prefix")

    def __init__(self) -> None:
        """Begin with a prefix that nobody else has."""
        self._prefix = str(UUID(bytes=secrets.token_bytes(16), version=4))[:24]
        self._count = secrets.randbits(46)

    def next_id(self) -> str:
        """Return an id that was not given before."""
        self._count += 1
        return f"{self._prefix}{self._count:012x}"
