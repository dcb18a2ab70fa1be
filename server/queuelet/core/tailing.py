"""Samples what happens to the messages of a queue, for the streams that tail it.

A queue without tails has none of these objects. With tails, a call that changes a thousand messages makes no more
events than a tail has room for, and counts the others as skipped. So a tail costs little, and a slow reader costs
nothing more: its buffer is bounded, and what does not fit is skipped too. Nothing here waits or fails.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from queuelet.core.budget import MESSAGE_OVERHEAD, MemoryBudget
from queuelet.core.message import DeliveryRecord
from queuelet.core.storage import Messages, NotLoaded
from queuelet.definition import EventKind, MessageState
from queuelet.token_bucket import TokenBucket

BUFFERED = 1_000
"""The most events in the buffer of one tail."""

BUFFERED_BYTES = 1024**2
"""The most bytes of messages in the buffer of one tail, unless the first is larger."""

LEASED_BYTES = 1024**2
"""About how many bytes of leased messages the tails of a queue hold, for the events that follow."""

_DRY = 1_000_000
"""For how long no tail is looked at after none had room, in ns, so that a busy queue pays nothing for each of them."""


class Event(NamedTuple):
    """What happened to one message."""

    kind: EventKind
    time: int
    """When it happened, in ns since 1970."""
    seq: int
    body: bytes | None
    """The stored message. None if it is still stored, and is to be read when the event is sent."""
    consumer: str = ""
    """The name of the consumer that has or had the message."""
    held: int | None = None
    """How long the message was leased, in ns; None if that is not known."""


class Tail:
    """One reader of the events of a queue, with a rate, a bounded buffer and a count of what was skipped."""

    __slots__ = ("_bytes", "_events", "_own", "_shared", "_skipped", "_skipped_by_all", "_wake")

    def __init__(self, own: TokenBucket, shared: TokenBucket, wake: Callable[[], None]) -> None:
        """Make a tail.

        Args:
            own: the rate of this tail.
            shared: the rate of all tails of the server together.
            wake: called when the buffer is no longer empty, and when the queue is closed.
        """
        self._own = own
        self._shared = shared
        self._wake = wake
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._skipped = 0
        self._skipped_by_all: Callable[[], int] = int

    def begin(self, skipped_by_all: Callable[[], int]) -> None:
        """Note a function that returns how many events all tails of the queue skipped together."""
        before = skipped_by_all()
        self._skipped_by_all = lambda: skipped_by_all() - before

    @property
    def skipped(self) -> int:
        """How many events were skipped since the tail began."""
        return self._skipped + self._skipped_by_all()

    def room(self, now: int) -> int:
        """Return how many events fit now."""
        if self._bytes >= BUFFERED_BYTES:
            return 0
        return min(BUFFERED - len(self._events), self._own.available(now), self._shared.available(now))

    def offer(self, events: Sequence[Event], total: int, now: int, budget: MemoryBudget) -> None:
        """Buffer the first of these events that fit; count the others of `total` as skipped."""
        room = self.room(now)
        was_empty = not self._events
        taken = 0
        for event in events[:room]:
            size = 0 if event.body is None else len(event.body)
            if self._bytes and self._bytes + size > BUFFERED_BYTES:
                break
            self._events.append(event)
            self._bytes += size
            budget.used += size
            taken += 1
        self._own.take(taken)
        self._shared.take(taken)
        self._skipped += total - taken
        if taken and was_empty:
            self._wake()

    def take(self, count: int, budget: MemoryBudget) -> list[Event]:
        """Remove and return the oldest buffered events, at most `count`."""
        events = [self._events.popleft() for _ in range(min(count, len(self._events)))]
        size = sum(len(event.body) for event in events if event.body is not None)
        budget.used -= size
        self._bytes -= size
        return events

    def wake(self) -> None:
        """Wake the reader, because the queue was closed."""
        self._wake()


class Tails:
    """The tails of one queue, at least one. The queue reports to them what happens."""

    __slots__ = ("_budget", "_dry_until", "_leased", "_leased_bytes", "_messages", "_skipped", "_tails")

    def __init__(self, messages: Messages, budget: MemoryBudget) -> None:
        self._messages = messages
        self._budget = budget
        self._tails: list[Tail] = []
        self._dry_until = 0
        """Until when no tail is looked at, in ns since 1970."""
        self._skipped = 0
        """How many events all tails skipped meanwhile."""
        self._leased: OrderedDict[int, bytes] = OrderedDict()
        """Messages that were leased lately. The store may have to read them again when they are acknowledged."""
        self._leased_bytes = 0

    def __len__(self) -> int:
        return len(self._tails)

    def add(self, tail: Tail) -> None:
        """Report to a tail from now on."""
        self._tails.append(tail)
        self._dry_until = 0
        tail.begin(lambda: self._skipped)

    def remove(self, tail: Tail) -> None:
        """Report to a tail no longer, and drop what it has buffered."""
        self._tails.remove(tail)
        tail.take(BUFFERED, self._budget)
        if not self._tails:
            self._forget_leased(0)

    def wake(self) -> None:
        """Wake all readers, because the queue was closed."""
        for tail in self._tails:
            tail.wake()

    def report(
        self, kind: EventKind, seqs: Sequence[int], bodies: Sequence[bytes], now: int, consumer: str = ""
    ) -> None:
        """Report what happened to several messages."""
        room = self._room(now)
        if not room:
            self._skipped += len(seqs)
            return
        events = [Event(kind, now, seq, body, consumer) for seq, body in zip(seqs[:room], bodies, strict=False)]
        if kind is EventKind.LEASED:
            self._hold_leased(seqs[:room], bodies)
        self._offer(events, len(seqs), now)

    def report_change(
        self, kind: EventKind, seq: int, delivery: DeliveryRecord, now: int, held: int | None = None
    ) -> None:
        """Report what happened to a message that stays stored."""
        if not self._room(now):
            self._skipped += 1
            return
        self._offer([Event(kind, now, seq, None, delivery.consumer, held)], 1, now)

    def report_removals(self, kind: EventKind, seqs: Iterable[int], now: int) -> None:
        """Report messages that are about to be removed. Those that are not stored are ignored."""
        room = self._room(now)
        if not room:
            self._skipped += sum(1 for _ in seqs)
            return
        events: list[Event] = []
        total = 0
        for seq in seqs:
            total += 1
            if len(events) < room:
                try:
                    body = self.look(seq)
                except NotLoaded:
                    continue  # it counts as skipped
                if body is None:
                    total -= 1
                    continue
                delivery = self._messages.deliveries.get(seq)
                is_leased = delivery is not None and delivery.state is MessageState.LEASED
                consumer = "" if delivery is None else delivery.consumer
                held = now - delivery.since if delivery is not None and is_leased else None
                events.append(Event(kind, now, seq, body, consumer, held))
        self._offer(events, total, now)

    def look(self, seq: int) -> bytes | None:
        """Return a message, None if it is not stored. Raises `NotLoaded` if it would have to be read."""
        try:
            return self._messages.look(seq)
        except NotLoaded:
            if seq in self._leased:
                return self._leased[seq]
            raise

    def _hold_leased(self, seqs: Sequence[int], bodies: Sequence[bytes]) -> None:
        for seq, body in zip(seqs, bodies, strict=False):
            if seq not in self._leased and len(body) <= LEASED_BYTES:
                self._leased[seq] = body
                self._leased_bytes += len(body) + MESSAGE_OVERHEAD
                self._budget.used += len(body) + MESSAGE_OVERHEAD
        self._forget_leased(LEASED_BYTES)

    def _forget_leased(self, max_bytes: int) -> None:
        """Forget the messages that were leased first, until the others have at most this many bytes."""
        while self._leased_bytes > max_bytes:
            _, body = self._leased.popitem(last=False)
            self._leased_bytes -= len(body) + MESSAGE_OVERHEAD
            self._budget.used -= len(body) + MESSAGE_OVERHEAD

    def _room(self, now: int) -> int:
        """Return how many events the tail with the most room can take; 0 for a while after none had any."""
        if now < self._dry_until:
            return 0
        room = max(tail.room(now) for tail in self._tails)
        if not room:
            self._dry_until = now + _DRY
        return room

    def _offer(self, events: Sequence[Event], total: int, now: int) -> None:
        for tail in self._tails:
            tail.offer(events, total, now, self._budget)
