"""Messages in a form that tests can read: the id, a bar, the payload."""

from __future__ import annotations

from typing import NamedTuple


class PlainDraft(NamedTuple):
    """A draft whose stored form says what it is."""

    payload: bytes
    own_id: bytes = b""

    @property
    def size(self) -> int:
        """Bytes, as the memory budget counts them."""
        return len(self.payload) + 37

    def stored(self, message_id: bytes, created: int) -> bytes:
        """Return id and payload."""
        return message_id + b"|" + self.payload


def payload_of(body: bytes) -> bytes:
    """Return the payload of a stored draft."""
    return body.partition(b"|")[2]


def id_of(body: bytes) -> bytes:
    """Return the id of a stored draft."""
    return body.partition(b"|")[0]
