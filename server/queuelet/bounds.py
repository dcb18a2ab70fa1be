"""The limits that an administrator can set, on sizes, counts and times; `limits.py` has the fixed ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

UNBOUNDED = -1
"""The limit of a queue that has none, as in negz/q."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """The limits that a server enforces on its clients. Sizes are in bytes."""

    message_bytes: int = 4 * 1024 * 1024
    """The largest request or response. The default is what gRPC clients accept unless configured otherwise."""

    batch: int = 10_000
    """The maximum number of messages or queues in one batch."""

    queues: int = 100_000
    """The maximum number of queues in the server."""

    waiting: int = 1_000
    """The maximum number of calls that wait on one queue, for room or for a message."""

    waiting_per_peer: int = 500
    """The maximum number of calls from one address that wait on one queue."""

    tags: int = 64
    """The maximum number of tags on one queue or message."""

    tag_key_bytes: int = 256
    """The longest key of a tag, in bytes of UTF-8."""

    tag_value_bytes: int = 4_096
    """The longest value of a tag, in bytes of UTF-8."""

    name_length: int = 317
    """The longest name of a queue, in characters: a namespace (63), a dot, and an object's name (253)."""

    scan: int = 10_000
    """The maximum number of messages that are read for one page of Browse."""

    scan_bytes: int = 64 * 1024 * 1024
    """About the maximum number of bytes of messages that are read for one page of Browse."""

    contains_bytes: int = 256
    """The longest text that Browse searches payloads for, in bytes of UTF-8."""

    long_work_share: float = 0.8
    """The share of the event loop's time that all long work may use together; above 0, at most 1."""

    connections: int = 4_000
    """The maximum number of connections to the gRPC port."""

    streams: int = 1_000
    """The maximum number of concurrent calls on one connection."""

    request_seconds: float = 30.0
    """The time in which a request has to arrive completely."""

    http_connections: int = 256
    """The maximum number of connections to the HTTP port with metrics and health."""

    gateway_connections: int = 1_000
    """The maximum number of connections to the gateway, the HTTP port with the REST API."""

    http_seconds: float = 10.0
    """The time in which a client of an HTTP port has to send a complete request, or to read more of a response."""

    history_bytes: int = 32 * 1024 * 1024
    """The maximum memory for the histories of all queues; 0 for no histories."""

    incoming_bytes: int = 0
    """The approximate number of bytes of incomplete requests that all connections together may buffer.

    0 means an eighth of the memory that the process may use.
    """


OWN_FILES = 100
"""Open files reserved for the server itself: it uses about 30, and connections over the limit are open for a moment."""

_HTTP_SHARE = 8
"""If the connections do not all fit, at least one in this many is for each HTTP port, if that may have so many."""


def fitting(bounds: Bounds, files: int) -> Bounds:
    """Return the bounds with no more connections than the open-file limit of the process allows.

    If the process ran out of files, no port could accept a connection and the Disk store could not open its own.

    Args:
        bounds: the bounds as configured.
        files: how many files the process may have open.

    Raises:
        ValueError: the limit is too low for even a few connections.
    """
    left = files - OWN_FILES
    if bounds.connections + bounds.http_connections + bounds.gateway_connections <= left:
        return bounds
    if left < _HTTP_SHARE:
        raise ValueError(
            f"open files: the limit of this process is {files:,}; raise it to at least {OWN_FILES + _HTTP_SHARE:,}, "
            "for example with ulimit -n"
        )
    share = left // _HTTP_SHARE
    http = min(bounds.http_connections, share)
    gateway = min(bounds.gateway_connections, share)
    connections = min(bounds.connections, left - http - gateway)
    http = min(bounds.http_connections, left - connections - gateway)
    gateway = min(bounds.gateway_connections, left - connections - http)
    return replace(bounds, connections=connections, http_connections=http, gateway_connections=gateway)
