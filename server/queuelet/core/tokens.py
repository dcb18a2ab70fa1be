"""Tokens: numbers that only grow, across restarts too, so that whatever they are passed on to knows who came later."""

from __future__ import annotations


class Tokens:
    """Gives out the tokens of leases and of exclusive consumers.

    A server begins at the clock in nanoseconds, which no server gives tokens as fast as, and a store that survives the
    process sees to it that it begins no lower than before where the clock was set back.
    """

    __slots__ = ("_next",)

    def __init__(self, first: int) -> None:
        """Take the first to give."""
        self._next = first

    def begin_at(self, first: int) -> None:
        """Give none below this one from now on."""
        self._next = max(self._next, first)

    def take(self, count: int = 1) -> int:
        """Take so many consecutive tokens, and return the first of them."""
        first = self._next
        self._next = first + count
        return first
