"""A queue, as far as its parts need to know it."""

from __future__ import annotations

from typing import Protocol

from queuelet.definition import Counts, QueueDefinition


class Host(Protocol):
    """The queue to which a part belongs."""

    id: str
    definition: QueueDefinition
    next_event: int

    @property
    def label(self) -> str:
        """The name of the queue, or its ID."""

    @property
    def counts(self) -> Counts:
        """The number of messages in each state."""

    def set_alarm(self, at: int) -> None:
        """Call `advance` at this time, or earlier."""
