"""Places: the keys of stored messages.

A message's place is its queue's number and its sequence number in one integer, so the messages of a queue are adjacent
in their table, in the order in which they were added.
"""

from __future__ import annotations

SEQ_BITS = 40
"""The number of bits of a place that are the sequence number; the 23 bits above are the number of the queue."""

MAX_NUMBER = (1 << 63 - SEQ_BITS) - 1
"""The highest queue number. A number is reused once no rows are left under it."""


def first_place(number: int) -> int:
    """Return the place before all messages of a queue."""
    return number << SEQ_BITS


def end_place(number: int) -> int:
    """Return the place after all messages of a queue."""
    return number + 1 << SEQ_BITS
