"""The delayed messages of a queue: those that must not be delivered before a certain time."""

from __future__ import annotations

from queuelet.core.deadlines import Deadlines


class Delays:
    """The delayed messages, by sequence number."""

    __slots__ = ("_ends", "until")

    def __init__(self) -> None:
        self.until: dict[int, int] = {}
        """When each delay ends, in nanoseconds since 1970. Deleting an entry cancels the delay."""
        self._ends: Deadlines[int] = Deadlines(lambda at, seq: self.until.get(seq) == at)

    def __len__(self) -> int:
        """Return the number of delayed messages."""
        return len(self.until)

    def add(self, seq: int, until: int) -> None:
        """Delay a message until a time in nanoseconds since 1970."""
        self.until[seq] = until
        self._ends.add(until, seq)

    @property
    def next_end(self) -> int:
        """When the next delay ends."""
        return self._ends.next_at

    def end_next(self) -> int:
        """End the delay that is due at `next_end`, and return its message."""
        _, seq = self._ends.pop()
        del self.until[seq]
        return seq

    def clear(self) -> None:
        """Remove all delays."""
        self.until.clear()
        self._ends.clear()
