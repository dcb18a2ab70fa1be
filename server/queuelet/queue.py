"""A queue and its rules: who gets in, in what order messages leave, who has them, and when they are dead.

Nothing here waits, reads a clock or does I/O: times are arguments (nanoseconds since 1970), messages come encoded, and
a call that has to wait leaves a callback. What becomes due by itself is done by `advance`: before each call that may
depend on it, and when the queue's alarm rings. One thread uses a queue at a time, so the limit is exact without locks.

A message is ready, delayed, leased or dead. The ready ones stand in a `ReadyOrder`, leases in `Leases`; what became of
a message that was delivered is its `Delivery`, kept by the store beside the message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from heapq import heappop, heappush, nsmallest
from typing import NamedTuple, Protocol

from sortedcontainers import SortedList

from queuelet.alarms import Alarms
from queuelet.answers import KeptAnswers
from queuelet.bounds import UNBOUNDED
from queuelet.budget import MemoryBudget
from queuelet.claims import Claim, Claims
from queuelet.codec import HISTORY, created_of, failed_try, id_of, newest_tries
from queuelet.definition import Counts, Definition, State
from queuelet.errors import (
    InvalidArgument,
    LeaseLost,
    MemoryExhausted,
    QueueDraining,
    QueueEmpty,
    QueueFull,
    QueueHeld,
    QueueletError,
    QueueNotFound,
    TooMany,
)
from queuelet.ids import MessageIds
from queuelet.leases import LEASE_OVERHEAD, NEVER, Leases
from queuelet.message import DeathReason, Delivery, Rank, Terms, TryOutcome
from queuelet.order import RANK_OVERHEAD, ReadyOrder
from queuelet.stores import Messages, Store
from queuelet.tokens import Tokens

QUEUE_OVERHEAD = 4_096
"""What an empty queue takes, in bytes, tags aside."""

MESSAGE_COST = 160
"""What a message on its way in is taken to cost beyond its bytes when memory is nearly used up, in bytes."""

_SECOND = 1_000_000_000

_ALL_STATES = frozenset(State)

_SLICE = 1_000
"""How much is done at once of what is due by itself; the rest follows when others had their turn."""

_SLACK = 64
"""How many times may be noted in vain before it is worth sorting them out."""


class Draft(Protocol):
    """A message on its way in."""

    @property
    def own_id(self) -> bytes:
        """The id the producer gave, in canonical form; empty for none."""

    @property
    def terms(self) -> Terms | None:
        """What the producer asks for beside the content."""

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


class Leased(NamedTuple):
    """Messages that were leased together."""

    bodies: list[bytes]
    first_token: int
    """Of the first message; the others' follow it."""
    counts: list[int]
    """How often each was delivered, this time included."""
    deadline: int


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


