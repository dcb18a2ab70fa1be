"""IDs of queues and messages, and names of queues."""

from __future__ import annotations

import re
import secrets
from uuid import UUID, uuid4

from queuelet.bounds import Bounds
from queuelet.errors import InvalidArgument

_UUID = re.compile(r"(urn:uuid:)?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})", re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


def parse_uuid(text: str) -> str | None:
    """Return the UUID in its canonical form, or None if the text is not a UUID.

    It accepts the two forms that negz/q's parser accepts: 36 characters, and the same after `urn:uuid:`.
    """
    match = _UUID.fullmatch(text)
    return match[2].lower() if match else None


def why_not_uuid(text: str) -> str:
    """Return why a text is not a UUID, in the words of negz/q's parser (docs/compatibility.md, Q14)."""
    length = len(text.encode())
    if length == len("urn:uuid:") + 36:
        prefix = text.encode()[:9].decode(errors="replace")
        return f"invalid urn prefix: {_quoted(prefix)}" if prefix.lower() != "urn:uuid:" else "invalid UUID format"
    return "invalid UUID format" if length == 36 else f"invalid UUID length: {length}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def new_uuid() -> str:
    """Return a random UUID."""
    return str(uuid4())


def checked_name(name: str, bounds: Bounds, field: str = "name") -> str:
    """Return the name if it is valid; raise `InvalidArgument` otherwise."""
    if len(name) > bounds.name_length:
        raise InvalidArgument(
            f"{field}: {len(name)} characters are too many; use at most {bounds.name_length}", field=field
        )
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{field}: {name[:80]!r} is not a valid name; use lower-case letters, digits, '-' and '.', "
            "and begin and end with a letter or digit",
            field=field,
        )
    if parse_uuid(name):
        raise InvalidArgument(f"{field}: {name!r} looks like a UUID; use a name that is not one", field=field)
    return name


def new_id_prefix() -> bytes:
    """Return a random prefix for the IDs of one queue's messages: the first 24 characters of a UUID."""
    return str(UUID(bytes=secrets.token_bytes(16), version=4))[:24].encode()


class MessageIds:
    """Makes the IDs of one queue's messages.

    An ID is the queue's random prefix followed by the sequence number in hexadecimal. The result has the form of a
    random UUID, and making it takes a format operation instead of a system call. The sequence number can be parsed from
    the ID, so only the IDs that producers choose need an index. IDs of messages are stored as ASCII bytes.
    """

    __slots__ = ("_prefix", "form")

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self.form = prefix + b"%012x"
        """The format of an ID: `form % seq`."""

    def made(self, seq: int) -> bytes:
        """Return the ID that the server makes for a sequence number."""
        return self.form % seq

    def seq_of(self, message_id: bytes) -> int | None:
        """Return the sequence number in an ID; None if the ID does not have this queue's prefix."""
        return int(message_id[24:], 16) if message_id.startswith(self._prefix) else None
