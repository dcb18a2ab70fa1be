"""The fixed limits of requests: the server checks them, and the client and the commands know them.

`bounds.py` has the limits that an administrator can set.
"""

from __future__ import annotations

SECOND_NS = 1_000_000_000
"""A second in nanoseconds."""

END_OF_TIME = 7_258_118_400 * SECOND_NS
"""2200-01-01 in nanoseconds since 1970: not long after it, such times no longer fit into 64 bits."""

MAX_TIME_SECONDS = 3650 * 86_400
"""The longest wait, delay or time to live, in seconds: ten years."""

MAX_LEASE_SECONDS = 12 * 3_600
"""The longest lease, in seconds."""

MAX_DELIVERIES = 1_000
"""The largest number of deliveries after which a message is dead."""

MAX_COUNT = 1_000_000
"""The largest number of past deliveries of a message that is moved. It only keeps counters small."""

MIN_HEARTBEAT_SECONDS = 0.1
"""The shortest time between two heartbeats of a Consume stream, in seconds."""

MAX_HEARTBEAT_SECONDS = 3_600
"""The longest time between two heartbeats of a Consume stream, in seconds."""

MAX_CONSUMER_BYTES = 256
"""The longest name of a consumer, in bytes."""

MAX_REASON_BYTES = 1_024
"""The longest reason of a Nack, in bytes."""

MAX_REQUEST_ID_BYTES = 64
"""The longest request ID, in bytes."""

MAX_SELECTOR_CHARACTERS = 4_096
"""The longest selector, in characters."""

MAX_REQUIREMENTS = 64
"""The most requirements of a selector, because each is checked against the tags of every queue or message."""
