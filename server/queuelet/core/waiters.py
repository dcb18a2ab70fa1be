"""All waiters of a queue: at most how many there are, and which of them is woken for a message."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from queuelet.core import refusals
from queuelet.core.host import Host
from queuelet.core.states import States
from queuelet.core.waiting import Taker, TakerLine


class Caller(Protocol):
    """A call that waits in a line."""

    @property
    def peer(self) -> str:
        """The address that the call comes from."""


class Waiters:
    """The calls that wait on one queue: for room, for a message, or to become the exclusive consumer."""

    __slots__ = ("_lines", "_most", "_most_per_peer", "_queue", "_states", "refused", "takers")

    def __init__(
        self,
        queue: Host,
        states: States,
        takers: TakerLine,
        *,
        most: int,
        most_per_peer: int,
    ) -> None:
        self._queue = queue
        self._states = states
        self.takers = takers
        """The calls that wait for a message."""
        self._lines: list[Collection[Caller]] = [takers]
        self._most = most
        self._most_per_peer = most_per_peer
        self.refused = 0
        """The number of calls that were refused because too many were waiting."""

    def __len__(self) -> int:
        """Return how many calls wait."""
        return sum(map(len, self._lines))

    def include(self, line: Collection[Caller]) -> None:
        """Count the calls of another line too."""
        self._lines.append(line)

    def check(self, peer: str) -> None:
        """Raise `TooMany` if no more calls from this address may wait."""
        waiting = len(self)
        if waiting >= self._most:
            self.refused += 1
            raise refusals.too_many(self._queue, waiting)
        # The calls per address are counted only if they may be too many, instead of at every start and end of a wait.
        if waiting >= self._most_per_peer:
            of_peer = sum(each.peer == peer for line in self._lines for each in line)
            if of_peer >= self._most_per_peer:
                self.refused += 1
                raise refusals.too_many_of_peer(self._queue, peer, of_peer)

    def wait_for_message(self, taker: Taker, *, first: bool = False) -> None:
        """Wake a taker when a message is ready. Another call may take that message first.

        Args:
            taker: woken at most once.
            first: whether to wait before the others, because it was woken and another call took the message.

        Raises:
            TooMany: the maximum number of calls wait on this queue, in all or from this address.
        """
        self.check(taker.peer)
        if first:
            self.takers.appendleft(taker)
        else:
            self.takers.append(taker)

    def stop_waiting(self, taker: Taker) -> bool:
        """Stop waiting for a message. Return whether the taker was still waiting, that is, not woken before."""
        return self.takers.leave(taker)

    def give_up_waiting(self, taker: Taker) -> None:
        """Stop waiting for a message. If the taker was woken already, wake the next one instead."""
        if not self.stop_waiting(taker):
            self.pass_turn()

    def pass_turn(self) -> None:
        """Wake the next taker if a message is ready, because the last one that was woken may have taken none."""
        self.takers.wake(min(1, self._states.ready))
