"""The metadata of calls between servers that share the queues of a database, and of their responses to clients."""

from __future__ import annotations

FORWARDED = "queuelet-forwarded"
"""The key of calls that a server passes on: the client's IP address, a space, and its address as gRPC writes it.

A server never forwards such a call again, so that there are no loops.
"""

SHARDS = "queuelet-shards"
"""The key of calls about the queues of some shards: their numbers, with commas. The server has to own all of them."""

OWNER = "queuelet-owner"
"""The key of trailing metadata with the address of the server that owns the queue, if it is not the one called."""
