"""How large things may be: one place for every bound that a request is held to."""

from __future__ import annotations

from dataclasses import dataclass, replace

UNBOUNDED = -1
"""The limit of a queue that may hold any number of messages (negz/q's rule)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """The bounds a server holds its clients to. Sizes are in bytes."""

    message_bytes: int = 4 * 1024 * 1024
    """The largest request or reply. The default is what gRPC clients accept unless told otherwise."""

    batch: int = 10_000
    """The most items in one batch, of messages or of queues."""

    queues: int = 100_000
    """The most queues in the server."""

    waiting: int = 1_000
    """The most calls that may wait on one queue, for room or for a message."""

    waiting_per_peer: int = 500
    """The most calls from one address that may wait on one queue."""

    tags: int = 64
    """The most tags on one queue or message."""

    tag_key_bytes: int = 256
    """The longest key of a tag."""

    tag_value_bytes: int = 4_096
    """The longest value of a tag."""

    name_length: int = 317
    """The longest name: a namespace (63), a dot, and an object's name (253)."""

    scan: int = 10_000
    """The most messages looked through for one page of browse."""

    long_work_share: float = 0.8
    """The part of the time that all long work may take together, from above 0 to 1."""

    connections: int = 4_000
    """The most connections to the gRPC port."""

    streams: int = 1_000
    """The most calls at a time on one connection."""

    request_seconds: float = 30.0
    """How long a request may take to arrive whole."""

    http_connections: int = 256
    """The most connections to the HTTP port."""

    http_seconds: float = 10.0
    """How long a connection to the HTTP port may take to send a whole request, or to read more of a response."""

    incoming_bytes: int = 0
    """About how many bytes of requests that are not complete yet all connections together may hold.

    0 for an eighth of the memory that the process may use.
    """


OWN_FILES = 100
"""Files that the server keeps for itself: some 30 are in use, and accepted connections are closed a moment later."""

_HTTP_SHARE = 8
"""If not all fit, one of so many connections is for the HTTP port."""


def fitting(bounds: Bounds, files: int) -> Bounds:
    """Return the bounds with as many connections as a process can have that may open so many files.

    Without files left, neither port could accept a connection, and the Disk store could not open its own.

    Raises:
        ValueError: the files do not even do for a few connections.
    """
    left = files - OWN_FILES
    if bounds.connections + bounds.http_connections <= left:
        return bounds
    http_connections = min(bounds.http_connections, max(left // _HTTP_SHARE, left - bounds.connections))
    if http_connections < 1:
        raise ValueError(
            f"open files: this process may have only {files:,}; let it have {OWN_FILES + _HTTP_SHARE:,} at least, "
            "by ulimit -n or the like"
        )
    connections = min(bounds.connections, left - http_connections)
    return replace(bounds, connections=connections, http_connections=http_connections)
