"""Reads messages in any state, by ID or page by page in either direction, without delivering them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from heapq import merge, nlargest, nsmallest
from itertools import islice
from typing import NamedTuple

from queuelet.core.message import DeliveryRecord
from queuelet.core.states import States
from queuelet.core.storage import Messages, NotLoaded
from queuelet.core.stored_form import id_of
from queuelet.definition import MessageState
from queuelet.ids import MessageIds

_ALL_STATES = frozenset(MessageState)


_UNORDERED_PAGE = 1_000
"""The minimum number of delayed or leased messages that are read at once."""

_STEP = 50
"""How many messages are announced to the store at once."""

_PAGE_BYTES = 1 << 20
"""The approximate number of bytes of messages that are read at once."""


class Browsed(NamedTuple):
    """A message, its state and its delivery."""

    seq: int
    body: bytes
    state: MessageState
    until: int
    """LEASED: when the lease ends. DELAYED: when the delay ends. Otherwise 0."""
    delivery: DeliveryRecord | None


class Page(NamedTuple):
    """One page of messages."""

    messages: list[Browsed]
    last: int
    """The sequence number of the last message that was read; the next page continues from it."""
    is_end: bool
    """Whether this is the end: no message was read."""
    others: Sequence[int]
    """The sizes of the messages that were read but are not in the page, because of their state."""


class Located(NamedTuple):
    """Where a message with an ID is, if it is stored."""

    seq: int
    message_id: bytes


class Browser:
    """Reads the messages of one queue."""

    __slots__ = ("_ids", "_messages", "_states")

    def __init__(self, messages: Messages, ids: MessageIds, states: States) -> None:
        self._messages = messages
        self._ids = ids
        self._states = states

    def require(self, message_ids: Iterable[bytes]) -> None:
        """Announce that the messages with these IDs are read next. Raises `NotLoaded` if they have to be loaded."""
        ids = list(message_ids)
        made = [seq for each in ids if (seq := self._ids.seq_of(each)) and seq < self._messages.tally.next_seq]
        self._messages.require(made, ids)

    def seq_of(self, message_id: bytes) -> int | None:
        """Return the sequence number of the stored message with this ID, or None."""
        seq = self._messages.seq_of(message_id)
        if seq is None:
            seq = self._ids.seq_of(message_id)
            body = None if seq is None else self._messages.get(seq)
            # A message with an ID from its producer does not have the ID that the server would have made.
            if body is None or id_of(body) != message_id:
                return None
        return seq

    def locate(self, message_ids: Iterable[bytes]) -> list[Located]:
        """Return where the messages with these IDs are, without reading them, so some of them may not be stored."""
        located: list[Located] = []
        message_ids = list(message_ids)
        self._messages.require(own_ids=message_ids)
        for message_id in message_ids:
            seq = self._messages.seq_of(message_id) or self._ids.seq_of(message_id)
            if seq is not None and 0 < seq < self._messages.tally.next_seq:
                located.append(Located(seq, message_id))
        return located

    def find(self, message_id: bytes) -> bytes | None:
        """Return the stored message with this ID, or None."""
        seq = self.seq_of(message_id)
        return None if seq is None else self._messages.get(seq)

    def seqs_of(self, message_ids: Iterable[bytes]) -> Iterable[int]:
        """Yield the sequence numbers of the stored messages with these IDs. Each ID is looked up when it is needed."""
        seqs = (self.seq_of(message_id) for message_id in message_ids)
        return (seq for seq in seqs if seq is not None)

    def page(
        self,
        place: int,
        count: int,
        states: Iterable[MessageState],
        *,
        descending: bool = False,
        among: Sequence[Located] | None = None,
    ) -> Page:
        """Read about `count` messages and return those in `states`; no states mean all states.

        It reads fewer if they are large, so that other calls do not wait for a long read from disk.

        Args:
            place: the sequence number after which to begin, or before which if `descending`.
            count: about how many messages to read.
            states: the states.
            descending: whether to read the newest messages first.
            among: read only these messages, sorted by sequence number; None for all.
        """
        wanted = set(states) or _ALL_STATES
        if among is not None:
            rows, last = self._read(_some(among, place, count, descending=descending))
        elif MessageState.READY not in wanted:
            rows, last = self._read(self._unready(place, count, wanted, descending=descending))
        else:
            beyond = self._messages.before if descending else self._messages.after
            rows = beyond(place, count, _PAGE_BYTES)
            last = rows[-1][0] if rows else None
        browsed = [self._browsed(seq, body) for seq, body in rows]
        messages = [each for each in browsed if each.state in wanted]
        others = [len(each.body) for each in browsed if each.state not in wanted]
        return Page(messages, place if last is None else last, last is None, others)

    def _unready(
        self, place: int, count: int, states: AbstractSet[MessageState], *, descending: bool
    ) -> Iterable[Located]:
        """Return delayed, leased or dead messages beyond a sequence number, without reading those in line.

        Only dead messages are indexed in order. All delayed or leased ones are scanned for each page, so pages of them
        are larger.
        """
        first_of = nlargest if descending else nsmallest
        is_beyond = place.__gt__ if descending else place.__lt__
        in_order: list[Iterable[int]] = []
        if MessageState.DEAD in states:
            dead = self._states.dead
            in_order.append(
                dead.irange(maximum=place - 1, reverse=True) if descending else dead.irange(minimum=place + 1)
            )
        if MessageState.DELAYED in states or MessageState.LEASED in states:
            count = max(count, _UNORDERED_PAGE)
        if MessageState.DELAYED in states:
            in_order.append(first_of(count, filter(is_beyond, self._states.delays.until)))
        if MessageState.LEASED in states:
            deliveries = self._messages.deliveries.items()
            leased = (seq for seq, delivery in deliveries if delivery.state is MessageState.LEASED)
            in_order.append(first_of(count, filter(is_beyond, leased)))
        # The list is needed because reading a damaged message sets it aside, which changes these collections.
        return [Located(seq, b"") for seq in islice(merge(*in_order, reverse=descending), count)]

    def _read(self, located: Iterable[Located]) -> tuple[list[tuple[int, bytes]], int | None]:
        """Read messages until they have `_PAGE_BYTES`, and return them with the last sequence number that was read.

        A message with another ID than the located one is left out.
        """
        rows: list[tuple[int, bytes]] = []
        size = 0
        last: int | None = None
        for few in _in_steps(located):
            try:
                self._messages.require([seq for seq, _ in few])
            except NotLoaded:
                if rows:
                    break  # the next page begins with these
                raise
            for seq, message_id in few:
                body = self._messages.get(seq)
                if body is not None and (not message_id or id_of(body) == message_id):
                    size += len(body)
                    if size > _PAGE_BYTES and rows:
                        return rows, last
                    rows.append((seq, body))
                last = seq
        return rows, last

    def _browsed(self, seq: int, body: bytes) -> Browsed:
        delivery = self._messages.deliveries.get(seq)
        state = self._states.of(seq)
        until = self._states.delays.until.get(seq, 0)
        if delivery is not None and state is MessageState.LEASED:
            until = delivery.until
        return Browsed(seq, body, state, until, delivery)


def _some(among: Sequence[Located], place: int, count: int, *, descending: bool) -> Sequence[Located]:
    """Return the first `count` after a sequence number, or the last before it in reverse order."""
    if descending:
        end = bisect_left(among, place, key=_seq)
        return among[max(0, end - count) : end][::-1]
    start = bisect_right(among, place, key=_seq)
    return among[start : start + count]


def _in_steps(located: Iterable[Located]) -> Iterator[list[Located]]:
    """Yield the messages in lists of at most `_STEP`."""
    rest = iter(located)
    while few := list(islice(rest, _STEP)):
        yield few


def _seq(located: Located) -> int:
    return located.seq
