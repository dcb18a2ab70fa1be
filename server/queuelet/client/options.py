"""What may be chosen of producers, of consumers and of each message.

Meanings, units and defaults are told where it ends up: by `Producer`, `Consumer` and `Producer.put`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import Enum
from typing import TypedDict

from queuelet.client.validation import Seconds
from queuelet.tags import Tag


class MessageOptions(TypedDict, total=False):
    """What may be chosen of a message."""

    tags: Iterable[Tag]
    message_id: str
    priority: int
    delay: Seconds
    not_before: datetime | None
    ttl: Seconds


class PutOptions(MessageOptions, total=False):
    """What may be chosen of a put."""

    timeout: Seconds | None


class ProducerOptions(TypedDict, total=False):
    """What may be chosen of a `Producer`."""

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
    """What becomes of a message whose handler raises."""

    REQUEUE = "requeue"
    """It goes back to its place, and is dead when it was tried as often as its queue allows."""

    DEAD_LETTER = "dead-letter"
    """It is dead at once, and stays with its queue's dead letters."""

    DROP = "drop"
    """It is gone."""


class ConsumerOptions(TypedDict, total=False):
    """What may be chosen of a `Consumer`."""

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
