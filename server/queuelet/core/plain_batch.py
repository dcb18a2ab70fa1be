"""Batches of plain messages: a payload each and nothing else, as nearly all are. They need no object for each.

To read, check and store a message by itself takes three microseconds, which is most of what a batch costs. What of it
is the same for all is done once here: messages of one size begin with the same bytes, on the wire and in the store.

Whoever changes the numbers of `AddBatchRequest.messages` or `NewMessage.payload` in queue.proto changes them here. A
property test holds what is read to what the generated classes read, whatever the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from queuelet.core.stored_form import NewMessage, stored_plain
from queuelet.ids import MessageIds


class PlainBatch(Sequence[NewMessage]):
    """Messages that have a payload and nothing else, in their order."""

    __slots__ = ("_payloads",)

    def __init__(self, payloads: list[bytes]) -> None:
        """Take the payloads."""
        self._payloads = payloads

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._payloads)

    @overload
    def __getitem__(self, place: int) -> NewMessage: ...

    @overload
    def __getitem__(self, place: slice) -> PlainBatch: ...

    def __getitem__(self, place: int | slice) -> NewMessage | PlainBatch:
        """Return one of them as others are, or some."""
        if isinstance(place, slice):
            return PlainBatch(self._payloads[place])
        return NewMessage(self._payloads[place])

    @property
    def size(self) -> int:
        """The most bytes that they take when they are stored."""
        return sum(map(len, self._payloads)) + len(self) * NewMessage(b"").size

    @property
    def largest(self) -> int:
        """The most bytes that any of them takes when it is stored."""
        return max(map(len, self._payloads), default=0) + NewMessage(b"").size

    def stored(self, ids: MessageIds, first: int, created: int) -> list[bytes]:
        """Return them in the form in which they are kept and answered, with ids of the numbers from `first` on."""
        return stored_plain(self._payloads, ids, first, created)
