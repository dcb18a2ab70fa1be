"""The expiries of a queue: when messages that nobody takes are dead.

Those in line all have the queue's time to live, and stand in the order of their Adds: a look at the first is enough,
and nothing is kept of the others. The ones beside the line, that have a rank or are delayed, are watched one by one.
"""

from __future__ import annotations

from queuelet.core.deadlines import NEVER, Deadlines
from queuelet.core.delays import Delays
from queuelet.core.message import Rank
from queuelet.core.storage import Messages
from queuelet.core.stored_form import created_of

_SECOND = 1_000_000_000


class Expiries:
    """When the ready and the delayed messages of a queue expire."""

    __slots__ = ("_delays", "_heap", "_messages", "ttl")

    def __init__(self, messages: Messages, delays: Delays, ttl_seconds: int | None) -> None:
        """Take the messages, whose line is ready, which of them are delayed, and the queue's time to live."""
        self.ttl = _nanoseconds(ttl_seconds)
        """How long messages may wait, in nanoseconds; `NEVER` for ever. One may have a shorter time of its own."""
        self._messages = messages
        self._delays = delays
        self._heap: Deadlines[int] = Deadlines(self._is_due)

    def set_ttl(self, seconds: int | None) -> bool:
        """Let messages wait this long, None for ever; tell whether it is another time than before."""
        ttl = _nanoseconds(seconds)
        if ttl == self.ttl:
            return False
        self.ttl = ttl
        self._heap.clear()
        self.watch_all()
        return True

    def watch(self, seq: int) -> int:
        """Have an eye on a message that is ready or delayed; return when it expires, `NEVER` if it does not."""
        rank = self._messages.ranks.get(seq)
        if rank is not None:
            at = self._expiry_of(rank)
        elif self.ttl == NEVER:
            return NEVER
        else:
            body = self._messages.get(seq)
            if body is None:  # it is damaged, and was set aside
                return NEVER
            at = created_of(body) + self.ttl
        if at != NEVER and (rank is not None or seq in self._delays.until):
            self._heap.add(at, seq)
        return at

    def watch_all(self) -> None:
        """Have an eye on all that are not in line."""
        for seq in {*self._messages.ranks, *self._delays.until}:
            self.watch(seq)

    @property
    def next_at(self) -> int:
        """When the next message may expire."""
        at = self._heap.next_at
        if self.ttl == NEVER:
            return at
        first = self._messages.first_many(1, 0)[1]
        return min(at, created_of(first[0]) + self.ttl) if first else at

    def take_next(self, now: int) -> int | None:
        """Return a message whose time is over, None if there is none; out of the line if it stood there.

        One beside the line may be leased or dead by now, and then has not expired.
        """
        if self.next_at > now:
            return None
        if self._heap.earliest <= now:
            return self._heap.pop()[1]
        return self._messages.checkout_many(1, 0)[0][0]

    def clear(self) -> None:
        """Forget all."""
        self._heap.clear()

    def _expiry_of(self, rank: Rank) -> int:
        ttl = min(self.ttl, rank.ttl or NEVER)
        return NEVER if ttl == NEVER else rank.created + ttl

    def _is_due(self, at: int, seq: int) -> bool:
        """Tell whether this is still when the message expires, and it is not in line."""
        rank = self._messages.ranks.get(seq)
        return seq in self._delays.until if rank is None else at == self._expiry_of(rank)


def _nanoseconds(ttl_seconds: int | None) -> int:
    return NEVER if ttl_seconds is None else ttl_seconds * _SECOND
