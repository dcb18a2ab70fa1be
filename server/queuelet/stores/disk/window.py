"""Windows: the messages at the head of each queue that are held in memory, and the bound on all windows together."""

from __future__ import annotations

from bisect import insort
from collections import deque

from queuelet.core.budget import MemoryBudget

OVERHEAD = 160
"""Memory that a message takes in addition to its bytes, in bytes."""

_MOST = 4_096
"""The most messages that one window holds."""

_MOST_BYTES = 4 * 1024 * 1024
"""About how many bytes one window holds at most."""


class Windows:
    """Bounds the memory of all windows together to `most` bytes. The window filled longest ago is evicted first."""

    def __init__(self, budget: MemoryBudget, most: int) -> None:
        self.budget = budget
        self.most = most
        self.used = 0
        self._filled: dict[Line, None] = {}

    def add(self, size: int) -> None:
        """Account for `size` bytes more, or less if it is negative."""
        self.used += size
        self.budget.used += size

    def has_room(self, size: int) -> bool:
        """Return whether a message of this size fits within the bound."""
        return self.used + size + OVERHEAD <= self.most

    def make_room(self, line: Line, size: int) -> None:
        """Evict other windows until a message of this size fits, and mark the given window as filled last."""
        self._filled.pop(line, None)
        while self._filled and not self.has_room(size):
            next(iter(self._filled)).shed()
        self._filled[line] = None

    def forget(self, line: Line) -> None:
        """Stop tracking a window, because it is empty."""
        self._filled.pop(line, None)


class Line:
    """The window of one queue: all messages in line up to a cursor, in order.

    Messages after the cursor are on the disk, or are not committed yet. A message that was returned to the line is here
    without its body. A message removed from the middle leaves its sequence number in `seqs` and in `_struck` until it
    is the first; then it is dropped, so the first one in `seqs` is always stored.
    """

    __slots__ = ("_size", "_struck", "_windows", "bodies", "cursor", "seqs")

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self.seqs: deque[int] = deque()
        self.bodies: dict[int, bytes] = {}
        self.cursor = 0
        """The window has all messages in line with sequence numbers up to this one."""
        self._struck: set[int] = set()
        self._size = 0

    def __len__(self) -> int:
        return len(self.seqs) - len(self._struck)

    def has_room(self, size: int) -> bool:
        """Return whether the window can hold another message of this size."""
        return len(self.seqs) < _MOST and self._size + size <= _MOST_BYTES and self._windows.has_room(size)

    def push(self, seq: int, body: bytes) -> None:
        """Add the message that follows the cursor, and move the cursor to it."""
        if not self.bodies:
            self._windows.make_room(self, len(body))
        self.seqs.append(seq)
        self.bodies[seq] = body
        self.cursor = seq
        self._account(len(body) + OVERHEAD)

    def first(self, count: int) -> list[int]:
        """Return the sequence numbers of the first messages, at most `count`."""
        found: list[int] = []
        for seq in self.seqs:
            if len(found) >= count:
                break
            if seq not in self._struck:
                found.append(seq)
        return found

    def leave(self, seqs: list[int]) -> None:
        """Remove the first messages: those that `first` returned, or fewer."""
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
        """Add a message that was returned to the line and is not after the cursor.

        If there are too many messages then, the last ones leave and the cursor moves back.
        """
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
        """Remove a message that is not after the cursor, wherever it is."""
        self._struck.add(seq)
        self._let_go(seq)
        self._trim()

    def shed(self) -> None:
        """Evict all messages. They are read from the disk again when they are needed."""
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
        """Drop removed messages from the front."""
        if self._struck:
            while self.seqs and self.seqs[0] in self._struck:
                self._struck.remove(self.seqs.popleft())
