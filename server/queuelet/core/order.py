"""The order in which the ready messages of a queue leave it: by priority, then since when they are due, then by number.

Most messages stand in the store's line, where the order is that of their numbers. The others have a rank, and are
merged in where they belong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import merge

from sortedcontainers import SortedList

from queuelet.core.storage import Messages
from queuelet.core.stored_form import created_of

RANK_OVERHEAD = 400
"""What the rank of a message takes beside the message, in bytes.

Measured are 320 with a priority, and 530 with a delay and a time to live of its own.
"""

_Few = Callable[[int, int], tuple[list[int], list[bytes]]]

_ALL = 1 << 62
"""More bytes than any batch has."""


class ReadyOrder:
    """The ready messages of a queue in their order."""

    __slots__ = ("_messages", "ranked")

    def __init__(self, messages: Messages) -> None:
        """Take the messages, whose line is ready."""
        self._messages = messages
        self.ranked: SortedList[tuple[int, int, int]] = SortedList()
        """Priority, due time and number of the ready messages that have a rank."""

    def put(self, seq: int) -> None:
        """Make a message ready that has a rank, or that was lifted out of the line."""
        rank = self._messages.ranks.get(seq)
        if rank is None:
            self._messages.return_to_line(seq)
        else:
            self.ranked.add((rank.priority, rank.due, seq))

    def drop(self, seq: int) -> None:
        """Take out a message that is not to be ready any more, or that is gone; the line does so by itself."""
        rank = self._messages.ranks.get(seq)
        if rank is not None:
            self.ranked.discard((rank.priority, rank.due, seq))

    def first_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        """Return the first few: at most `count`, together within `max_bytes` but one at least."""
        if not self._messages.ranks or not self.ranked:
            return self._messages.first_many(count, max_bytes)
        in_line = zip(*self._messages.first_many(count, max_bytes), strict=True)
        ordered = merge(
            (((0, created_of(body), seq), body) for seq, body in in_line),
            self._beside(count),
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
        """Return the first few, and take them out of the order. They stay stored."""
        if not self._messages.ranks or not self.ranked:
            return self._messages.checkout_many(count, max_bytes)
        return self._out(self._messages.checkout_many, count, max_bytes)

    def take_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        """Remove and return the first few. Their ranks are the caller's to remove."""
        if not self._messages.ranks or not self.ranked:
            return self._messages.take_many(count, max_bytes)
        seqs, bodies = self._out(self._messages.take_many, count, max_bytes)
        for seq in seqs:
            if seq in self._messages.ranks:
                self._messages.discard(seq)
        return seqs, bodies

    def clear(self) -> None:
        """Forget all."""
        self.ranked.clear()

    def _beside(self, count: int) -> Iterator[tuple[tuple[int, int, int], bytes]]:
        """Yield the first few of those with a rank. Damaged ones are set aside as they are read, and leave `ranked`."""
        start = 0
        while start < count:
            keys = list(self.ranked.islice(start, count))
            if not keys:
                return
            for key in keys:
                body = self._messages.get(key[2])
                if body is None:
                    break
                start += 1
                yield key, body

    def _out(self, take: _Few, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        """Return the first few, taken from the line by `take`, and out of those with a rank."""
        seqs, bodies = self.first_many(count, max_bytes)
        beside = [seq for seq in seqs if seq in self._messages.ranks]
        for seq in beside:
            self.drop(seq)
        if len(beside) < len(seqs):
            take(len(seqs) - len(beside), _ALL)
        return seqs, bodies
