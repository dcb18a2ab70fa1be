"""The delays of a queue: which messages are not to be taken yet, and until when."""

from __future__ import annotations

from heapq import heappop, heappush

from queuelet.leases import NEVER

_SLACK = 64
"""How many times may be noted in vain before it is worth sorting them out."""


class Delays:
    """The delayed messages. The end of a delay that nobody waits for any more is thrown away when it comes up."""

    __slots__ = ("_ends", "until")

    def __init__(self) -> None:
        """Begin with none."""
        self.until: dict[int, int] = {}
        """When each of them becomes ready. To delete one here ends its delay."""
        self._ends: list[tuple[int, int]] = []

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.until)

    def add(self, seq: int, until: int) -> None:
        """Delay a message."""
        self.until[seq] = until
        heappush(self._ends, (until, seq))
        if len(self._ends) > 2 * len(self.until) + _SLACK:
            self._ends = sorted((until, seq) for seq, until in self.until.items())

    @property
    def next_end(self) -> int:
        """When the next delay is over."""
        while self._ends and self.until.get(self._ends[0][1]) != self._ends[0][0]:
            heappop(self._ends)
        return self._ends[0][0] if self._ends else NEVER

    def end_next(self) -> int:
        """End the delay that is over next, and return its message."""
        _, seq = heappop(self._ends)
        del self.until[seq]
        return seq

    def clear(self) -> None:
        """Forget all."""
        self.until.clear()
        self._ends.clear()
