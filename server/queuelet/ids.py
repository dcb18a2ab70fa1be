"""Ids of queues and messages, and names of queues."""

from __future__ import annotations

import re
import secrets
from uuid import UUID, uuid4

from queuelet.bounds import Bounds
from queuelet.errors import InvalidArgument

_UUID = re.compile(r"(urn:uuid:)?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})", re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


def parse_uuid(text: str) -> str | None:
    """Return the UUID in its canonical form, or None if the text is not one.

    Accepted are the two forms of negz/q's parser: 36 characters, and the same after `urn:uuid:`.
    """
    match = _UUID.fullmatch(text)
    return match[2].lower() if match else None


def why_not_uuid(text: str) -> str:
    """Say why a text is not a UUID, in the words of negz/q's parser (Q14)."""
    length = len(text.encode())
    if length == len("urn:uuid:") + 36:
        prefix = text.encode()[:9].decode(errors="replace")
        return f"invalid urn prefix: {_quoted(prefix)}" if prefix.lower() != "urn:uuid:" else "invalid UUID format"
    return "invalid UUID format" if length == 36 else f"invalid UUID length: {length}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def new_uuid() -> str:
    """Make a random UUID."""
    return str(uuid4())


def checked_name(name: str, bounds: Bounds, field: str = "name") -> str:
    """Return the name, or raise `InvalidArgument` with the rule it breaks."""
    if len(name) > bounds.name_length:
        raise InvalidArgument(
            f"{field}: {len(name)} characters are too many; use at most {bounds.name_length}", field=field
        )
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{field}: {name[:80]!r} is not a name; use lower-case letters, digits, '-' and '.', "
            "and begin and end with a letter or digit",
            field=field,
        )
    if parse_uuid(name):
        raise InvalidArgument(f"{field}: {name!r} reads as a UUID; names must not look like ids", field=field)
    return name


def new_id_prefix() -> bytes:
    """Make what the ids of one queue's messages begin with: 24 letters of a random UUID."""
    return str(UUID(bytes=secrets.token_bytes(16), version=4))[:24].encode()


class MessageIds:
    """The ids that the server makes for one queue's messages.

    An id is a random prefix of the queue's own, then the sequence number. It is a valid random UUID by its bits, and
    costs a format instead of a system call; the number can be read back, so only producers' ids need an index. Ids of
    messages are kept as ASCII bytes.
    """

    __slots__ = ("_prefix", "form")

    def __init__(self, prefix: bytes) -> None:
        """Take the queue's prefix, of 24 bytes."""
        self._prefix = prefix
        self.form = prefix + b"%012x"
        """What makes the id of a sequence number, by `%`."""

    def made(self, seq: int) -> bytes:
        """Return the id that is made for a sequence number."""
        return self.form % seq

    def seq_of(self, message_id: bytes) -> int | None:
        """Return the sequence number for which an id is made, None if it is not made here."""
        return int(message_id[24:], 16) if message_id.startswith(self._prefix) else None
