"""Limits the memory that bodies of requests and responses take together, however slowly clients send and read.

If they take more than the limit, connections are closed: each time the one that was read or written longest ago, of the
address that holds the most. So a client that reads what it asked for keeps its connection.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self


class Holder:
    """A request whose bodies are counted, for as long as it is served in this context."""

    __slots__ = ("_of", "close", "held", "host", "is_closed", "moved")

    def __init__(self, of: HeldBytes, host: str, close: Callable[[], object]) -> None:
        """Make one without bodies.

        Args:
            of: where the bytes count.
            host: the client's address.
            close: closes the connection.
        """
        self._of = of
        self.host = host
        self.close = close
        self.held = 0
        """Bytes that it holds."""
        self.is_closed = False
        """Whether its connection was closed because of the limit."""
        self.moved = 0
        """When its bytes last changed, as a number that grows with each change of any holder."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._of.forget(self)

    def hold(self, size: int) -> None:
        """Count more bytes, or fewer if `size` is negative."""
        self._of.count(self, size)


class HeldBytes:
    """The bytes of all bodies of a port."""

    def __init__(self, most: int) -> None:
        """Make it without bodies.

        Args:
            most: the most bytes that all bodies may take.
        """
        self._most = most
        self._holders: set[Holder] = set()
        self.total = 0
        """Bytes that all bodies take."""
        self._changes = 0
        self.closed = 0
        """Connections that were closed because of the limit."""

    def count(self, holder: Holder, size: int) -> None:
        """Count more bytes of a holder, and close connections if they are too many."""
        if holder.is_closed:
            return
        self._holders.add(holder)
        self._changes += 1
        holder.moved = self._changes
        holder.held += size
        self.total += size
        while self.total > self._most:
            by_host: dict[str, int] = {}
            for each in self._holders:
                by_host[each.host] = by_host.get(each.host, 0) + each.held
            host = max(by_host, key=by_host.__getitem__)
            chosen = min(
                (each for each in self._holders if each.host == host and each.held), key=lambda each: each.moved
            )
            self.forget(chosen)
            chosen.is_closed = True
            self.closed += 1
            chosen.close()

    def forget(self, holder: Holder) -> None:
        """Count nothing of a holder any more."""
        if holder in self._holders:
            self._holders.remove(holder)
            self.total -= holder.held
            holder.held = 0
