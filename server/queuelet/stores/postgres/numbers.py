"""The numbers and ordinals of queues that each shard has for itself, because all shards share the tables."""

from __future__ import annotations

from queuelet.stores.durable.places import MAX_NUMBER, end_place, first_place

MAX_SHARDS = 256
"""The most shards: each still has 32,767 queues."""

_ORDINAL_BITS = 40


def numbers_of(shard: int, count: int) -> range:
    """Return the numbers that a shard gives to its queues, if there are `count` shards."""
    each = MAX_NUMBER // count
    return range(1 + shard * each, 1 + (shard + 1) * each)


def ordinals_of(shard: int) -> range:
    """Return the ordinals that a shard gives to its queues."""
    return range((shard << _ORDINAL_BITS) + 1, (shard + 1) << _ORDINAL_BITS)


def places_of(shard: int, count: int) -> tuple[int, int]:
    """Return the first and the last place that a message of a shard can have, if there are `count` shards."""
    numbers = numbers_of(shard, count)
    return first_place(numbers.start), end_place(numbers.stop - 1) - 1
