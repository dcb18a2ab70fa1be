"""Which errors are worth a retry, and how long to back off."""

from __future__ import annotations

from queuelet.errors import (
    ClientSilent,
    DeadlineExceeded,
    MemoryExhausted,
    QueueFull,
    ServerDraining,
    ShardMoved,
    StoreFailed,
    StoreFull,
    TooMany,
    Unreachable,
)

UNAVAILABLE = (Unreachable, DeadlineExceeded, ServerDraining, ShardMoved, StoreFailed, ClientSilent)
"""The server is unreachable, starting, draining or reopening its store, or it ended the stream of a silent client.

A call that is not a stream had no effect if it ended with `ServerDraining` or `ShardMoved`. After `Unreachable`,
`DeadlineExceeded` and `StoreFailed` it may have had one. Requests on a stream may have had one whichever error ended
the stream.
"""

FULL = (QueueFull, MemoryExhausted, StoreFull, TooMany)
"""There is no room now. The call had no effect, and a retry may succeed later."""

BACKOFF = (0.1, 5.0)
"""The shortest and the longest backoff of calls and streams, in seconds: the arguments of a `Backoff`."""
