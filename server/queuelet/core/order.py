"""The order in which ready messages are delivered: by priority, then by due time, then by sequence number.

Most messages are in the store's line, which is ordered by sequence number. Messages with a rank are sorted here and are
merged with the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import merge

from sortedcontainers import SortedList

from queuelet.core.storage import Messages
from queuelet.core.stored_form import created_of

RANK_OVERHEAD = 400
"""The memory that the rank of a message takes in addition to the message, in bytes.

Measured: 320 with a priority, and 530 with a delay and a time to live.
"""

_Few = Callable[[int, int], tuple[list[int], list[bytes]]]

_STEP = 100
"""How many messages with a rank are announced to the store at once."""

_ALL = 1 << 62
"""More bytes than any batch can have."""


class ReadyOrder:
    """The ready messages of a queue, in the order of delivery."""

    __slots__ = ("_messages", "ranked")

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self.ranked: SortedList[tuple[int, int, int]] = SortedList()
        """Priority, due time and sequence number of the ready messages with a rank."""

    def put(self, seq: int) -> None:
        """Add a message that became ready: one with a rank, or one that was checked out of the line."""
        rank = self._messages.ranks.get(seq)
        if rank is None:
            self._messages.return_to_line(seq)
        else:
            self.ranked.add((rank.priority, rank.due, seq))

    def drop(self, seq: int) -> None:
        """Remove a message that is no longer ready or stored. The store does this itself for messages in line."""
        rank = self._messages.ranks.get(seq)
        if rank is not None:
            self.ranked.discard((rank.priority, rank.due, seq))

    def first_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        """Return the first messages: at most `count`, and at most `max_bytes` together unless the first is larger."""
        if not self._messages.ranks or not self.ranked:
            return self._messages.first_many(count, max_bytes)
        in_line = zip(*self._messages.first_many(count, max_bytes), strict=True)
        ordered = merge(
            (((0, created_of(body), seq), body) for seq, body in in_line),
            self._first_ranked(count),
            key=lambda ranked: ranked[0],
        )
        seqs: list[int] = []
        bodies: list[bytes] = []
        size = 0
        for (_, _, seq), body in ordered:
            size += len(body)
            if len(seqs) == count or (size > max_bytes and seqs):
                break
            seqs.append(seq)
            bodies.append(body)
        return seqs, bodies

    def checkout_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        """Return the first messages and remove them from the order. They stay stored."""
        if not self._messages.ranks or not self.ranked:
            return self._messages.checkout_many(count, max_bytes)
        return self._out(self._messages.checkout_many, count, max_bytes)

    def take_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        """Remove and return the first messages. The caller removes their ranks."""
        if not self._messages.ranks or not self.ranked:
            return self._messages.take_many(count, max_bytes)
        seqs, bodies = self._out(self._messages.take_many, count, max_bytes)
        for seq in seqs:
            if seq in self._messages.ranks:
                self._messages.discard(seq)
        return seqs, bodies

    def clear(self) -> None:
        """Remove all messages from the order."""
        self.ranked.clear()

    def _first_ranked(self, count: int) -> Iterator[tuple[tuple[int, int, int], bytes]]:
        """Yield the first messages with a rank. Reading a damaged one sets it aside, which removes it from `ranked`."""
        start = 0
        while start < count:
            keys = list(self.ranked.islice(start, min(count, start + _STEP)))
            if not keys:
                return
            self._messages.require([key[2] for key in keys])
            for key in keys:
                body = self._messages.get(key[2])
                if body is None:
                    break
                start += 1
                yield key, body

    def _out(self, take: _Few, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        """Return the first messages, after removing them from `ranked`, or from the line with `take`."""
        seqs, bodies = self.first_many(count, max_bytes)
        ranked = [seq for seq in seqs if seq in self._messages.ranks]
        for seq in ranked:
            self.drop(seq)
        if len(ranked) < len(seqs):
            take(len(seqs) - len(ranked), _ALL)
        return seqs, bodies
