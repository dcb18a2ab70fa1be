"""The delays of a queue: which messages are not to be taken yet, and until when."""

from __future__ import annotations

from queuelet.core.deadlines import Deadlines


class Delays:
    """The delayed messages."""

    __slots__ = ("_ends", "until")

    def __init__(self) -> None:
        """Begin with none."""
        self.until: dict[int, int] = {}
        """When each of them becomes ready. To delete one here ends its delay."""
        self._ends: Deadlines[int] = Deadlines(lambda at, seq: self.until.get(seq) == at)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.until)

    def add(self, seq: int, until: int) -> None:
        """Delay a message."""
        self.until[seq] = until
        self._ends.add(until, seq)

    @property
    def next_end(self) -> int:
        """When the next delay is over."""
        return self._ends.next_at

    def end_next(self) -> int:
        """End the delay of `next_end`, and return its message."""
        _, seq = self._ends.pop()
        del self.until[seq]
        return seq

    def clear(self) -> None:
        """Forget all."""
        self.until.clear()
        self._ends.clear()