class Queue:
    """An ordered set of messages, bounded by a limit.

    What `tally` counts is kept with the messages; `refused_*` count since the queue was made or loaded.
    """

    def __init__(  # noqa: PLR0913  # each is a fact of its own, and all are named
        self,
        *,
        queue_id: str,
        number: int,
        created: int,
        definition: Definition,
        store: Store,
        messages: Messages,
        budget: MemoryBudget,
        tokens: Tokens,
        alarms: Alarms,
        now: int,
        revision: int = 1,
        max_waiting: int = 1_000,
    ) -> None:
        """Make a queue of a checked definition over the messages a store keeps for it.

        `number` is its place among the queues of the server, by creation; `created` is in nanoseconds since 1970, and
        `max_waiting` counts the calls that may wait on it.
        """
        self.id = queue_id
        self.number = number
        self.created = created
        self.definition = definition
        self._ttl = _ttl(definition)
        """How long messages may wait before they are dead, in nanoseconds; `NEVER` for ever."""
        self.store = store
        self.is_durable = store.is_durable
        """Whether what is kept survives the end of the server."""
        self.revision = revision
        self.deleted = False
        self.tally = messages.tally
        self.refused_full = 0
        self.refused_empty = 0
        self.refused_memory = 0
        self.next_event = NEVER
        self._last_counts: Counts | None = None
        self.answers = KeptAnswers(messages, definition.name or queue_id)
        self._messages = messages
        self._budget = budget
        self._tokens = tokens
        self._alarms = alarms
        self._max_waiting = max_waiting
        self._ids = MessageIds(messages.id_prefix)
        self._order = ReadyOrder(messages)
        self._leases = Leases(tokens)
        self._leased = 0
        self._delayed: dict[int, int] = {}
        self._wakes: list[tuple[int, int]] = []
        self._expiries: list[tuple[int, int]] = []
        self._dead: SortedList[int] = SortedList()
        self._claims = Claims(tokens)
        self._ended: QueueletError | None = None
        self._waiting_adds: deque[WaitingAdd] = deque()
        self._waiting_takers: deque[Callable[[], None]] = deque()
        self._restore(now)

    # What it is and holds

    @property
    def epoch(self) -> str:
        """The epoch of its store."""
        return self.store.epoch

    @property
    def depth(self) -> int:
        """How many messages it holds, in whatever state: what the limit counts."""
        return len(self._messages)

    @property
    def stored_bytes(self) -> int:
        """The size of its messages, in bytes."""
        return self._messages.stored_bytes

    @property
    def label(self) -> str:
        """What people call it: its name, or its id."""
        return self.definition.name or self.id

    @property
    def ready(self) -> int:
        """How many messages can be taken now."""
        return len(self._messages) - self._leased - len(self._delayed) - len(self._dead)

    @property
    def counts(self) -> Counts:
        """Messages by state."""
        if self._last_counts is not None:
            return self._last_counts
        return Counts(ready=self.ready, delayed=len(self._delayed), leased=self._leased, dead=len(self._dead))

    @property
    def activity(self) -> int:
        """A number that changes whenever the counts do."""
        tally = self.tally
        return (
            tally.enqueued + tally.consumed + tally.purged + tally.leased + tally.acked + tally.nacked
            + tally.released + tally.expired + tally.buried + tally.redriven + self._woken
        )  # fmt: skip

    _woken = 0
    """Messages whose delay was over."""

    @property
    def waiting(self) -> int:
        """How many calls wait on it: for room, for a message, or to hold it."""
        return len(self._waiting_adds) + len(self._waiting_takers) + self._claims.in_line

    @property
    def last_seq(self) -> int:
        """The sequence number of the newest message ever added."""
        return self.tally.next_seq - 1

    @property
    def oldest_lease(self) -> int:
        """When the oldest of the leases began, 0 if there is none."""
        deliveries = self._messages.deliveries
        # Tokens grow, and stand in the order in which they were given.
        given = (deliveries[seq] for seq in self._leases.seqs.values())
        return next((delivery.since for delivery in given if delivery.state is State.LEASED), 0)

    # Adding

    def add(self, draft: Draft, now: int) -> bytes | Duplicate:
        """Put a message in its place and return it as stored, or what is queued under the same id.

        Raises:
            QueueDraining: the queue takes no more messages.
            QueueFull: there is no room, or others wait for it.
            MemoryExhausted: the server has no memory for it.
            StoreFull: its store has no room on disk.
            InvalidArgument: its id is one the server will make itself.
        """
        if now >= self.next_event:
            self.advance(now)
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
        """Put messages in their places in turn, each with its own result."""
        results: list[AddResult] = []
        for draft in drafts:
            try:
                results.append(self.add(draft, now))
            except QueueletError as error:
                results.append(error)
        return results

    def wait_to_add(self, drafts: Sequence[Draft], done: Callable[[], None], now: int) -> WaitingAdd:
        """Put messages in their places, waiting for room where there is none; no later Add overtakes.

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
        """Remove and return the first ready message.

        Raises:
            QueueEmpty: there is none.
            QueueHeld: an exclusive consumer holds the queue.
        """
        if now >= self.next_event:
            self.advance(now)
        if self._claims.holder is not None:
            raise self._held()
        messages = self._messages
        if messages.ranks and self._order.ranked:
            seqs, bodies = self._order.take_many(1, 0)
            taken = (seqs[0], bodies[0])
        else:
            first = messages.take()
            if first is None:
                self.refused_empty += 1
                raise self._empty()
            taken = first
        seq, body = taken
        self.tally.consumed += 1
        if messages.deliveries or messages.ranks:
            self._forget(seq)
        if self._waiting_adds:
            self._admit(now)
        return body

    def pop_batch(self, maximum: int, max_bytes: int, now: int) -> list[bytes]:
        """Remove and return the first ready messages: at most `maximum`, within `max_bytes` but one at least.

        Raises:
            QueueHeld: an exclusive consumer holds the queue.
        """
        if now >= self.next_event:
            self.advance(now)
        if self._claims.holder is not None:
            raise self._held()
        seqs, bodies = self._order.take_many(maximum, max_bytes)
        self.tally.consumed += len(bodies)
        if self._messages.deliveries or self._messages.ranks:
            for seq in seqs:
                self._forget(seq)
        if self._waiting_adds:
            self._admit(now)
        return bodies

    def peek(self, now: int) -> bytes:
        """Return the first ready message, or raise `QueueEmpty`."""
        bodies = self.peek_batch(1, 0, now)
        if not bodies:
            self.refused_empty += 1
            raise self._empty()
        return bodies[0]

    def peek_batch(self, maximum: int, max_bytes: int, now: int) -> list[bytes]:
        """Return the first ready messages: at most `maximum`, within `max_bytes` but one at least."""
        if now >= self.next_event:
            self.advance(now)
        return self._order.first_many(maximum, max_bytes)[1]

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
            self._waiting_takers.appendleft(wake)
        else:
            self._waiting_takers.append(wake)

    def give_up_waiting(self, wake: Callable[[], None]) -> None:
        """Stop waiting for a message. A waiter that was woken already passes its turn on."""
        try:
            self._waiting_takers.remove(wake)
        except ValueError:
            self._wake(min(1, self.ready))

    # Leasing

    def receive(  # noqa: PLR0913  # each is a fact of its own, and all are named
        self, maximum: int, max_bytes: int, now: int, *, lease: int = 0, consumer: str = "", claim: Claim | None = None
    ) -> Leased:
        """Lease the first ready messages: at most `maximum`, within `max_bytes` but one at least.

        Args:
            maximum: how many at most.
            max_bytes: how large the bodies may be together.
            now: the time.
            lease: how long, in nanoseconds; 0 for what the queue's settings say.
            consumer: who takes them, in its own words.
            claim: of a consumer that may be the holder.

        Raises:
            QueueHeld: somebody else holds the queue.
        """
        if now >= self.next_event:
            self.advance(now)
        if self._claims.holder is not None and self._claims.holder is not claim:
            raise self._held()
        deadline = now + (lease or self.definition.delivery.lease_seconds * _SECOND)
        seqs, bodies = self._order.lift_many(maximum, max_bytes)
        if not seqs:
            return Leased([], 0, [], deadline)
        first = token = self._leases.grant(seqs, deadline)
        deliveries = self._messages.deliveries
        known = len(deliveries)
        counts: list[int] = []
        for seq in seqs:
            delivery = deliveries.get(seq)
            if delivery is None:
                deliveries[seq] = Delivery(State.LEASED, 1, token, deadline, now, consumer)
                counts.append(1)
            else:
                counts.append(self._deliver_again(seq, delivery, token, deadline, now, consumer))
            token += 1
        self._leased += len(seqs)
        self._budget.used += LEASE_OVERHEAD * (len(deliveries) - known)
        self.tally.leased += len(seqs)
        self._messages.touch(seqs)
        self._set_alarm(deadline)
        return Leased(bodies, first, counts, deadline)

    def ack(self, tokens: Iterable[int], now: int) -> list[QueueletError | None]:
        """Remove the messages of these leases; return for each what was wrong, None where all went well.

        The newest token of a message does even when its lease is over, until the message is delivered again, redriven
        or purged.
        """
        if now >= self.next_event:
            self.advance(now)
        results: list[QueueletError | None] = []
        messages, seqs, extended = self._messages, self._leases.seqs, self._leases.extended
        deliveries, ranks, discard = messages.deliveries, messages.ranks, messages.discard
        for token in tokens:
            seq = seqs.pop(token, None)
            if seq is None:
                results.append(self._leases.refusal(token))
                continue
            delivery = deliveries.pop(seq)
            if delivery.state is State.LEASED:
                self._leased -= 1
            else:
                self._leave_state(seq, delivery)
            if delivery.superseded or extended:
                self._leases.forget(token, delivery.superseded)
            discard(seq)
            if ranks and ranks.pop(seq, None) is not None:
                self._budget.used -= RANK_OVERHEAD
            results.append(None)
        acked = results.count(None)
        self._budget.used -= LEASE_OVERHEAD * acked
        self.tally.acked += acked
        if acked:
            self._admit(now)
        return results

    def nack(
        self,
        tokens: Iterable[int],
        now: int,
        *,
        delay: int = 0,
        reason: str = "",
        outcome: TryOutcome = TryOutcome.NACKED,
    ) -> list[QueueletError | None]:
        """Give the messages of these leases back, after a delay in nanoseconds; return for each what was wrong."""
        if now >= self.next_event:
            self.advance(now)
        results: list[QueueletError | None] = []
        for token in tokens:
            held = self._held_by(token)
            if isinstance(held, QueueletError):
                results.append(held)
                continue
            self._end_try(*held, now, outcome, reason, now + delay)
            results.append(None)
        given_back = results.count(None)
        if outcome is TryOutcome.NACKED:
            self.tally.nacked += given_back
        else:
            self.tally.released += given_back
        return results

    def extend(self, tokens: Sequence[int], now: int, *, lease: int = 0) -> tuple[list[QueueletError | None], int]:
        """Have these leases end so many nanoseconds from now, 0 for what the queue's settings say.

        Return for each what was wrong, and when they end now.
        """
        if now >= self.next_event:
            self.advance(now)
        deadline = now + (lease or self.definition.delivery.lease_seconds * _SECOND)
        results: list[QueueletError | None] = []
        for token in tokens:
            held = self._held_by(token)
            if isinstance(held, QueueletError):
                results.append(held)
                continue
            seq, delivery = held
            delivery.until = deadline
            self._leases.extend(token, deadline)
            self._messages.touch((seq,))
            results.append(None)
        self.tally.extended += results.count(None)
        self._set_alarm(deadline)
        return results, deadline

    def is_leased(self, token: int) -> bool:
        """Tell whether the lease of this token goes on."""
        return not isinstance(self._held_by(token), QueueletError)

    # Consumers

    @property
    def is_held(self) -> bool:
        """Whether an exclusive consumer holds it, so that nobody else may take messages."""
        return self._claims.holder is not None

    def check_free(self) -> None:
        """Raise `QueueHeld` if an exclusive consumer holds it."""
        if self.is_held:
            raise self._held()

    def claim(self, claim: Claim) -> None:
        """Note a consumer. An exclusive one holds the queue at once if nobody does, else when all before are gone.

        Raises:
            QueueHeld: the consumer is not exclusive, and there is a holder.
            TooMany: as many calls as may wait on this queue do so already.
        """
        if claim.is_exclusive:
            self._check_waiting()
        else:
            self.check_free()
        was_held = self.is_held
        self._claims.add(claim)
        if self.is_held and not was_held:
            # Whoever else waits for a message is to hear of the holder.
            self._wake(len(self._waiting_takers))

    def release_claim(self, claim: Claim) -> None:
        """Forget a consumer. If it held the queue the next in line does, or everybody may take messages again."""
        was_held = self.is_held
        self._claims.drop(claim)
        if was_held and not self.is_held:
            self._wake(self.ready)

    # Looking and removing

    def find(self, message_id: bytes) -> bytes | None:
        """Return the queued message of this id (in canonical form), None if there is none."""
        seq = self._seq_of(message_id)
        return None if seq is None else self._messages.get(seq)

    def browse(self, after: int, count: int, states: Iterable[State] = (), *, now: int) -> Page:
        """Look at up to `count` messages past a sequence number, in the order of the numbers; return those in `states`.

        No states stand for all. Messages in line are not looked at where none of the states is READY.
        """
        if now >= self.next_event:
            self.advance(now)
        wanted = set(states) or _ALL_STATES
        if State.READY in wanted:
            rows = self._messages.after(after, count)
        else:
            rows = self._unready_after(after, count, wanted)
        browsed = (self._browsed(seq, body) for seq, body in rows)
        last = rows[-1][0] if rows else after
        return Page([each for each in browsed if each.state in wanted], last, len(rows) < count)

    def purge_ids(self, message_ids: Iterable[bytes], now: int, states: Iterable[State] = ()) -> int:
        """Remove the messages of these ids, those in `states` if any are given; return how many there were."""
        seqs = (self._seq_of(message_id) for message_id in message_ids)
        return self.purge((seq for seq in seqs if seq is not None), now, states)

    def purge(self, seqs: Iterable[int], now: int, states: Iterable[State] = ()) -> int:
        """Remove the messages of these numbers, those in `states` if any are given; return how many there were."""
        if now >= self.next_event:
            self.advance(now)
        wanted = set(states)
        count = 0
        for seq in seqs:
            if wanted and self._messages.get(seq) is not None and self._state_of(seq) not in wanted:
                continue
            delivery = self._messages.deliveries.get(seq)
            self._leave_state(seq, delivery)
            if self._messages.discard(seq) is not None:
                count += 1
            self._forget(seq)
        self.tally.purged += count
        self._admit(now)
        return count

    def dead_seqs(self, message_ids: Iterable[bytes]) -> list[int]:
        """Return the sequence numbers of those messages of these ids that are dead."""
        seqs = (self._seq_of(message_id) for message_id in message_ids)
        return [seq for seq in seqs if seq is not None and seq in self._dead]

    def redrive(self, seqs: Iterable[int], now: int) -> int:
        """Make dead messages ready, as if they had just been added; return how many there were.

        They keep their priority and their history. The tokens of earlier leases are worth nothing any more.
        """
        if now >= self.next_event:
            self.advance(now)
        count = 0
        for seq in seqs:
            if seq not in self._dead:
                continue
            self._dead.remove(seq)
            old = self._messages.ranks.get(seq)
            rank = Rank(old.priority if old else 0, now, now, old.ttl if old else 0)
            self._messages.ranks[seq] = rank
            if old is None:
                self._budget.used += RANK_OVERHEAD
            delivery = self._messages.deliveries[seq]
            self._supersede(seq, delivery)
            delivery.state, delivery.count, delivery.token, delivery.reason = State.READY, 0, 0, 0
            self._messages.touch((seq,))
            self._watch_expiry(seq)
            self._order.put(seq)
            count += 1
        self.tally.redriven += count
        self._wake(count)
        return count

    # Changing and ending

    def commit(self) -> Awaitable[None] | None:
        """Return what to wait for until all that was done is kept; None if it is."""
        return self._messages.commit()

    def redefine(self, definition: Definition, now: int) -> None:
        """Take a new definition. A limit below the depth drops nothing: it refuses until there is room."""
        self.check_exists()
        ttl_changed = _ttl(definition) != self._ttl
        self.store.redefine(self.id, self.revision + 1, definition)
        self.revision += 1
        self.definition = definition
        self._ttl = _ttl(definition)
        if definition.draining:
            self._refuse_waiting_adds(self._draining())
        if ttl_changed:
            self._expiries = []
            self._watch_expiries()
            self.advance(now)
        self._admit(now)

    def delete(self) -> Counts:
        """Drop all messages, refuse whoever waits, and return what was dropped."""
        self.check_exists()
        self.deleted = True
        self.let_go(self._deleted())
        self._messages.clear()
        self.store.drop(self.id)
        return self.counts

    def let_go(self, error: QueueletError) -> None:
        """Decide nothing any more, and refuse whoever waits or calls with an error. What the store keeps stays."""
        if self._ended is not None:
            return
        self._last_counts = self.counts
        self._ended = error
        self.next_event = 0  # so that every call comes by `advance`, which raises it
        self._budget.used -= self._beside_cost
        self._leases.clear()
        self._order.clear()
        self._delayed, self._wakes, self._expiries, self._leased = {}, [], [], 0
        self._dead.clear()
        self.end_waiting(error)

    def check_exists(self) -> None:
        """Raise why the queue has ended, if it has while a call waited: `QueueNotFound` or `StoreFailed`."""
        if self._ended is not None:
            raise self._ended

    @property
    def has_ended(self) -> bool:
        """Whether it was deleted, or its store was opened anew: nothing may be asked of it any more."""
        return self._ended is not None

    def end_waiting(self, error: QueueletError) -> None:
        """Refuse the messages that wait for room, and wake all who wait for a message and all consumers."""
        self._refuse_waiting_adds(error)
        self._wake(len(self._waiting_takers))
        self._claims.tell_all()

    # Time

    def advance(self, now: int) -> None:
        """Do what is due by now, or much of it: end leases and delays, and bury what has expired.

        Raises:
            QueueNotFound: the queue was deleted.
            StoreFailed: its store failed.
        """
        self.check_exists()
        self._end_leases(now)
        self._end_delays(now)
        self._bury_expired(now)
        self._admit(now)
        self.next_event = NEVER
        self._set_alarm(min(self._leases.next_deadline, self._next_wake(), self._next_expiry()))

    # Inside, adding

    def _append(self, draft: Draft, now: int) -> bytes:
        tally = self.tally
        seq = tally.next_seq
        own_id = draft.own_id
        if own_id and (self._ids.seq_of(own_id) or 0) >= seq:
            raise InvalidArgument(f"id: {own_id.decode()} is one the server will make itself; use another", field="id")
        if self.is_durable:
            self.store.check_room()
        body = draft.stored(own_id or self._ids.made(seq), now)
        budget = self._budget
        cost = len(body) + MESSAGE_COST
        if budget.used + cost > budget.watermark:
            self.refused_memory += 1
            budget.check(cost)
        tally.next_seq = seq + 1
        tally.enqueued += 1
        if draft.terms is None:
            self._messages.append(seq, body, own_id)
            if now + self._ttl < self.next_event:
                self._set_alarm(now + self._ttl)
        else:
            self._keep(seq, body, draft.terms.rank(now), own_id, now)
        if self._waiting_takers and not self._delayed.get(seq):
            self._wake(1)
        return body

    def _keep(self, seq: int, body: bytes, rank: Rank, own_id: bytes, now: int) -> None:
        self._messages.keep(seq, body, rank, own_id)
        self._budget.used += RANK_OVERHEAD
        self._watch_expiry(seq)
        if rank.due > now:
            self._delay(seq, rank.due)
        else:
            self._order.put(seq)

    def _fill(self, waiting: WaitingAdd, now: int) -> None:
        """Add what there is room for, in order."""
        results, limit = waiting.results, self.definition.limit
        while len(results) < len(waiting.drafts):
            draft = waiting.drafts[len(results)]
            first = self.find(draft.own_id) if draft.own_id else None
            has_room = limit == UNBOUNDED or len(self._messages) < limit
            if first is None and not has_room and not self.definition.draining:
                return
            if waiting.held:
                # It waits no longer, so that it is not counted twice.
                waiting.held -= draft.size
                self._budget.used -= draft.size
            if first is not None:
                results.append(Duplicate(first))
                continue
            if self.definition.draining:
                results.append(self._draining())
                continue
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

    # Inside, deliveries

    def _deliver_again(  # noqa: PLR0913, PLR0917  # as `receive`, of which it is a part
        self, seq: int, delivery: Delivery, token: int, deadline: int, now: int, consumer: str
    ) -> int:
        """Note another lease on a message that was delivered before; return how often it was delivered."""
        self.tally.redelivered += 1
        self._supersede(seq, delivery)
        delivery.state = State.LEASED
        delivery.count += 1
        delivery.token = token
        delivery.until = deadline
        delivery.since = now
        delivery.consumer = consumer
        return delivery.count

    def _supersede(self, seq: int, delivery: Delivery) -> None:
        """Make the newest token of a message one of its old ones."""
        if not delivery.token:
            return
        *oldest, last = (*delivery.superseded, delivery.token)
        kept = (*oldest[-HISTORY + 1 :], last)
        self._leases.forget(0, tuple(oldest[: -HISTORY + 1]))
        self._leases.supersede(seq, (last,))
        delivery.superseded = kept

    def _held_by(self, token: int) -> tuple[int, Delivery] | QueueletError:
        """Return the message that is leased under a token, or why there is none."""
        seq = self._leases.seqs.get(token)
        if seq is None:
            return self._leases.refusal(token)
        delivery = self._messages.deliveries[seq]
        if delivery.state is not State.LEASED:
            return LeaseLost(f"the lease is over: the message is {delivery.state.name.lower()} again")
        return seq, delivery

    def _end_try(  # noqa: PLR0913, PLR0917  # each is a fact of its own
        self, seq: int, delivery: Delivery, now: int, outcome: TryOutcome, reason: str, wake: int
    ) -> None:
        """End a lease without an ack: the message is dead, away for a while, or back in its place."""
        self._leased -= 1
        history = delivery.history + failed_try(outcome, delivery, now, reason)
        delivery.history = newest_tries(history) if delivery.history else history
        if delivery.count >= self.definition.delivery.max_deliveries:
            self._bury(seq, delivery, DeathReason.MAX_DELIVERIES, now)
            return
        if wake > now:
            delivery.state = State.DELAYED
            delivery.until = wake
            self._delay(seq, wake)
        else:
            delivery.state = State.READY
            self._order.put(seq)
            self._wake(1)
        self._messages.touch((seq,))
        self._watch_expiry(seq)

    def _bury(self, seq: int, delivery: Delivery, reason: DeathReason, now: int) -> None:
        """Make a message dead that is in no other state any more."""
        delivery.state = State.DEAD
        delivery.reason = reason
        delivery.since = now
        self._dead.add(seq)
        self.tally.buried += 1
        self._messages.touch((seq,))

    def _leave_state(self, seq: int, delivery: Delivery | None) -> None:
        """Take a message out of the state it is in. It stays stored, and the line sees for itself that it is gone."""
        if delivery is not None and delivery.state is State.LEASED:
            self._leased -= 1
        elif seq in self._delayed:
            del self._delayed[seq]
        elif delivery is not None and delivery.state is State.DEAD:
            self._dead.remove(seq)
        else:
            self._order.drop(seq)

    def _forget(self, seq: int) -> None:
        """Forget the delivery and the rank of a message that is gone."""
        messages = self._messages
        delivery = messages.deliveries.pop(seq, None)
        if delivery is not None:
            self._budget.used -= LEASE_OVERHEAD
            self._leases.forget(delivery.token, delivery.superseded)
        if messages.ranks and messages.ranks.pop(seq, None) is not None:
            self._budget.used -= RANK_OVERHEAD

    # Inside, time

    def _set_alarm(self, at: int) -> None:
        if at < self.next_event:
            self.next_event = at
            self._alarms.set(self)

    def _end_leases(self, now: int) -> None:
        done = 0
        while done < _SLICE and self._leases.next_deadline <= now:
            ended = self._leases.due(now)
            for token, seq in ended:
                delivery = self._messages.deliveries[seq]
                if delivery.state is State.LEASED and delivery.token == token and delivery.until <= now:
                    self.tally.expired += 1
                    self._end_try(seq, delivery, now, TryOutcome.LEASE_EXPIRED, "", now)
            done += 1 + len(ended)

    def _delay(self, seq: int, until: int) -> None:
        self._delayed[seq] = until
        heappush(self._wakes, (until, seq))
        if len(self._wakes) > 2 * len(self._delayed) + _SLACK:
            self._wakes = sorted((until, seq) for seq, until in self._delayed.items())
        self._set_alarm(until)

    def _next_wake(self) -> int:
        while self._wakes and self._delayed.get(self._wakes[0][1]) != self._wakes[0][0]:
            heappop(self._wakes)
        return self._wakes[0][0] if self._wakes else NEVER

    def _end_delays(self, now: int) -> None:
        for _ in range(_SLICE):
            if self._next_wake() > now:
                return
            _, seq = heappop(self._wakes)
            del self._delayed[seq]
            delivery = self._messages.deliveries.get(seq)
            if delivery is not None:
                delivery.state = State.READY
                self._messages.touch((seq,))
            self._order.put(seq)
            self._woken += 1
            self._wake(1)

    def _watch_expiry(self, seq: int) -> None:
        """Have an eye on when a message expires that is ready or delayed."""
        rank = self._messages.ranks.get(seq)
        if rank is not None:
            at = self._expiry_of(rank)
        elif self._ttl == NEVER:
            return
        else:
            at = created_of(self._messages.get(seq) or b"") + self._ttl
        if at == NEVER:
            return
        # Those in line expire in order, so that a look at the first is enough.
        if rank is not None or seq in self._delayed:
            heappush(self._expiries, (at, seq))
            if len(self._expiries) > 2 * (len(self._messages.ranks) + len(self._delayed)) + _SLACK:
                self._expiries = sorted({entry for entry in self._expiries if self._is_expiry(*entry)})
        self._set_alarm(at)

    def _watch_expiries(self) -> None:
        """Have an eye on when those expire that are not in line."""
        for seq in {*self._messages.ranks, *self._delayed}:
            self._watch_expiry(seq)

    def _expiry_of(self, rank: Rank) -> int:
        ttl = min(self._ttl, rank.ttl or NEVER)
        return NEVER if ttl == NEVER else rank.created + ttl

    def _is_expiry(self, at: int, seq: int) -> bool:
        """Tell whether this is still when the message expires, and it is not in line."""
        rank = self._messages.ranks.get(seq)
        return seq in self._delayed if rank is None else at == self._expiry_of(rank)

    def _next_expiry(self) -> int:
        """Return when the next message may expire that is ready or delayed."""
        while self._expiries and not self._is_expiry(*self._expiries[0]):
            heappop(self._expiries)
        at = self._expiries[0][0] if self._expiries else NEVER
        if self._ttl == NEVER:
            return at
        first = self._messages.first_many(1, 0)[1]
        return min(at, created_of(first[0]) + self._ttl) if first else at

    def _bury_expired(self, now: int) -> None:
        for _ in range(_SLICE):
            if self._next_expiry() > now:
                return
            if self._expiries and self._expiries[0][0] <= now:
                _, seq = heappop(self._expiries)
                self._expire(seq, now)
            else:
                seqs, _ = self._messages.lift_many(1, 0)
                self._expire_lifted(seqs[0], now)

    def _expire(self, seq: int, now: int) -> None:
        """Bury a message, unless somebody works on it: then it is looked at again when it comes back."""
        delivery = self._messages.deliveries.get(seq)
        if delivery is not None and delivery.state in {State.LEASED, State.DEAD}:
            return
        self._leave_state(seq, delivery)
        self._expire_lifted(seq, now)

    def _expire_lifted(self, seq: int, now: int) -> None:
        """Bury a message that is in no state any more."""
        delivery = self._messages.deliveries.get(seq)
        if delivery is None:
            delivery = self._messages.deliveries[seq] = Delivery(State.DEAD)
            self._budget.used += LEASE_OVERHEAD
        self._bury(seq, delivery, DeathReason.EXPIRED, now)

    # Inside, the rest

    def _restore(self, now: int) -> None:
        """Take up what the store has kept of messages that do not simply stand in line."""
        messages = self._messages
        self._budget.used += self._beside_cost
        for seq, delivery in messages.deliveries.items():
            self._leases.restore(seq, delivery.token, delivery.superseded)
            if delivery.state is State.LEASED:
                self._leased += 1
                self._leases.watch(delivery.token, 1, delivery.until)
            elif delivery.state is State.DEAD:
                self._dead.add(seq)
            elif delivery.state is State.DELAYED:
                self._delay(seq, delivery.until)
            else:
                self._order.put(seq)
        for seq, rank in messages.ranks.items():
            if seq in messages.deliveries:
                continue
            if rank.due > now:
                self._delay(seq, rank.due)
            else:
                self._order.put(seq)
        self._watch_expiries()
        if len(messages):
            self.advance(now)

    @property
    def _beside_cost(self) -> int:
        """What deliveries and ranks take, in bytes. The queue accounts for them, the store for the messages."""
        return LEASE_OVERHEAD * len(self._messages.deliveries) + RANK_OVERHEAD * len(self._messages.ranks)

    def _seq_of(self, message_id: bytes) -> int | None:
        """Return the sequence number of the stored message of this id, None if there is none."""
        seq = self._messages.seq_of(message_id)
        if seq is None:
            seq = self._ids.seq_of(message_id)
            body = None if seq is None else self._messages.get(seq)
            # A message to which its producer gave an id does not have the one that would have been made.
            if body is None or id_of(body) != message_id:
                return None
        return seq

    def _state_of(self, seq: int) -> State:
        delivery = self._messages.deliveries.get(seq)
        if delivery is not None:
            return delivery.state
        return State.DELAYED if seq in self._delayed else State.READY

    def _browsed(self, seq: int, body: bytes) -> Browsed:
        delivery = self._messages.deliveries.get(seq)
        state = self._state_of(seq)
        until = self._delayed.get(seq, 0)
        if delivery is not None and state is State.LEASED:
            until = delivery.until
        return Browsed(seq, body, state, until, delivery)

    def _unready_after(self, after: int, count: int, states: AbstractSet[State]) -> list[tuple[int, bytes]]:
        """Return messages past a number that are delayed, leased or dead, without a look at those in line."""
        seqs: list[int] = []
        if State.DEAD in states:
            seqs += self._dead.irange(minimum=after + 1)
        if State.DELAYED in states:
            seqs += (seq for seq in self._delayed if seq > after)
        if State.LEASED in states:
            deliveries = self._messages.deliveries.items()
            seqs += (seq for seq, delivery in deliveries if seq > after and delivery.state is State.LEASED)
        found = ((seq, self._messages.get(seq)) for seq in nsmallest(count, seqs))
        return [(seq, body) for seq, body in found if body is not None]

    def _wake(self, count: int) -> None:
        for _ in range(min(count, len(self._waiting_takers))):
            self._waiting_takers.popleft()()

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

    def _held(self) -> QueueHeld:
        return QueueHeld(
            f"queue {self.label} is held by an exclusive consumer: consume it with exclusive set, and stand in line",
            queue=self.id,
        )

    def _deleted(self) -> QueueNotFound:
        return QueueNotFound(f"queue {self.label} was deleted", queue=self.id)

    def _draining(self) -> QueueDraining:
        return QueueDraining(f"queue {self.label} is draining: it takes no more messages", queue=self.id)


def _ttl(definition: Definition) -> int:
    seconds = definition.delivery.message_ttl_seconds
    return NEVER if seconds is None else seconds * _SECOND
