"""What a durable store loads when it is opened. Bodies are not loaded; they are read when they are needed."""

from __future__ import annotations

from dataclasses import dataclass, field

from queuelet.clock import Mark
from queuelet.core.message import DeliveryRecord, Rank, Tally
from queuelet.stores.durable.rows import QueueRecord

TOKENS = 1 << 40
"""How many lease tokens each opening reserves. No token is issued twice as long as one process issues no more."""

MAX_TOKEN = 1 << 62
"""The highest valid value of the first free token: half of all tokens."""

SKIPPED = 1 << 20
"""Sequence numbers that each opening skips: more than a process can have assigned without committing them."""


@dataclass(kw_only=True, slots=True)
class LoadedQueue:
    """The loaded state of one queue."""

    record: QueueRecord
    count: int
    stored_bytes: int
    tally: Tally
    has_own_ids: bool
    written: int
    """When it was last written, in ns of the store's clock."""
    first: int = 1
    """No message in line has a lower sequence number than this one."""
    ranks: dict[int, Rank] = field(default_factory=dict)
    deliveries: dict[int, DeliveryRecord] = field(default_factory=dict)
    responses: dict[bytes, int] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    """The sizes in bytes of messages that are not in line, as far as they were read."""
    damaged: set[int] = field(default_factory=set)
    """Messages that were set aside before."""
    unsound: dict[int, str] = field(default_factory=dict)
    """Messages to set aside because their rank or delivery is damaged, with the reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedStore:
    """The loaded state of a store."""

    epoch: str
    first_token: int
    """The first lease token to issue."""
    clock: Mark
    """The store's clock, to which the stored times refer; it continues from there."""
    highest_first_seq: int
    """The highest sequence number with which an opening started."""
    queues: list[LoadedQueue]
    """In order of creation."""
    dropped: list[int]
    """Numbers of dropped queues, whose rows are still to be deleted."""
    damaged_responses: int
    """How many saved responses are left out because they are damaged."""
