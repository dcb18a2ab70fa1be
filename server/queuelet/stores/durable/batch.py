"""The rows of one transaction. They are made on the event loop's thread, when a group of changes is sealed."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from queuelet.stores.durable.rows import DeliveryRow, QueueRow, RankRow, ResponseRow, TallyRow

MessageRow = tuple[int, bytes | None, bytes]


def _places() -> array[int]:
    return array("q")


@dataclass(kw_only=True, slots=True)
class Batch:
    """The changes of one transaction. Once it is made, only the writer uses it."""

    dropped_queues: list[int] = field(default_factory=list)
    """Ordinals of dropped queues."""
    dropped_numbers: list[int] = field(default_factory=list)
    """Queue numbers whose rows are to be deleted in the background."""
    queues: list[QueueRow] = field(default_factory=list)
    tallies: list[TallyRow] = field(default_factory=list)
    removed: array[int] = field(default_factory=_places)
    """Places of messages to delete."""
    messages: list[MessageRow] = field(default_factory=list)
    damaged: list[tuple[int, int, str]] = field(default_factory=list)
    """Places of damaged messages to set aside, with the time in ns at which the damage was found, and the reason."""
    deliveries: list[DeliveryRow] = field(default_factory=list)
    deliveries_gone: array[int] = field(default_factory=_places)
    ranks: list[RankRow] = field(default_factory=list)
    ranks_gone: array[int] = field(default_factory=_places)
    responses: list[ResponseRow] = field(default_factory=list)
    responses_gone: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def changes(self) -> int:
        """The number of messages that it adds or deletes."""
        return len(self.messages) + len(self.removed)
