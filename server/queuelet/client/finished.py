"""Messages that this process has finished although the server refused their acknowledgement."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from time import monotonic

from queuelet.client.messages import Delivery

_MAX_REMEMBERED = 10_000
"""The largest number of messages to remember. The oldest are forgotten first."""

_REMEMBERED_FOR = 600.0
"""How long to remember a message, in seconds. A later redrive is meant to have it handled again."""


class Finished:
    """Messages whose work succeeded but whose acknowledgement was refused because their lease had expired.

    If such a message is delivered to this process again, it is acknowledged with the new token instead of handled.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[datetime, float]] = {}
        """When each message was added, to distinguish it from a later one with its ID, and when it was noted."""

    def __bool__(self) -> bool:
        return bool(self._known)

    def note(self, delivery: Delivery) -> None:
        """Remember a message."""
        message = delivery.message
        self._known.pop(message.id, None)
        self._known[message.id] = (message.created, monotonic())
        if len(self._known) > _MAX_REMEMBERED:
            del self._known[next(iter(self._known))]

    def among(self, deliveries: Iterable[Delivery], unsettled: Iterable[object]) -> set[int]:
        """Return the tokens of deliveries whose message is finished, or was acknowledged under an older token."""
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
