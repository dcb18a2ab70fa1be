"""The server's queues as the watch and responses of calls reported them. Definitions and counts come apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from queuelet.values import QueueChanges
from queuelet_operator.plan.observed import ObservedQueue, observed_queue


class QueueCache:
    """The named queues of a server."""

    def __init__(self) -> None:
        self.by_name: dict[str, ObservedQueue] = {}
        """The queues by name."""
        self._names: dict[str, str] = {}
        """The names of the queues by ID, because counts have no name."""

    def observe(self, queue: ObservedQueue) -> None:
        """Store a queue, unless a newer revision is known. After a loss of its store, revisions may be lower."""
        name = queue.definition.name
        known = self.by_name.get(name)
        is_same = known is not None and (known.id, known.epoch) == (queue.id, queue.epoch)
        if known is not None and is_same and known.revision > queue.revision:
            return
        self.forget(name)
        self.by_name[name] = queue
        self._names[queue.id] = name

    def forget(self, name: str) -> None:
        """Delete a queue."""
        known = self.by_name.pop(name, None)
        if known is not None:
            del self._names[known.id]

    def apply(self, changes: QueueChanges) -> Iterator[str]:
        """Apply a batch of the watch, and yield the name of each queue that it changed."""
        for gone in changes.removed:
            known = self.by_name.get(gone.name)
            if known and known.id == gone.id:
                self.forget(gone.name)
                yield gone.name
        for queue in changes.queues:
            if queue.name:
                self.observe(observed_queue(queue))
                yield queue.name
        for counts in changes.counts:
            name = self._names.get(counts.id)
            # Totals change more often than counts, and nothing depends on them.
            if name is not None and self.by_name[name].counts != counts.messages:
                self.by_name[name] = replace(self.by_name[name], counts=counts.messages)
                yield name
