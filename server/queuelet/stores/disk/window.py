"""The part of a queue's line that is in memory, and the bound on all such parts together."""

from __future__ import annotations

from bisect import insort
from collections import deque

from queuelet.core.budget import MemoryBudget

OVERHEAD = 160
"""What a message in memory takes beyond its bytes, in bytes."""

_MOST = 4_096
"""How many messages of one queue are kept in memory, to be taken next."""

_MOST_BYTES = 4 * 1024 * 1024
"""How many bytes of one queue are, at about."""


class Windows:
    """Bounds what all lines together hold in memory, in bytes: who was filled longest ago gives up first."""

    def __init__(self, budget: MemoryBudget, most: int) -> None:
        """Take the budget to account to, and the bound."""
        self.budget = budget
        self.most = most
        self.used = 0
        self._filled: dict[Line, None] = {}

    def add(self, size: int) -> None:
        """Account for more, or for less."""
        self.used += size
        self.budget.used += size

    def has_room(self, size: int) -> bool:
        """Tell whether there is room for a message of this size."""
        return self.used + size + OVERHEAD <= self.most

    def make_room(self, line: Line, size: int) -> None:
        """Take from others what a line is about to hold, and note that it was filled last."""
        self._filled.pop(line, None)
        while self._filled and not self.has_room(size):
            next(iter(self._filled)).shed()
        self._filled[line] = None

    def forget(self, line: Line) -> None:
        """Note that a line holds nothing any more."""
        self._filled.pop(line, None)


class Line:
    """The messages that are next in line: all of the line up to a cursor, in order.

    What follows the cursor is on disk, or is not written yet. A message put back stands here without its body, and one
    that is struck off from the middle leaves its number behind, in `_struck`, until it comes up. The first is never
    struck.
    """

    __slots__ = ("_size", "_struck", "_windows", "bodies", "cursor", "seqs")

    def __init__(self, windows: Windows) -> None:
        """Begin before the first message."""
        self._windows = windows
        self.seqs: deque[int] = deque()
        self.bodies: dict[int, bytes] = {}
        self.cursor = 0
        """The messages in line up to this number are here."""
        self._struck: set[int] = set()
        self._size = 0

    def __len__(self) -> int:
        """Return how many messages are here."""
        return len(self.seqs) - len(self._struck)

    def has_room(self, size: int) -> bool:
        """Tell whether a message that is added now may stay in memory."""
        return len(self.seqs) < _MOST and self._size + size <= _MOST_BYTES and self._windows.has_room(size)

    def push(self, seq: int, body: bytes) -> None:
        """Put the message that follows the cursor here."""
        if not self.bodies:
            self._windows.make_room(self, len(body))
        self.seqs.append(seq)
        self.bodies[seq] = body
        self.cursor = seq
        self._account(len(body) + OVERHEAD)

    def first(self, count: int) -> list[int]:
        """Return the numbers of the first few."""
        found: list[int] = []
        for seq in self.seqs:
            if len(found) >= count:
                break
            if seq not in self._struck:
                found.append(seq)
        return found

    def leave(self, seqs: list[int]) -> None:
        """Take the first few out: what `first` returned, or the beginning of it."""
        size = 0
        for seq in seqs:
            while (first := self.seqs.popleft()) != seq:
                self._struck.remove(first)
            body = self.bodies.pop(seq, None)
            if body is not None:
                size += len(body) + OVERHEAD
        self._account(-size)
        self._trim()

    def insert(self, seq: int) -> None:
        """Put a message back that is not past the cursor. The last leave when there are too many."""
        if self.seqs and seq > self.seqs[0]:
            insort(self.seqs, seq)
        else:
            self.seqs.appendleft(seq)
        while len(self.seqs) > 2 * _MOST:
            last = self.seqs.pop()
            self._struck.discard(last)
            self._let_go(last)
            self.cursor = self.seqs[-1]

    def strike(self, seq: int) -> None:
        """Take a message out that is not past the cursor, wherever it stands."""
        self._struck.add(seq)
        self._let_go(seq)
        self._trim()

    def shed(self) -> None:
        """Let go of all, so that it is read again when it is asked for."""
        if self.seqs:
            self.cursor = self.seqs[0] - 1
        self._account(-self._size)
        self._windows.forget(self)
        self.seqs, self.bodies, self._struck = deque(), {}, set()

    def _let_go(self, seq: int) -> None:
        body = self.bodies.pop(seq, None)
        if body is not None:
            self._account(-len(body) - OVERHEAD)

    def _account(self, size: int) -> None:
        self._size += size
        self._windows.add(size)

    def _trim(self) -> None:
        """Drop struck numbers that came up."""
        if self._struck:
            while self.seqs and self.seqs[0] in self._struck:
                self._struck.remove(self.seqs.popleft())
