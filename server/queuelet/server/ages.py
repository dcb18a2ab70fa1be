"""How old the first message and the oldest lease of a queue are, for metrics and statistics."""

from __future__ import annotations

from queuelet.core.queue import Queue
from queuelet.core.storage import NotLoaded
from queuelet.core.stored_form import created_of
from queuelet.errors import StoreFailed


def oldest_ready_age(queue: Queue, now: int) -> float | None:
    """Return the age of the first ready message in seconds; None if there is none, or it cannot be read now."""
    try:
        first = queue.peek_batch(1, 0, now)
    except (StoreFailed, NotLoaded):
        return None
    return max(0, now - created_of(first[0])) / 1e9 if first else None


def oldest_lease_age(queue: Queue, now: int) -> float | None:
    """Return the age of the oldest lease in seconds; None if there is none."""
    began = queue.oldest_lease
    return max(0, now - began) / 1e9 if began else None
