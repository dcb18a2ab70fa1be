"""A queue and its rules: who gets in, in what order messages leave, who waits.

Nothing here waits, reads a clock or does I/O: times are arguments (nanoseconds since 1970), messages come encoded, and
a call that has to wait leaves a callback. One thread uses a queue at a time, so the limit is exact without locks.

Order is that of the sequence numbers a queue gives at Add.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from queuelet.bounds import UNBOUNDED
from queuelet.budget import MemoryBudget
from queuelet.definition import Counts, Definition
from queuelet.errors import (
    InvalidArgument,
    MemoryExhausted,
    QueueDraining,
    QueueEmpty,
    QueueFull,
    QueueletError,
    QueueNotFound,
    TooMany,
)
from queuelet.ids import MessageIds
from queuelet.stores import Messages

MESSAGE_OVERHEAD = 160
"""What a stored message takes beyond its encoded bytes, in bytes: its objects and its places in index and line.

Measured at 1,000,000 messages; tests/unit/test_memory_overhead.py holds it true.
"""

OWN_ID_OVERHEAD = 160
"""What an id that a producer gave takes beside, in bytes: it is indexed both ways."""

QUEUE_OVERHEAD = 4_096
"""What an empty queue takes, in bytes, tags aside."""


class Draft(Protocol):
    """A message on its way in."""

    @property
    def own_id(self) -> bytes:
        """The id the producer gave, in canonical form; empty for none."""

    @property
    def size(self) -> int:
        """About how many bytes it takes, for the memory budget."""

    def stored(self, message_id: bytes, created: int) -> bytes:
        """Return the message in the form in which it is kept and answered."""


class Duplicate(NamedTuple):
    """The queued message whose id a producer gave again."""

    body: bytes


AddResult = bytes | Duplicate | QueueletError
"""What became of a message: it is stored (in the form in which it is answered), was there before, or was refused."""


class WaitingAdd:
    """Messages that wait for room, and the results so far. `done` is called once, when every message has its result."""

    def __init__(self, drafts: Sequence[Draft], done: Callable[[], None]) -> None:
        """Take the messages of a call."""
        self.drafts = drafts
        self.results: list[AddResult] = []
        self.done = done
        self.held = 0
        """Bytes of the messages that wait, as the memory budget counts them."""

    def refuse_rest(self, error: QueueletError) -> None:
        """Give the messages still waiting an error."""
        self.results += [error] * (len(self.drafts) - len(self.results))


class Queue:
    """An ordered set of messages, bounded by a limit.

    Counters are plain integers that metrics read at a scrape; they count since the queue was made or loaded.
    """

    def __init__(  # noqa: PLR0913  # each is a fact of its own, and all are named
        self,
        *,
        queue_id: str,
        number: int,
        created: int,
        definition: Definition,
        epoch: str,
        messages: Messages,
        budget: MemoryBudget,
        max_waiting: int = 1_000,
        ids: MessageIds | None = None,
    ) -> None:
        """Make a queue of a checked definition over the messages a store keeps for it.

        `number` is its place among the queues of the server, by creation; `created` is in nanoseconds since 1970, and
        `max_waiting` counts the calls that may wait on it.
        """
        self.id = queue_id
        self.number = number
        self.created = created
        self.definition = definition
        self.epoch = epoch
        self.revision = 1
        self.deleted = False
        self.enqueued = 0
        self.consumed = 0
        self.purged = 0
        self.refused_full = 0
        self.refused_empty = 0
        self.refused_memory = 0
        self.stored_bytes = 0
        self._messages = messages
        self._budget = budget
        self._max_waiting = max_waiting
        self._ids = ids or MessageIds()
        self._next_seq = 1
        self._waiting_adds: deque[WaitingAdd] = deque()
        self._waiting_pops: deque[Callable[[], None]] = deque()

    @property
    def depth(self) -> int:
        """How many messages it holds, in whatever state: what the limit counts."""
        return len(self._messages)

    @property
    def label(self) -> str:
        """What people call it: its name, or its id."""
        return self.definition.name or self.id

    @property
    def has_ready(self) -> bool:
        """Whether there is a message to take."""
        return len(self._messages) > 0

    @property
    def counts(self) -> Counts:
        """Messages by state."""
        return Counts(ready=len(self._messages))

    @property
    def activity(self) -> int:
        """A number that changes whenever the counts do."""
        return self.enqueued + self.consumed + self.purged

    @property
    def waiting(self) -> int:
        """How many calls wait on it."""
        return len(self._waiting_adds) + len(self._waiting_pops)

    # Adding

    def add(self, draft: Draft, now: int) -> bytes | Duplicate:
        """Put a message at the end and return it as stored, or what is queued under the same id.

        Raises:
            QueueDraining: the queue takes no more messages.
            QueueFull: there is no room, or others wait for it.
            MemoryExhausted: the server has no memory for it.
            InvalidArgument: its id is one the server will make itself.
        """
        own_id = draft.own_id
        if own_id and (first := self.find(own_id)) is not None:
            return Duplicate(first)
        if self.definition.draining:
            raise self._draining()
        if self._waiting_adds or len(self._messages) >= self.definition.limit != UNBOUNDED:
            self.refused_full += 1
            raise self._full()
        return self._append(draft, now)

    def add_batch(self, drafts: Iterable[Draft], now: int) -> list[AddResult]:
        """Put messages at the end in their order, each with its own result."""
        results: list[AddResult] = []
        for draft in drafts:
            try:
                results.append(self.add(draft, now))
            except QueueletError as error:
                results.append(error)
        return results

    def wait_to_add(self, drafts: Sequence[Draft], done: Callable[[], None], now: int) -> WaitingAdd:
        """Put messages at the end, waiting for room where there is none; no later Add overtakes.

        `done` is called once all have a result, which may be before this returns. Whoever cannot wait any longer calls
        `give_up_adding`.

        Raises:
            TooMany: as many calls as may wait on this queue do so already.
            MemoryExhausted: the server has no memory to keep the messages while they wait.
        """
        waiting = WaitingAdd(drafts, done)
        if not self._waiting_adds:
            self._fill(waiting, now)
        if len(waiting.results) == len(drafts):
            done()
            return waiting
        size = sum(draft.size for draft in drafts[len(waiting.results) :])
        try:
            self._check_waiting()
            self._budget.check(size)
        except QueueletError as error:
            self.refused_memory += isinstance(error, MemoryExhausted)
            if not waiting.results:
                raise
            waiting.refuse_rest(error)
            done()
            return waiting
        waiting.held = size
        self._budget.used += size
        self._waiting_adds.append(waiting)
        return waiting

    def give_up_adding(self, waiting: WaitingAdd, now: int) -> None:
        """Stop waiting for room: messages without a result get `QueueFull`, and the next in line moves up."""
        if waiting in self._waiting_adds:
            self._waiting_adds.remove(waiting)
            self._budget.used -= waiting.held
            self.refused_full += len(waiting.drafts) - len(waiting.results)
            waiting.refuse_rest(self._full())
            self._admit(now)

    # Taking

    def pop(self, now: int) -> bytes:
        """Remove and return the first ready message, or raise `QueueEmpty`."""
        taken = self._messages.take()
        if taken is None:
            self.refused_empty += 1
            raise self._empty()
        seq, body = taken
        size = len(body)
        self.consumed += 1
        self.stored_bytes -= size
        self._budget.used -= size + MESSAGE_OVERHEAD
        if self._ids.given:
            self._forget_id(seq)
        if self._waiting_adds:
            self._admit(now)
        return body

    def pop_batch(self, maximum: int, max_bytes: int, now: int) -> list[bytes]:
        """Remove and return the first ready messages: at most `maximum`, within `max_bytes` but one at least."""
        seqs, bodies = self._messages.take_many(maximum, max_bytes)
        self.consumed += len(bodies)
        self._forget(len(bodies), sum(map(len, bodies)))
        if self._ids.given:
            for seq in seqs:
                self._forget_id(seq)
        if self._waiting_adds:
            self._admit(now)
        return bodies

    def peek(self) -> bytes:
        """Return the first ready message, or raise `QueueEmpty`."""
        bodies = self._messages.head(1, 0)
        if not bodies:
            self.refused_empty += 1
            raise self._empty()
        return bodies[0]

    def peek_batch(self, maximum: int, max_bytes: int) -> list[bytes]:
        """Return the first ready messages: at most `maximum`, within `max_bytes` but one at least."""
        return self._messages.head(maximum, max_bytes)

    def wait_for_message(self, wake: Callable[[], None], *, first: bool = False) -> None:
        """Have `wake` called once when there is a message to try for; it may be gone by the time it is tried for.

        Args:
            wake: called at most once.
            first: stand before the others, for a waiter that was woken and came too late.

        Raises:
            TooMany: as many calls as may wait on this queue do so already.
        """
        self._check_waiting()
        if first:
            self._waiting_pops.appendleft(wake)
        else:
            self._waiting_pops.append(wake)

    def give_up_popping(self, wake: Callable[[], None]) -> None:
        """Stop waiting for a message. A waiter that was woken already passes its turn on."""
        try:
            self._waiting_pops.remove(wake)
        except ValueError:
            self._wake(min(1, len(self._messages)))

    # Looking and removing

    def find(self, message_id: bytes) -> bytes | None:
        """Return the queued message of this id (in canonical form), None if there is none."""
        seq = self._ids.seq_of(message_id)
        return None if seq is None else self._messages.get(seq)

    def browse(self, after: int, count: int) -> list[tuple[int, bytes]]:
        """Return up to `count` messages in order, each with its sequence number, past the number `after`."""
        return self._messages.after(after, count)

    def purge_ids(self, message_ids: Iterable[bytes], now: int) -> int:
        """Remove the messages of these ids; return how many there were."""
        seqs = (self._ids.seq_of(message_id) for message_id in message_ids)
        return self.purge((seq for seq in seqs if seq is not None), now)

    def purge(self, seqs: Iterable[int], now: int) -> int:
        """Remove the messages of these sequence numbers; return how many there were."""
        count = size = 0
        for seq in seqs:
            body = self._messages.discard(seq)
            if body is not None:
                count += 1
                size += len(body)
                self._forget_id(seq)
        self.purged += count
        self._forget(count, size)
        self._admit(now)
        return count

    @property
    def last_seq(self) -> int:
        """The sequence number of the newest message ever added."""
        return self._next_seq - 1

    # Changing and ending

    def redefine(self, definition: Definition, now: int) -> None:
        """Take a new definition. A limit below the depth drops nothing: it refuses until there is room."""
        self.definition = definition
        self.revision += 1
        if definition.draining:
            self._refuse_waiting_adds(self._draining())
        self._admit(now)

    def delete(self) -> Counts:
        """Drop all messages, refuse whoever waits, and return what was dropped."""
        counts = self.counts
        self.deleted = True
        self._messages.clear()
        self._forget(counts.total, self.stored_bytes)
        self._budget.used -= OWN_ID_OVERHEAD * len(self._ids.given)
        self._ids.clear()
        self.end_waiting(self._deleted())
        return counts

    def check_exists(self) -> None:
        """Raise `QueueNotFound` if the queue was deleted while a call waited."""
        if self.deleted:
            raise self._deleted()

    def end_waiting(self, error: QueueletError) -> None:
        """Refuse the messages that wait for room, and wake all who wait for a message."""
        self._refuse_waiting_adds(error)
        self._wake(len(self._waiting_pops))

    # Inside

    def _append(self, draft: Draft, now: int) -> bytes:
        seq = self._next_seq
        own_id = draft.own_id
        if own_id and self._ids.is_to_be_made(own_id, seq):
            raise InvalidArgument(f"id: {own_id.decode()} is one the server will make itself; use another", field="id")
        body = draft.stored(own_id or self._ids.made(seq), now)
        size = len(body)
        budget = self._budget
        cost = size + MESSAGE_OVERHEAD + (OWN_ID_OVERHEAD if own_id else 0)
        if budget.used + cost > budget.watermark:
            self.refused_memory += 1
            budget.check(cost)
        budget.used += cost
        self._next_seq = seq + 1
        self._messages.append(seq, body)
        self.stored_bytes += size
        self.enqueued += 1
        if own_id:
            self._ids.give(seq, own_id)
        if self._waiting_pops:
            self._wake(1)
        return body

    def _fill(self, waiting: WaitingAdd, now: int) -> None:
        """Add what there is room for, in order."""
        results, limit = waiting.results, self.definition.limit
        while len(results) < len(waiting.drafts):
            draft = waiting.drafts[len(results)]
            first = self.find(draft.own_id) if draft.own_id else None
            if first is not None:
                results.append(Duplicate(first))
                continue
            if self.definition.draining:
                results.append(self._draining())
                continue
            if len(self._messages) >= limit != UNBOUNDED:
                return
            if waiting.held:
                # It waits no longer, so that it is not counted twice.
                waiting.held -= draft.size
                self._budget.used -= draft.size
            try:
                results.append(self._append(draft, now))
            except QueueletError as error:
                results.append(error)

    def _admit(self, now: int) -> None:
        """Let those who wait for room have what there is, first come first served."""
        while self._waiting_adds:
            waiting = self._waiting_adds[0]
            self._fill(waiting, now)
            if len(waiting.results) < len(waiting.drafts):
                return
            self._waiting_adds.popleft()
            self._budget.used -= waiting.held
            waiting.done()

    def _refuse_waiting_adds(self, error: QueueletError) -> None:
        while self._waiting_adds:
            waiting = self._waiting_adds.popleft()
            self._budget.used -= waiting.held
            waiting.refuse_rest(error)
            waiting.done()

    def _wake(self, count: int) -> None:
        for _ in range(min(count, len(self._waiting_pops))):
            self._waiting_pops.popleft()()

    def _forget(self, count: int, size: int) -> None:
        self.stored_bytes -= size
        self._budget.used -= size + count * MESSAGE_OVERHEAD

    def _forget_id(self, seq: int) -> None:
        if self._ids.forget(seq):
            self._budget.used -= OWN_ID_OVERHEAD

    def _check_waiting(self) -> None:
        if self.waiting >= self._max_waiting:
            raise TooMany(
                f"queue {self.label} has {self.waiting:,} calls waiting, the most it may have: "
                "try again later, or raise --max-waiting",
                queue=self.id,
                waiting=self.waiting,
            )

    def _full(self) -> QueueFull:
        counts, limit = self.counts, self.definition.limit
        return QueueFull(
            f"queue {self.label} is full: it holds {counts} of at most {limit:,} messages; "
            "take some out, raise its limit, or ask to wait",
            queue=self.id,
            limit=limit,
            **counts._asdict(),
        )

    def _empty(self) -> QueueEmpty:
        return QueueEmpty(f"queue {self.label} has no message that is ready", queue=self.id)

    def _deleted(self) -> QueueNotFound:
        return QueueNotFound(f"queue {self.label} was deleted", queue=self.id)

    def _draining(self) -> QueueDraining:
        return QueueDraining(f"queue {self.label} is draining: it takes no more messages", queue=self.id)
