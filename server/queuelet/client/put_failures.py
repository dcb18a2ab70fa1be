"""Failed puts whose outcome the program has not awaited."""

from __future__ import annotations

from queuelet.client.errors import PutsFailed
from queuelet.client.pending_put import PendingPut
from queuelet.errors import QueueletError

_REMEMBERED = 1_000
"""How many failed puts to remember in case that the program awaits them later. Older ones count as unawaited."""

_REPORTED = 10
"""How many errors to report."""


class PutFailures:
    """Failed puts. `PutsFailed` reports those that the program never awaited."""

    def __init__(self) -> None:
        self._unawaited: list[tuple[PendingPut, QueueletError]] = []
        self._first: list[QueueletError] = []
        self._forgotten = 0

    def note(self, sent: PendingPut, error: QueueletError) -> None:
        """Remember a failed put, in case that the program never awaits it."""
        self._unawaited.append((sent, error))
        if len(self._unawaited) > _REMEMBERED:
            self._unawaited = [(each, why) for each, why in self._unawaited if not each.was_awaited]
            for _, why in self._unawaited[:-_REMEMBERED]:
                self._first = [*self._first, why][:_REPORTED]
                self._forgotten += 1
            del self._unawaited[:-_REMEMBERED]

    def raise_unawaited(self) -> None:
        """Raise `PutsFailed` if there are failed puts that the program has not awaited."""
        errors = [*self._first, *(error for sent, error in self._unawaited if not sent.was_awaited)]
        failed = self._forgotten + len(errors) - len(self._first)
        if failed:
            raise PutsFailed(errors[:_REPORTED], failed)
