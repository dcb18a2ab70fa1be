"""What became of puts that failed while nobody waited for them."""

from __future__ import annotations

from queuelet.client.errors import PutsFailed
from queuelet.client.pending_put import Sent
from queuelet.errors import QueueletError

_REMEMBERED = 1_000
"""How many failed messages are kept that nobody has asked after yet. Of more, the oldest count as never asked after."""

_TOLD = 10
"""How many errors are told together."""


class PutFailures:
    """Messages that were not put. Whoever waits for one knows; of the others somebody must be told."""

    def __init__(self) -> None:
        """Begin with none."""
        self._unasked: list[tuple[Sent, QueueletError]] = []
        self._first: list[QueueletError] = []
        self._forgotten = 0

    def note(self, sent: Sent, error: QueueletError) -> None:
        """Keep what became of a message, in case that nobody asks."""
        self._unasked.append((sent, error))
        if len(self._unasked) > _REMEMBERED:
            self._unasked = [(each, why) for each, why in self._unasked if not each.is_asked_after]
            for _, why in self._unasked[:-_REMEMBERED]:
                self._first = [*self._first, why][:_TOLD]
                self._forgotten += 1
            del self._unasked[:-_REMEMBERED]

    def tell(self) -> None:
        """Raise `PutsFailed` if there are messages that nobody asked after."""
        errors = [*self._first, *(error for sent, error in self._unasked if not sent.is_asked_after)]
        failed = self._forgotten + len(errors) - len(self._first)
        if failed:
            raise PutsFailed(errors[:_TOLD], failed)
