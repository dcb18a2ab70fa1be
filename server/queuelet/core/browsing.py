"""Reads messages in any state, by ID or page by page, without delivering them."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from heapq import merge, nsmallest
from itertools import islice
from typing import NamedTuple

from queuelet.core.message import DeliveryRecord
from queuelet.core.states import States
from queuelet.core.storage import Messages
from queuelet.core.stored_form import id_of
from queuelet.definition import MessageState
from queuelet.ids import MessageIds

_ALL_STATES = frozenset(MessageState)


_UNORDERED_PAGE = 1_000
"""The minimum number of delayed or leased messages that are read at once."""

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
    """The sequence number of the last message that was read; the next page starts after it."""
    is_end: bool
    """Whether this is the end: no message was read."""


class Browser:
    """Reads the messages of one queue."""

    __slots__ = ("_ids", "_messages", "_states")

    def __init__(self, messages: Messages, ids: MessageIds, states: States) -> None:
        self._messages = messages
        self._ids = ids
        self._states = states

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

    def find(self, message_id: bytes) -> bytes | None:
        """Return the stored message with this ID, or None."""
        seq = self.seq_of(message_id)
        return None if seq is None else self._messages.get(seq)

    def seqs_of(self, message_ids: Iterable[bytes]) -> Iterable[int]:
        """Yield the sequence numbers of the stored messages with these IDs. Each ID is looked up when it is needed."""
        seqs = (self.seq_of(message_id) for message_id in message_ids)
        return (seq for seq in seqs if seq is not None)

    def page(self, after: int, count: int, states: Iterable[MessageState]) -> Page:
        """Read about `count` messages after a sequence number and return those in `states`; no states mean all states.

        It reads fewer if they are large, so that other calls do not wait for a long read from disk.
        """
        wanted = set(states) or _ALL_STATES
        if MessageState.READY in wanted:
            rows = self._messages.after(after, count, _PAGE_BYTES)
        else:
            rows = self._unready_after(after, count, wanted)
        browsed = (self._browsed(seq, body) for seq, body in rows)
        last = rows[-1][0] if rows else after
        return Page([each for each in browsed if each.state in wanted], last, not rows)

    def _unready_after(self, after: int, count: int, states: AbstractSet[MessageState]) -> list[tuple[int, bytes]]:
        """Return delayed, leased or dead messages after a sequence number, without reading those in line.

        Only dead messages are indexed in order. All delayed or leased ones are scanned for each page, so pages of them
        are larger.
        """
        in_order: list[Iterable[int]] = []
        if MessageState.DEAD in states:
            in_order.append(self._states.dead.irange(minimum=after + 1))
        if MessageState.DELAYED in states or MessageState.LEASED in states:
            count = max(count, _UNORDERED_PAGE)
        if MessageState.DELAYED in states:
            in_order.append(nsmallest(count, (seq for seq in self._states.delays.until if seq > after)))
        if MessageState.LEASED in states:
            deliveries = self._messages.deliveries.items()
            leased = (seq for seq, delivery in deliveries if seq > after and delivery.state is MessageState.LEASED)
            in_order.append(nsmallest(count, leased))
        rows: list[tuple[int, bytes]] = []
        size = 0
        # The list is needed because reading a damaged message sets it aside, which changes these collections.
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
        if delivery is not None and state is MessageState.LEASED:
            until = delivery.until
        return Browsed(seq, body, state, until, delivery)
