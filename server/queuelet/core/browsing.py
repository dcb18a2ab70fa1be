"""Looking at the messages of a queue in whatever state, by id or page by page, without taking any."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from heapq import merge, nsmallest
from itertools import islice
from typing import NamedTuple

from queuelet.core.message import Delivery
from queuelet.core.states import States
from queuelet.core.storage import Messages
from queuelet.core.stored_form import id_of
from queuelet.definition import State
from queuelet.ids import MessageIds

_ALL_STATES = frozenset(State)


_UNORDERED_PAGE = 1_000
"""How many delayed or leased messages are looked at in one go at least."""

_PAGE_BYTES = 1 << 20
"""About how many bytes of messages are looked at in one go."""


class Browsed(NamedTuple):
    """A message and what is known of it."""

    seq: int
    body: bytes
    state: State
    until: int
    """LEASED: when the lease ends. DELAYED: when it becomes ready. Otherwise 0."""
    delivery: Delivery | None


class Page(NamedTuple):
    """Messages that were browsed."""

    messages: list[Browsed]
    last: int
    """The sequence number of the last message looked at: where the next page begins."""
    is_end: bool
    """Whether there is nothing behind."""


class Browser:
    """Finds the messages of one queue."""

    __slots__ = ("_ids", "_messages", "_states")

    def __init__(self, messages: Messages, ids: MessageIds, states: States) -> None:
        """Take the messages, the ids made for them, and their states."""
        self._messages = messages
        self._ids = ids
        self._states = states

    def seq_of(self, message_id: bytes) -> int | None:
        """Return the sequence number of the stored message of this id, None if there is none."""
        seq = self._messages.seq_of(message_id)
        if seq is None:
            seq = self._ids.seq_of(message_id)
            body = None if seq is None else self._messages.get(seq)
            # A message to which its producer gave an id does not have the one that would have been made.
            if body is None or id_of(body) != message_id:
                return None
        return seq

    def seqs_of(self, message_ids: Iterable[bytes]) -> Iterable[int]:
        """Return the sequence numbers of those of these ids that are stored, each looked up when it is its turn."""
        seqs = (self.seq_of(message_id) for message_id in message_ids)
        return (seq for seq in seqs if seq is not None)

    def page(self, after: int, count: int, states: Iterable[State]) -> Page:
        """Look at some `count` messages past a sequence number, and return those in `states`; none stand for all.

        They are fewer where they are large, so that nobody waits for a long look at the disk.
        """
        wanted = set(states) or _ALL_STATES
        if State.READY in wanted:
            rows = self._messages.after(after, count, _PAGE_BYTES)
        else:
            rows = self._unready_after(after, count, wanted)
        browsed = (self._browsed(seq, body) for seq, body in rows)
        last = rows[-1][0] if rows else after
        return Page([each for each in browsed if each.state in wanted], last, not rows)

    def _unready_after(self, after: int, count: int, states: AbstractSet[State]) -> list[tuple[int, bytes]]:
        """Return messages past a number that are delayed, leased or dead, without a look at those in line.

        Only dead ones are known in order. All others are looked through for each page, which therefore is larger.
        """
        in_order: list[Iterable[int]] = []
        if State.DEAD in states:
            in_order.append(self._states.dead.irange(minimum=after + 1))
        if State.DELAYED in states or State.LEASED in states:
            count = max(count, _UNORDERED_PAGE)
        if State.DELAYED in states:
            in_order.append(nsmallest(count, (seq for seq in self._states.delays.until if seq > after)))
        if State.LEASED in states:
            deliveries = self._messages.deliveries.items()
            leased = (seq for seq, delivery in deliveries if seq > after and delivery.state is State.LEASED)
            in_order.append(nsmallest(count, leased))
        rows: list[tuple[int, bytes]] = []
        size = 0
        # A damaged message is set aside as it is read, and leaves these.
        for seq in list(islice(merge(*in_order), count)):
            body = self._messages.get(seq)
            if body is None:
                continue
            size += len(body)
            if size > _PAGE_BYTES and rows:
                break
            rows.append((seq, body))
        return rows

    def _browsed(self, seq: int, body: bytes) -> Browsed:
        delivery = self._messages.deliveries.get(seq)
        state = self._states.of(seq)
        until = self._states.delays.until.get(seq, 0)
        if delivery is not None and state is State.LEASED:
            until = delivery.until
        return Browsed(seq, body, state, until, delivery)
