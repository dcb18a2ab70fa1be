"""What may be chosen of producers, of consumers and of each message.

Meanings, units and defaults are told where it ends up: by `Producer`, `Consumer` and `Producer.put`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import Enum
from typing import TypedDict

from queuelet.tags import Tag


class MessageOptions(TypedDict, total=False):
    """What may be chosen of a message."""

    tags: Iterable[Tag]
    message_id: str
    priority: int
    delay: float
    not_before: datetime | None
    ttl: float


class PutOptions(MessageOptions, total=False):
    """What may be chosen of a put."""

    timeout: float | None


class ProducerOptions(TypedDict, total=False):
    """What may be chosen of a `Producer`."""

    batch_messages: int
    batch_bytes: int
    linger: float
    buffer_messages: int
    buffer_bytes: int
    wait_for_room: bool
    timeout: float | None
    close_timeout: float | None


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
    lease: float
    exclusive: bool
    name: str
    on_error: OnError
    retry_delay: float
    max_messages: int | None
    until_empty: bool
    close_timeout: float | None
    reach_for: float | None
    missing_for: float
