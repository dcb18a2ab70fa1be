"""Expiry: when ready and delayed messages die because their time to live has passed.

Messages in line all have the queue's time to live and are in the order of their Adds. Only the first of them is
checked, so the others need no entry here. Messages with a rank and delayed messages have an entry each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from queuelet.core.deadlines import NEVER, Deadlines
from queuelet.core.delays import Delays
from queuelet.core.message import Rank
from queuelet.core.storage import Messages, NotLoaded
from queuelet.core.stored_form import created_of
from queuelet.limits import SECOND_NS

_STEP = 500
"""How many messages are announced to the store at once."""


class Expiries:
    """When the ready and the delayed messages of a queue expire."""

    __slots__ = ("_delays", "_heap", "_messages", "is_loading", "on_loaded", "ttl")

    def __init__(self, messages: Messages, delays: Delays, ttl_seconds: int | None) -> None:
        self.ttl = _nanoseconds(ttl_seconds)
        """The queue's time to live, in nanoseconds, or `NEVER`. A message may have a shorter one of its own."""
        self._messages = messages
        self._delays = delays
        self._heap: Deadlines[int] = Deadlines(self._is_due)
        self.is_loading = False
        """Whether the first message in line is being loaded, so that it is not known when it expires."""
        self.on_loaded: Callable[[], None] = _ignore
        """Called when messages were loaded, so that `next_at` may be earlier."""

    def set_ttl(self, seconds: int | None) -> bool:
        """Set the queue's time to live, None for no limit. Return whether it has changed."""
        ttl = _nanoseconds(seconds)
        if ttl == self.ttl:
            return False
        self.ttl = ttl
        self._heap.clear()
        self.watch_all()
        return True

    def watch(self, seq: int) -> int:
        """Track a ready or delayed message. Return its expiry time in ns since 1970; `NEVER` if it needs no entry."""
        rank = self._messages.ranks.get(seq)
        if rank is not None:
            at = self._expiry_of(rank)
        elif self.ttl == NEVER or seq not in self._delays.until:
            return NEVER  # a message in line needs no entry
        else:
            try:
                body = self._messages.get(seq)
            except NotLoaded as missing:
                missing.then(partial(self._watch_loaded, [seq]))
                return NEVER
            if body is None:  # it was damaged, and is set aside now
                return NEVER
            at = created_of(body) + self.ttl
        if at != NEVER:
            self._heap.add(at, seq)
        return at

    def watch_all(self) -> None:
        """Track all messages that are not in line."""
        for seq in self._messages.ranks:
            self.watch(seq)
        delayed = [seq for seq in self._delays.until if seq not in self._messages.ranks]
        for start in range(0, len(delayed) if self.ttl != NEVER else 0, _STEP):
            few = delayed[start : start + _STEP]
            try:
                self._messages.require(few)
            except NotLoaded as missing:
                missing.then(partial(self._watch_loaded, few))
            else:
                for seq in few:
                    self.watch(seq)

    def _watch_loaded(self, seqs: Iterable[int]) -> None:
        """Track messages that were loaded, if they are still delayed."""
        for seq in seqs:
            if seq in self._delays.until:
                self.watch(seq)
        self.on_loaded()

    @property
    def next_at(self) -> int:
        """When the next message may expire, in nanoseconds since 1970, or `NEVER`."""
        at = self._heap.next_at
        if self.ttl == NEVER:
            return at
        try:
            first = self._messages.first_many(1, 0)[1]
        except NotLoaded as missing:
            if not self.is_loading:
                self.is_loading = True
                missing.then(self._first_loaded)
            return at
        return min(at, created_of(first[0]) + self.ttl) if first else at

    def check_first(self) -> None:
        """Raise `NotLoaded` if it is not known whether the first message in line has expired."""
        if self.is_loading:
            self._messages.first_many(1, 0)

    def _first_loaded(self) -> None:
        self.is_loading = False
        self.on_loaded()

    def take_next(self, now: int) -> int | None:
        """Return a message whose expiry time has passed, or None. A message in line is checked out of the line.

        The caller has to check the state of the message: one that is leased or dead by now has not expired.
        """
        if self.next_at > now:
            return None
        if self._heap.earliest <= now:
            return self._heap.pop()[1]
        return self._messages.checkout_many(1, 0)[0][0]

    def clear(self) -> None:
        """Stop tracking all messages."""
        self._heap.clear()

    def _expiry_of(self, rank: Rank) -> int:
        ttl = min(self.ttl, rank.ttl or NEVER)
        return NEVER if ttl == NEVER else rank.created + ttl

    def _is_due(self, at: int, seq: int) -> bool:
        """Return whether the message still expires at this time, and is not in line."""
        rank = self._messages.ranks.get(seq)
        return seq in self._delays.until if rank is None else at == self._expiry_of(rank)


def _ignore() -> None:
    pass


def _nanoseconds(ttl_seconds: int | None) -> int:
    return NEVER if ttl_seconds is None else ttl_seconds * SECOND_NS
