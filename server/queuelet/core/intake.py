"""Adding messages to a queue: its limit, memory, duplicates, and the Adds that wait for room.

An Add that may wait joins the end of a line, and `wake_waiting` adds its messages as soon as there is room. No later
Add can overtake it, because Adds that may not wait are refused while others wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from queuelet.bounds import UNBOUNDED
from queuelet.core import refusals
from queuelet.core.browsing import Browser
from queuelet.core.budget import MESSAGE_OVERHEAD, MemoryBudget
from queuelet.core.host import Host
from queuelet.core.plain_batch import PlainBatch
from queuelet.core.states import States
from queuelet.core.storage import Messages, NotLoaded, Store
from queuelet.core.waiters import Waiters
from queuelet.core.waiting import AddLine, AddResult, Draft, Duplicate, WaitingAdd
from queuelet.definition import EventKind, MessageState, QueueDefinition
from queuelet.errors import InvalidArgument, MemoryExhausted, QueueFull, QueueletError
from queuelet.ids import MessageIds


class Intake:
    """Adds messages to one queue. Every call comes after `Queue.advance`, if that was due."""

    __slots__ = (
        "_browser",
        "_budget",
        "_expiries",
        "_ids",
        "_is_draining",
        "_is_durable",
        "_is_loading",
        "_limit",
        "_messages",
        "_queue",
        "_states",
        "_store",
        "_takers",
        "_tally",
        "_waiters",
        "is_paused",
        "refused_full",
        "refused_memory",
        "waiting",
    )

    def __init__(  # noqa: PLR0913  # each is a part of its own, and all are named
        self,
        queue: Host,
        *,
        store: Store,
        messages: Messages,
        budget: MemoryBudget,
        ids: MessageIds,
        states: States,
        browser: Browser,
        waiters: Waiters,
    ) -> None:
        self._queue = queue
        self._store = store
        self._is_durable = store.is_durable
        self._messages = messages
        self._tally = messages.tally
        self._budget = budget
        self._ids = ids
        self._states = states
        self._expiries = states.expiries
        self._browser = browser
        self._takers = waiters.takers
        self._waiters = waiters
        self._limit = queue.definition.limit
        self._is_draining = queue.definition.draining
        self.waiting = AddLine(budget)
        """The Adds that wait for room."""
        waiters.include(self.waiting)
        self._is_loading = False
        """Whether messages that have the IDs of waiting ones are being loaded."""
        self.is_paused = False
        """Whether waiting Adds do not proceed, even if there is room."""
        self.refused_full = 0
        """The number of messages that were refused because the queue was full."""
        self.refused_memory = 0
        """The number of messages that were refused because of the memory budget."""

    def redefine(self, definition: QueueDefinition) -> None:
        """Use the limit of a new definition. If it is draining, waiting Adds end with an error."""
        self._limit = definition.limit
        self._is_draining = definition.draining
        if definition.draining:
            self.waiting.refuse(refusals.draining(self._queue))

    def add(self, draft: Draft, now: int) -> bytes | Duplicate:
        """Add a message, as `Queue.add` does."""
        own_id = draft.own_id
        if own_id and (first := self._browser.find(own_id)) is not None:
            return Duplicate(first)
        if self._is_draining:
            raise refusals.draining(self._queue)
        if self.waiting or (self._limit != UNBOUNDED and len(self._messages) >= self._limit):
            self.refused_full += 1
            raise refusals.full(self._queue)
        return self._append(draft, now)

    def add_batch(self, drafts: Sequence[Draft], now: int) -> list[AddResult]:
        """Add messages in order. Return a result for each."""
        results: list[AddResult] = []
        if isinstance(drafts, PlainBatch):
            if self._has_room_for_all(drafts):
                results += self._append_all(drafts, now)
                return results
        else:
            self._browser.require(draft.own_id for draft in drafts if draft.own_id)
        full: QueueFull | None = None
        for draft in drafts:
            if full is not None and not draft.own_id:
                # The queue is still full. Making thousands of equal errors would take a tenth of a second.
                self.refused_full += 1
                results.append(full)
                continue
            try:
                results.append(self.add(draft, now))
            except QueueFull as error:
                full = error
                results.append(error)
            except QueueletError as error:
                results.append(error)
        return results

    def wait_to_add(self, drafts: Sequence[Draft], done: Callable[[], None], now: int, peer: str) -> WaitingAdd:
        """Add messages in order, and wait for room if the queue is full, as `Queue.wait_to_add` does."""
        waiting = WaitingAdd(drafts, done, peer)
        self._browser.require(draft.own_id for draft in drafts if draft.own_id)
        if not self.waiting:
            if self._limit == UNBOUNDED or len(self._messages) + len(drafts) <= self._limit:
                waiting.results = self.add_batch(drafts, now)
            else:
                self._add_while_room(waiting, now)
        if waiting.is_complete:
            done()
            return waiting
        size = sum(draft.size for draft in waiting.rest)
        try:
            self._waiters.check(peer)
            self._budget.check(size)
        except QueueletError as error:
            self.refused_memory += isinstance(error, MemoryExhausted)
            if not waiting.results:
                raise
            waiting.refuse_rest(error)
            done()
            return waiting
        self.waiting.join(waiting, size)
        return waiting

    def give_up(self, waiting: WaitingAdd, now: int) -> None:
        """Stop waiting for room. Messages without a result get `QueueFull`, and the next waiting Add proceeds."""
        if waiting in self.waiting:
            self.waiting.leave(waiting)
            self.refused_full += len(waiting.drafts) - len(waiting.results)
            waiting.refuse_rest(refusals.full(self._queue))
            self.wake_waiting(now)

    def wake_waiting(self, now: int) -> None:
        """Add the messages of waiting Adds while there is room, in FIFO order."""
        while self.waiting and not self.is_paused:
            first = self.waiting[0]
            try:
                self._add_while_room(first, now)
            except NotLoaded as missing:
                if not self._is_loading:
                    self._is_loading = True
                    missing.then(self._go_on)
                return
            if not first.is_complete:
                return
            self.waiting.complete_first()

    # Internals

    def _go_on(self) -> None:
        self._is_loading = False
        self._queue.set_alarm(0)  # `advance` wakes the waiting Adds

    def _add_while_room(self, waiting: WaitingAdd, now: int) -> None:
        """Add messages in order while there is room."""
        results = waiting.results
        while not waiting.is_complete:
            draft = waiting.drafts[len(results)]
            first = self._browser.find(draft.own_id) if draft.own_id else None
            has_room = self._limit == UNBOUNDED or len(self._messages) < self._limit
            if first is None and not has_room and not self._is_draining:
                return
            self.waiting.release(waiting, draft)
            if first is not None:
                results.append(Duplicate(first))
                continue
            if self._is_draining:
                results.append(refusals.draining(self._queue))
                continue
            try:
                results.append(self._append(draft, now))
            except QueueletError as error:
                results.append(error)

    def _append(self, draft: Draft, now: int) -> bytes:
        """Store a message for which the queue has room, if store and memory budget have room too."""
        tally = self._tally
        seq = tally.next_seq
        own_id = draft.own_id
        if own_id and (self._ids.seq_of(own_id) or 0) >= seq:
            raise InvalidArgument(f"id: {own_id.decode()} is reserved for the server itself; use another", field="id")
        if self._is_durable:
            self._store.check_room()
        body = draft.stored(own_id or self._ids.form % seq, now)
        budget = self._budget
        cost = len(body) + MESSAGE_OVERHEAD
        if budget.used + cost > budget.watermark:
            self.refused_memory += 1
            budget.check(cost)
        tally.next_seq = seq + 1
        tally.enqueued += 1
        if draft.terms is None:
            self._messages.append(seq, body, own_id)
            at = now + self._expiries.ttl
        else:
            at = self._states.add_ranked(seq, body, draft.terms.rank(now), own_id, now, draft.terms.past)
        if at < self._queue.next_event:
            self._queue.set_alarm(at)
        if self._states.tails is not None:
            self._states.tails.report(EventKind.ADDED, (seq,), (body,), now)
        if self._takers and (draft.terms is None or self._states.of(seq) is MessageState.READY):
            self._takers.wake(1)
        return body

    def _has_room_for_all(self, batch: PlainBatch) -> bool:
        """Return whether none of these messages would be refused."""
        if self._limit != UNBOUNDED and len(self._messages) + len(batch) > self._limit:
            return False
        try:
            self._budget.check(batch.size + len(batch) * MESSAGE_OVERHEAD)
            self._store.check_room()
        except QueueletError:
            return False
        return not (self.waiting or self._is_draining)

    def _append_all(self, batch: PlainBatch, now: int) -> list[bytes]:
        tally, count = self._tally, len(batch)
        bodies = batch.stored(self._ids, tally.next_seq, now)
        self._messages.append_many(tally.next_seq, bodies)
        if self._states.tails is not None:
            self._states.tails.report(EventKind.ADDED, range(tally.next_seq, tally.next_seq + count), bodies, now)
        tally.next_seq += count
        tally.enqueued += count
        self._queue.set_alarm(now + self._expiries.ttl)
        self._takers.wake(count)
        return bodies
