"""What this process has finished, though the server did not take its word for it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from time import monotonic

from queuelet.client.messages import Delivery

_MOST = 10_000
"""How many messages are remembered at most. The oldest are forgotten first."""

_REMEMBERED_FOR = 600.0
"""How long a message is remembered, in seconds: whoever redrives it later wants it to be handled."""


class Finished:
    """Messages whose work ended well, and whose acknowledgement was refused because their lease was over.

    When such a message is delivered to this process again it is acknowledged with the new token instead of handled.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._known: dict[str, tuple[datetime, float]] = {}
        """When each message was added, which tells it from a later one of the same id; and when it was noted."""

    def __bool__(self) -> bool:
        """Whether any are known."""
        return bool(self._known)

    def note(self, delivery: Delivery) -> None:
        """Remember a message."""
        message = delivery.message
        self._known.pop(message.id, None)
        self._known[message.id] = (message.created, monotonic())
        if len(self._known) > _MOST:
            del self._known[next(iter(self._known))]

    def among(self, deliveries: Iterable[Delivery], unsettled: Iterable[object]) -> set[int]:
        """Return the tokens of those deliveries whose messages are finished, or acknowledged under an older token."""
        again = list(deliveries) if self._known else [each for each in deliveries if each.count > 1]
        if not again:
            return set()
        known = dict(self._known)
        now = monotonic()
        for each in unsettled:
            if isinstance(each, Delivery):
                known[each.message.id] = (each.message.created, now)
        return {each.token for each in again if _is_known(each, known, now)}


def _is_known(delivery: Delivery, known: dict[str, tuple[datetime, float]], now: float) -> bool:
    created, noted = known.get(delivery.message.id, (None, 0.0))
    return created == delivery.message.created and now - noted < _REMEMBERED_FOR
