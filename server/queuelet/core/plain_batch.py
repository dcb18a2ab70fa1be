"""Batches of plain messages: messages with a payload and nothing else, as nearly all messages are.

Parsing, checking and storing a single message takes three microseconds, which is most of the cost of a batch. A plain
batch shares that work and needs no object per message, because messages of the same size start with the same bytes on
the wire and in the store. `server/plain_request.py` parses such requests, and has to change if the numbers of
`AddBatchRequest.messages` or `NewMessage.payload` in queue.proto change. A property test compares it with the generated
classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from queuelet.core.stored_form import NewMessage, stored_plain
from queuelet.ids import MessageIds


class PlainBatch(Sequence[NewMessage]):
    """Messages that have a payload and nothing else."""

    __slots__ = ("_payloads",)

    def __init__(self, payloads: list[bytes]) -> None:
        self._payloads = payloads

    def __len__(self) -> int:
        """Return the number of messages."""
        return len(self._payloads)

    @overload
    def __getitem__(self, place: int) -> NewMessage: ...

    @overload
    def __getitem__(self, place: slice) -> PlainBatch: ...

    def __getitem__(self, place: int | slice) -> NewMessage | PlainBatch:
        """Return one message as a `NewMessage`, or a slice as a plain batch."""
        if isinstance(place, slice):
            return PlainBatch(self._payloads[place])
        return NewMessage(self._payloads[place])

    @property
    def size(self) -> int:
        """The maximum number of bytes that the messages take when they are stored."""
        return sum(map(len, self._payloads)) + len(self) * NewMessage(b"").size

    @property
    def largest(self) -> int:
        """The maximum number of bytes that any one message takes when it is stored."""
        return max(map(len, self._payloads), default=0) + NewMessage(b"").size

    def stored(self, ids: MessageIds, first: int, created: int) -> list[bytes]:
        """Return the messages in their stored form, with the IDs of the sequence numbers from `first` on."""
        return stored_plain(self._payloads, ids, first, created)
