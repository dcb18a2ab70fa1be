"""Tokens: numbers that only increase, even across restarts, so that they can be used for fencing.

A system that the work writes to can refuse any token that is smaller than the last one it saw.
"""

from __future__ import annotations


class Tokens:
    """Hands out the tokens of leases and of exclusive consumers.

    The first token of a process is its clock in nanoseconds, because no server hands out tokens that fast. If the clock
    was set back, a durable store raises the first token above those of the process before.
    """

    __slots__ = ("_next",)

    def __init__(self, first: int) -> None:
        self._next = first

    def begin_at(self, first: int) -> None:
        """Hand out no token below `first` from now on."""
        self._next = max(self._next, first)

    def take(self, count: int = 1) -> int:
        """Take `count` consecutive tokens and return the first."""
        first = self._next
        self._next = first + count
        return first
