"""The Memory store: messages in this process, gone when it ends."""

from __future__ import annotations

from bisect import bisect_right
from uuid import uuid4

from queuelet.stores import Messages

_SLACK = 1_024
"""How many spent places the line may have before it is worth making it anew."""


class MemoryMessages:
    """The messages of one queue in a dict by sequence number, and the line: the numbers in order.

    Taking from the front moves `_head` along the line; discarding from the middle leaves a number whose message is
    gone. `_jumps` remembers where a run of such places ends, and once most of the line is spent it is made anew: each
    operation is O(1) amortised, `after` O(log n). Numbers and bytes are all that is kept a message, so the garbage
    collector has nothing to follow.
    """

    __slots__ = ("_bodies", "_head", "_jumps", "_line")

    def __init__(self) -> None:
        """Begin empty."""
        self._bodies: dict[int, bytes] = {}
        self._line: list[int] = []
        self._head = 0
        self._jumps: dict[int, int] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._bodies)

    def append(self, seq: int, body: bytes) -> None:
        """Keep a message at the end."""
        self._bodies[seq] = body
        self._line.append(seq)

    def take(self) -> tuple[int, bytes] | None:
        """Remove and return the first, None if there is none."""
        line, place = self._line, self._head
        if place == len(line):
            return None
        seq = line[place]
        body = self._bodies.pop(seq, None)
        if body is None:
            place = self._live(place)
            if place == len(line):
                return None
            seq = line[place]
            body = self._bodies.pop(seq)
        self._head = place + 1
        if place % _SLACK == 0:
            self._tidy()
        return seq, body

    def take_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        """Remove and return the first few."""
        seqs, bodies, self._head = self._first(count, max_bytes)
        for seq in seqs:
            del self._bodies[seq]
        self._tidy()
        return seqs, bodies

    def head(self, count: int, max_bytes: int) -> list[bytes]:
        """Return what `take_many` would, and leave it."""
        return self._first(count, max_bytes)[1]

    def get(self, seq: int) -> bytes | None:
        """Return the message of this sequence number, None if it is not here."""
        return self._bodies.get(seq)

    def discard(self, seq: int) -> bytes | None:
        """Remove and return the message of this sequence number, None if it is not here."""
        body = self._bodies.pop(seq, None)
        if body is not None:
            self._tidy()
        return body

    def after(self, seq: int, count: int) -> list[tuple[int, bytes]]:
        """Return up to `count` messages past a sequence number, which need not be here."""
        found: list[tuple[int, bytes]] = []
        place = self._live(bisect_right(self._line, seq, self._head))
        while place < len(self._line) and len(found) < count:
            seq = self._line[place]
            found.append((seq, self._bodies[seq]))
            place = self._live(place + 1)
        return found

    def clear(self) -> None:
        """Remove all."""
        self._bodies, self._line, self._head, self._jumps = {}, [], 0, {}

    def _first(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes], int]:
        """Return the first few, and the place in the line where they end."""
        seqs: list[int] = []
        bodies: list[bytes] = []
        line, get, end, size = self._line, self._bodies.get, len(self._line), 0
        place = self._live(self._head)
        while place < end and len(bodies) < count:
            seq = line[place]
            body = get(seq)
            if body is None:
                place = self._live(place)
                continue
            size += len(body)
            if size > max_bytes and bodies:
                break
            seqs.append(seq)
            bodies.append(body)
            place += 1
        return seqs, bodies, place

    def _live(self, place: int) -> int:
        """Return the first place from this one on whose message is here, or the line's end."""
        line, bodies, end = self._line, self._bodies, len(self._line)
        if place == end or line[place] in bodies:
            return place
        start = place
        while place < end and line[place] not in bodies:
            place = self._jumps.get(place, place + 1)
        if place < end:  # at the end new messages may come
            self._jumps[start] = place
        return place

    def _tidy(self) -> None:
        """Give back spent places once they are most of the line."""
        spent = len(self._line) - len(self._bodies)
        if spent > _SLACK and spent > len(self._bodies):
            self._line = [seq for seq in self._line[self._head :] if seq in self._bodies]
            self._bodies = dict(self._bodies)
            self._head, self._jumps = 0, {}


class MemoryStore:
    """A store that lives as long as the process."""

    def __init__(self, epoch: str | None = None) -> None:
        """Take an epoch, or make one."""
        self.epoch = epoch or str(uuid4())

    def messages(self) -> Messages:
        """Make room for the messages of one more queue."""
        return MemoryMessages()
