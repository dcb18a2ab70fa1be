"""Windows: the messages at the head of each queue that are held in memory, and the bound on all windows together."""

from __future__ import annotations

from bisect import insort
from collections import deque

from queuelet.core.budget import MESSAGE_OVERHEAD, MemoryBudget

_MAX_MESSAGES = 4_096
"""The most messages that one window holds."""

_MAX_BYTES = 4 * 1024 * 1024
"""About how many bytes one window holds at most."""


class WindowBudget:
    """Bounds all windows together to `max_bytes` of memory. The window filled longest ago is evicted first."""

    def __init__(self, memory: MemoryBudget, max_bytes: int) -> None:
        self.memory = memory
        self.max_bytes = max_bytes
        self.used = 0
        self._filled: dict[Window, None] = {}

    def add(self, size: int) -> None:
        """Account for `size` bytes more, or less if it is negative."""
        self.used += size
        self.memory.used += size

    def fits(self, size: int) -> bool:
        """Return whether a message of this size fits within the bound."""
        return self.used + size + MESSAGE_OVERHEAD <= self.max_bytes

    def evict_for(self, window: Window, size: int) -> None:
        """Evict other windows until a message of this size fits, and mark the given window as filled last."""
        self._filled.pop(window, None)
        while self._filled and not self.fits(size):
            next(iter(self._filled)).evict()
        self._filled[window] = None

    def forget(self, window: Window) -> None:
        """Stop tracking a window, because it is empty."""
        self._filled.pop(window, None)


class Window:
    """The window of one queue: all messages in line up to a cursor, in order.

    Messages after the cursor are on the disk, or are not committed yet. A message that was returned to the line is here
    without its body. A message removed from the middle leaves its sequence number in `seqs` and in `_removed` until it
    is the first; then it is dropped, so the first one in `seqs` is always stored.
    """

    __slots__ = ("_budget", "_removed", "_size", "bodies", "cursor", "seqs")

    def __init__(self, budget: WindowBudget) -> None:
        self._budget = budget
        self.seqs: deque[int] = deque()
        self.bodies: dict[int, bytes] = {}
        self.cursor = 0
        """The window has all messages in line with sequence numbers up to this one."""
        self._removed: set[int] = set()
        self._size = 0

    def __len__(self) -> int:
        return len(self.seqs) - len(self._removed)

    def fits(self, size: int) -> bool:
        """Return whether the window can hold another message of this size."""
        return len(self.seqs) < _MAX_MESSAGES and self._size + size <= _MAX_BYTES and self._budget.fits(size)

    def push(self, seq: int, body: bytes) -> None:
        """Add the message that follows the cursor, and move the cursor to it."""
        if not self.bodies:
            self._budget.evict_for(self, len(body))
        self.seqs.append(seq)
        self.bodies[seq] = body
        self.cursor = seq
        self._account(len(body) + MESSAGE_OVERHEAD)

    def first(self, count: int) -> list[int]:
        """Return the sequence numbers of the first messages, at most `count`."""
        found: list[int] = []
        for seq in self.seqs:
            if len(found) >= count:
                break
            if seq not in self._removed:
                found.append(seq)
        return found

    def remove_first(self, seqs: list[int]) -> None:
        """Remove the first messages: those that `first` returned, or fewer."""
        size = 0
        for seq in seqs:
            while (first := self.seqs.popleft()) != seq:
                self._removed.remove(first)
            body = self.bodies.pop(seq, None)
            if body is not None:
                size += len(body) + MESSAGE_OVERHEAD
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
        while len(self.seqs) > 2 * _MAX_MESSAGES:
            last = self.seqs.pop()
            self._removed.discard(last)
            self._drop_body(last)
            self.cursor = self.seqs[-1]

    def remove(self, seq: int) -> None:
        """Remove a message that is not after the cursor, wherever it is."""
        self._removed.add(seq)
        self._drop_body(seq)
        self._trim()

    def evict(self) -> None:
        """Evict all messages. They are read from the disk again when they are needed."""
        if self.seqs:
            self.cursor = self.seqs[0] - 1
        self._account(-self._size)
        self._budget.forget(self)
        self.seqs, self.bodies, self._removed = deque(), {}, set()

    def _drop_body(self, seq: int) -> None:
        body = self.bodies.pop(seq, None)
        if body is not None:
            self._account(-len(body) - MESSAGE_OVERHEAD)

    def _account(self, size: int) -> None:
        self._size += size
        self._budget.add(size)

    def _trim(self) -> None:
        """Drop removed messages from the front."""
        if self._removed:
            while self.seqs and self.seqs[0] in self._removed:
                self._removed.remove(self.seqs.popleft())
