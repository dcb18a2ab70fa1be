"""Settings of producers, consumers and messages, as types for `**options`.

`Producer`, `Consumer` and `Producer.put` document their meaning, units and defaults.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import Enum
from typing import TypedDict

from queuelet.client.validation import Seconds
from queuelet.tags import Tag


class MessageOptions(TypedDict, total=False):
    """Settings of a message."""

    tags: Iterable[Tag]
    message_id: str
    priority: int
    delay: Seconds
    not_before: datetime | None
    ttl: Seconds


class PutOptions(MessageOptions, total=False):
    """Settings of a put."""

    timeout: Seconds | None


class ProducerOptions(TypedDict, total=False):
    """Settings of a `Producer`."""

    batch_messages: int
    batch_bytes: int
    linger: Seconds
    buffer_messages: int
    buffer_bytes: int
    wait_for_room: bool
    timeout: Seconds | None
    close_timeout: Seconds | None
    missing_for: Seconds


class OnError(Enum):
    """What happens to a message whose handler raises an exception."""

    REQUEUE = "requeue"
    """It returns to its place in the queue, and is dead-lettered after the queue's maximum number of deliveries."""

    DEAD_LETTER = "dead-letter"
    """It is dead-lettered at once."""

    DROP = "drop"
    """It is removed from the queue."""


class ConsumerOptions(TypedDict, total=False):
    """Settings of a `Consumer`."""

    concurrency: int
    prefetch: int | None
    prefetch_bytes: int
    prefetch_seconds: Seconds | None
    lease: Seconds
    exclusive: bool
    name: str
    on_error: OnError
    retry_delay: Seconds
    max_messages: int | None
    until_empty: bool
    close_timeout: Seconds | None
    reach_for: Seconds | None
    missing_for: Seconds
    heartbeat: Seconds
