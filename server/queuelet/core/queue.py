"""A queue and the rules of its calls: adding, delivering, leasing, and removing messages.

Nothing here waits, reads a clock or does I/O. Times are arguments (nanoseconds since 1970), messages are already
encoded, and a call that has to wait leaves a callback. `advance` makes the changes that are due at a certain time, such
as ending leases; it runs before each call that depends on it, and when the queue's alarm rings. Only one thread uses a
queue at a time, so the limit is exact without locks.

A `Queue` has the calls and their order, and leaves the work to its parts: `Intake` adds messages and has the Adds that
wait for room, `States` has the state of each message and the transitions over time, `Browser` finds messages, and
`refusals` has the errors. Pop and Receive access the parts of these directly because they have to be fast. Three parts
have calls of their own: `waiters` has the calls that wait, `claims` the consumers, and `responses` the responses that
are stored for retries.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from queuelet.core import refusals
from queuelet.core.alarms import Alarms
from queuelet.core.browsing import Browser, Located, Page
from queuelet.core.budget import MemoryBudget
from queuelet.core.consumers import Claim, Claims
from queuelet.core.deadlines import NEVER
from queuelet.core.intake import Intake
from queuelet.core.leases import Leased
from queuelet.core.request_ids import ResponseCache
from queuelet.core.states import States
from queuelet.core.storage import Messages, NotLoaded, Store
from queuelet.core.tailing import Event, Tail, Tails
from queuelet.core.tokens import Tokens
from queuelet.core.waiters import Waiters
from queuelet.core.waiting import AddResult, Draft, Duplicate, TakerLine, WaitingAdd
from queuelet.definition import Counts, Durability, EventKind, MessageState, QueueDefinition, TryOutcome
from queuelet.errors import LeaseLost, QueueletError
from queuelet.ids import MessageIds
from queuelet.limits import SECOND_NS

QUEUE_OVERHEAD = 4_096
"""The memory of an empty queue without tags, in bytes."""


class Queue:
    """An ordered set of messages with an optional limit.

    The counters of `tally` are stored with the messages. The counters `refused_*` start when the queue is made or
    loaded.
    """

    def __init__(  # noqa: PLR0913  # each is a fact of its own, and all are named
        self,
        *,
        queue_id: str,
        number: int,
        created: int,
        definition: QueueDefinition,
        store: Store,
        messages: Messages,
        budget: MemoryBudget,
        tokens: Tokens,
        alarms: Alarms,
        now: int,
        revision: int = 1,
        max_waiting: int = 1_000,
        max_waiting_per_peer: int = 1_000,
    ) -> None:
        """Make a queue from a validated definition and its stored messages.

        Args:
            queue_id: the ID, in canonical form.
            number: the position among the queues of the server, in order of creation.
            created: when the queue was created, in nanoseconds since 1970.
            definition: the validated definition.
            store: the store that has the messages.
            messages: the stored messages.
            budget: counts the memory of messages.
            tokens: hands out the tokens of leases and exclusive consumers.
            alarms: call `advance` when something is due.
            now: the time, in nanoseconds since 1970.
            revision: how often the definition was set.
            max_waiting: the maximum number of calls that wait on the queue.
            max_waiting_per_peer: the maximum number of calls from one address that wait on the queue.
        """
        self.id = queue_id
        self.number = number
        self.created = created
        self.definition = definition
        self.store = store
        self.is_durable = store.is_durable
        """Whether committed changes survive a restart of the server."""
        self.revision = revision
        self.deleted = False
        self.has_moved = False
        """Whether another server owns it now."""
        self.tally = messages.tally
        self.refused_empty = 0
        self.next_event = NEVER
        self._last_counts: Counts | None = None
        self._messages = messages
        self._budget = budget
        self._alarms = alarms
        self._waiting_takers = TakerLine()
        self._ended: QueueletError | None = None
        self._states = States(
            messages, settings=definition.delivery, budget=budget, tokens=tokens, takers=self._waiting_takers
        )
        self._order = self._states.order
        self.waiters = Waiters(
            self, self._states, self._waiting_takers, most=max_waiting, most_per_peer=max_waiting_per_peer
        )
        self.claims = Claims(self, tokens=tokens, states=self._states, waiters=self.waiters)
        ids = MessageIds(messages.id_prefix)
        self._browser = Browser(messages, ids, self._states)
        self._intake = Intake(
            self,
            store=store,
            messages=messages,
            budget=budget,
            ids=ids,
            states=self._states,
            browser=self._browser,
            waiters=self.waiters,
        )
        self._waiting_adds = self._intake.waiting
        self.responses = ResponseCache(self, messages, self._intake)
        self._states.expiries.on_loaded = self._note_loaded
        self._states.restore(now)

    # Properties

    @property
    def epoch(self) -> str:
        """The epoch of its store."""
        return self.store.epoch

    @property
    def durability(self) -> Durability:
        """What committed changes of this queue survive at present."""
        return self.store.durability

    @property
    def depth(self) -> int:
        """The number of messages in all states, which is what the limit applies to."""
        return len(self._messages)

    @property
    def stored_bytes(self) -> int:
        """The size of all messages together, in bytes."""
        return self._messages.stored_bytes

    @property
    def damaged(self) -> int:
        """The number of messages that were set aside because they are damaged. `depth` does not include them."""
        return self._messages.damaged

    @property
    def label(self) -> str:
        """The name of the queue, or its ID if it has no name."""
        return self.definition.name or self.id

    @property
    def ready(self) -> int:
        """The number of ready messages."""
        return self._states.ready

    def has_ready(self, now: int) -> bool:
        """Return whether a message is ready, after overdue transitions. Raises the errors of `advance`."""
        if now >= self.next_event:
            self._catch_up(now)
        return self.ready > 0

    @property
    def counts(self) -> Counts:
        """The number of messages in each state."""
        return self._states.counts if self._last_counts is None else self._last_counts

    @property
    def refused_full(self) -> int:
        """The number of messages that were refused because the queue was full."""
        return self._intake.refused_full

    @property
    def refused_memory(self) -> int:
        """The number of messages that were refused because of the memory budget."""
        return self._intake.refused_memory

    @property
    def activity(self) -> int:
        """A number that changes whenever the counts do."""
        tally = self.tally
        return (
            tally.enqueued + tally.consumed + tally.purged + tally.leased + tally.acked + tally.nacked
            + tally.released + tally.expired + tally.buried + tally.redriven + self._states.delays_ended
        )  # fmt: skip

    @property
    def taken(self) -> int:
        """The number of messages that were ever popped or leased. It changes if a call takes any."""
        return self.tally.consumed + self.tally.leased

    @property
    def last_seq(self) -> int:
        """The sequence number of the newest message ever added."""
        return self.tally.next_seq - 1

    @property
    def oldest_lease(self) -> int:
        """When the oldest current lease began, in nanoseconds since 1970; 0 if there is none."""
        return self._states.oldest_lease

    # Adding

    def add(self, draft: Draft, now: int) -> bytes | Duplicate:
        """Add a message. Return its stored form, or the message that is already queued with the same ID.

        Raises:
            QueueDraining: the queue accepts no new messages.
            QueueFull: the queue is at its limit, or other Adds are waiting.
            MemoryExhausted: the memory budget has no room for the message.
            StoreFull: the store's disk has no space for it.
            InvalidArgument: the ID is reserved, because the server will make it for a later message.
        """
        if now >= self.next_event:
            self.advance(now)
        return self._intake.add(draft, now)

    def add_batch(self, drafts: Sequence[Draft], now: int) -> list[AddResult]:
        """Add messages in order. Return a result for each."""
        if now >= self.next_event:
            self.advance(now)
        return self._intake.add_batch(drafts, now)

    def wait_to_add(self, drafts: Sequence[Draft], done: Callable[[], None], now: int, peer: str = "") -> WaitingAdd:
        """Add messages in order, and wait for room if the queue is full. Later Adds cannot overtake.

        To stop waiting, call `give_up_adding`.

        Args:
            drafts: the messages.
            done: called once when all messages have a result, maybe before this method returns.
            now: the time.
            peer: the address that the call comes from.

        Raises:
            TooMany: the maximum number of calls wait on this queue, in all or from this address.
            MemoryExhausted: the memory budget has no room for the messages while they wait.
        """
        self._advance_if_due(now)
        return self._intake.wait_to_add(drafts, done, now, peer)

    def give_up_adding(self, waiting: WaitingAdd, now: int) -> None:
        """Stop waiting for room. Messages without a result get `QueueFull`, and the next waiting Add proceeds."""
        self._intake.give_up(waiting, now)

    # Popping and peeking

    def pop(self, now: int) -> bytes:
        """Remove and return the first ready message.

        Raises:
            QueueEmpty: no message is ready.
            QueueHeld: an exclusive consumer holds the queue.
        """
        if now >= self.next_event:
            self._catch_up(now)
        if self.claims.holder is not None:
            raise refusals.held(self)
        messages = self._messages
        if messages.ranks and self._order.ranked:
            seqs, bodies = self._order.take_many(1, 0)
            taken = (seqs[0], bodies[0])
        else:
            first = messages.take()
            if first is None:
                self.refused_empty += 1
                raise refusals.empty(self)
            taken = first
        seq, body = taken
        self.tally.consumed += 1
        if self._states.tails is not None:
            self._states.tails.report(EventKind.POPPED, (seq,), (body,), now)
        if messages.deliveries or messages.ranks:
            self._states.forget(seq)
        if self._waiting_adds:
            self._intake.wake_waiting(now)
        return body

    def pop_batch(self, maximum: int, max_bytes: int, now: int) -> list[bytes]:
        """Remove and return the first ready messages.

        It takes at most `maximum`, and at most `max_bytes` together unless the first is larger.

        Raises:
            QueueHeld: an exclusive consumer holds the queue.
        """
        if now >= self.next_event:
            self._catch_up(now)
        if self.claims.holder is not None:
            raise refusals.held(self)
        seqs, bodies = self._order.take_many(maximum, max_bytes)
        self.tally.consumed += len(bodies)
        if self._states.tails is not None:
            self._states.tails.report(EventKind.POPPED, seqs, bodies, now)
        if self._messages.deliveries or self._messages.ranks:
            for seq in seqs:
                self._states.forget(seq)
        if self._waiting_adds:
            self._intake.wake_waiting(now)
        return bodies

    def peek(self, now: int) -> bytes:
        """Return the first ready message without removing it, or raise `QueueEmpty`."""
        bodies = self.peek_batch(1, 0, now)
        if not bodies:
            self.refused_empty += 1
            raise refusals.empty(self)
        return bodies[0]

    def peek_batch(self, maximum: int, max_bytes: int, now: int) -> list[bytes]:
        """Return what `pop_batch` would return, without removing it."""
        if now >= self.next_event:
            self._catch_up(now)
        return self._order.first_many(maximum, max_bytes)[1]

    # Leasing

    def receive(  # noqa: PLR0913  # each is a fact of its own, and all are named
        self, maximum: int, max_bytes: int, now: int, *, lease: int = 0, consumer: str = "", claim: Claim | None = None
    ) -> Leased:
        """Lease the first ready messages.

        Args:
            maximum: the maximum number of messages.
            max_bytes: the maximum size of the messages together; a single message may be larger.
            now: the time.
            lease: the duration of the leases, in nanoseconds; 0 for the default of the queue.
            consumer: the name that the consumer gives itself.
            claim: the claim of the stream that receives the messages, or None if no stream does. The leases end with
                the stream, or when the queue is loaded again.

        Raises:
            QueueHeld: an exclusive consumer other than `claim` holds the queue.
        """
        if now >= self.next_event:
            self._catch_up(now)
        if self.claims.holder is not None and self.claims.holder is not claim:
            raise refusals.held(self)
        deadline = now + (lease or self.definition.delivery.lease_seconds * SECOND_NS)
        if self._states.is_voiding:
            return Leased([], 0, [], deadline)  # voided messages return, and may come before the first
        seqs, bodies = self._order.checkout_many(maximum, max_bytes)
        if not seqs:
            return Leased([], 0, [], deadline)
        first, counts = self._states.lease(seqs, deadline, now, consumer, by_stream=claim is not None)
        if self._states.tails is not None:
            self._states.tails.report(EventKind.LEASED, seqs, bodies, now, consumer)
        if self.responses.is_storing:
            self._messages.mark_changed(seqs)  # a durable response is useless without its leases
        else:
            self._messages.mark_leased(seqs)
        self.set_alarm(deadline)
        return Leased(bodies, first, counts, deadline)

    def ack(self, tokens: Sequence[int], now: int) -> list[QueueletError | None]:
        """Remove the messages of these leases. Return an error or None for each token.

        The newest token of a message is valid even after its lease has ended, until the message is redelivered,
        redriven or purged.
        """
        if now >= self.next_event:
            self.advance(now)
        if self._states.tails is not None:
            self._states.report_acked(self._states.tails, tokens, now)
        results, acked = self._states.ack(tokens)
        if acked:
            self._intake.wake_waiting(now)
        return results

    def nack(  # noqa: PLR0913  # each is a fact of its own, and all are named
        self,
        tokens: Iterable[int],
        now: int,
        *,
        delay: int = 0,
        reason: str = "",
        outcome: TryOutcome = TryOutcome.NACKED,
        dead: bool = False,
        unused: bool = False,
    ) -> list[QueueletError | None]:
        """End leases without an ack. Return an error or None for each token.

        Args:
            tokens: the tokens of the leases.
            now: the time.
            delay: how long until the messages are ready again, in nanoseconds.
            reason: why, for the history of the messages.
            outcome: how the leases ended, for the history of the messages.
            dead: whether the messages die immediately.
            unused: whether the deliveries are not counted, because no handler got the messages.
        """
        self._advance_if_due(now)
        results = self._states.nack(tokens, now, outcome, reason, now + delay, dead=dead, unused=unused)
        self.set_alarm(self._states.next_at)
        return results

    def extend(self, tokens: Sequence[int], now: int, *, lease: int = 0) -> tuple[list[QueueletError | None], int]:
        """Extend or shorten leases so that they end `lease` nanoseconds from now; 0 for the default of the queue.

        Return an error or None for each token, and the new deadline.
        """
        self._advance_if_due(now)
        deadline = now + (lease or self.definition.delivery.lease_seconds * SECOND_NS)
        results = self._states.extend(tokens, deadline)
        self.set_alarm(deadline)
        return results, deadline

    def is_leased(self, token: int) -> bool:
        """Return whether the lease of this token has not ended."""
        return not isinstance(self._states.held_by(token), QueueletError)

    def deadline_of(self, token: int) -> int:
        """Return when the lease of this token ends, in ns since 1970; 0 if it has ended."""
        held = self._states.held_by(token)
        return 0 if isinstance(held, QueueletError) else held[1].until

    def has_lost(self, token: int) -> bool:
        """Return whether the lease of this token has expired or was superseded by a newer one."""
        return isinstance(self._states.held_by(token), LeaseLost)

    @property
    def waiting_adds(self) -> int:
        """The number of calls that wait for room."""
        return len(self._waiting_adds)

    # Browsing, purging and redriving

    def find(self, message_id: bytes) -> bytes | None:
        """Return the queued message with this ID (in canonical form), or None."""
        return self._browser.find(message_id)

    def locate(self, message_ids: Iterable[bytes]) -> list[Located]:
        """Return where the messages with these IDs are, for `browse`. Some of them may not be stored."""
        return self._browser.locate(message_ids)

    def browse(  # noqa: PLR0913  # each is a fact of its own, and most are named
        self,
        place: int,
        count: int,
        states: Iterable[MessageState] = (),
        *,
        now: int,
        descending: bool = False,
        among: Sequence[Located] | None = None,
    ) -> Page:
        """Read up to `count` messages after a sequence number, in the order of the numbers. Return those in `states`.

        No states mean all states. Messages in line are only read if READY is among the states. If `descending`, the
        messages before the number are read, in the reverse order. `among` limits them to some that were located, in the
        order of their numbers.
        """
        self._advance_exactly(now)
        return self._browser.page(place, count, states, descending=descending, among=among)

    def count_ids(self, message_ids: Iterable[bytes], now: int, states: Iterable[MessageState] = ()) -> int:
        """Return how many messages `purge_ids` would remove. The IDs must differ."""
        self._advance_exactly(now)
        return self._states.count_among(self._seqs_of(message_ids), set(states))

    def purge_ids(self, message_ids: Iterable[bytes], now: int, states: Iterable[MessageState] = ()) -> int:
        """Remove the messages with these IDs, if they are in `states`. Return how many were removed."""
        return self.purge(self._seqs_of(message_ids), now, states)

    def purge(self, seqs: Sequence[int], now: int, states: Iterable[MessageState] = ()) -> int:
        """Remove the messages with these numbers, if they are in `states`. Return how many were removed.

        No states mean all states.
        """
        self._advance_exactly(now)
        self._messages.require(seqs)
        count = self._states.purge(seqs, set(states), now)
        self._intake.wake_waiting(now)
        return count

    def dead_seqs(self, message_ids: Iterable[bytes]) -> list[int]:
        """Return the sequence numbers of the dead messages with these IDs."""
        return [seq for seq in self._seqs_of(message_ids) if seq in self._states.dead]

    def _seqs_of(self, message_ids: Iterable[bytes]) -> list[int]:
        ids = list(message_ids)
        self._browser.require(ids)
        return list(self._browser.seqs_of(ids))

    def redrive(self, seqs: Iterable[int], now: int) -> int:
        """Make dead messages ready as if they had just been added. Return how many were dead.

        They keep their priority and their history. The tokens of their earlier leases become invalid.
        """
        self._advance_exactly(now)
        count = self._states.redrive(seqs, now)
        self.set_alarm(self._states.next_at)
        self._waiting_takers.wake(count)
        return count

    # Tailing

    def tail(self, tail: Tail) -> None:
        """Report to a tail what happens to the messages from now on."""
        if self._states.tails is None:
            self._states.tails = Tails(self._messages, self._budget)
        self._states.tails.add(tail)

    @property
    def tails(self) -> int:
        """The number of tails."""
        return 0 if self._states.tails is None else len(self._states.tails)

    def end_tail(self, tail: Tail) -> None:
        """Report to a tail no longer."""
        tails = self._states.tails
        if tails is not None:
            tails.remove(tail)
            if not tails:
                self._states.tails = None

    def take_events(self, tail: Tail, count: int) -> list[Event]:
        """Return what was reported to a tail, at most `count` events, with the messages that are still stored."""
        return [
            event if event.body is not None else event._replace(body=self._look(event.seq))
            for event in tail.take(count, self._budget)
        ]

    def _look(self, seq: int) -> bytes | None:
        """Return a message if it can be read at once."""
        try:
            return self._messages.look(seq) if self._states.tails is None else self._states.tails.look(seq)
        except NotLoaded:
            return None

    # Committing, changing and closing

    def commit(self, *, within: float = 0) -> Awaitable[None] | None:
        """Return an awaitable for the commit of all changes so far, as `Messages.commit` does."""
        return self._messages.commit(within=within)

    def redefine(self, definition: QueueDefinition, now: int) -> None:
        """Change the definition. If the new limit is below the depth, no messages are dropped, but Adds are refused."""
        self.check_exists()
        self.store.redefine(self.id, self.revision + 1, definition)
        self.revision += 1
        self.definition = definition
        may_be_due = self._states.redefine(definition.delivery)
        self._intake.redefine(definition)
        if may_be_due:
            self.advance(now)
        self._intake.wake_waiting(now)

    def delete(self) -> Counts:
        """Delete the queue with all messages and end waiting calls. Return the counts of the messages."""
        self.check_exists()
        self.deleted = True
        self.close(refusals.deleted(self))
        self._messages.clear()
        self.store.drop(self.id)
        return self.counts

    def close(self, error: QueueletError) -> None:
        """End all calls from now on, and those that wait, with an error. The stored messages stay."""
        if self._ended is not None:
            return
        self._last_counts = self.counts
        self._ended = error
        self.next_event = 0  # so that every call runs `advance`, which raises the error
        self._states.clear()
        if self._states.tails is not None:
            self._states.tails.wake()
        self.end_waiting(error)

    def check_exists(self) -> None:
        """Raise `QueueNotFound` or `StoreFailed` if the queue was closed, maybe while a call waited."""
        if self._ended is not None:
            raise self._ended

    @property
    def has_ended(self) -> bool:
        """Whether the queue was deleted, or its store was reopened. Such a queue must not be used any more."""
        return self._ended is not None

    def end_waiting(self, error: QueueletError) -> None:
        """End waiting Adds with an error, and wake all calls that wait for a message and all consumers."""
        self._waiting_adds.refuse(error)
        self._waiting_takers.wake_all()
        self.claims.notify_all()

    # Time

    def advance(self, now: int) -> None:
        """Make overdue transitions, up to a limit: end leases and delays, and bury expired messages.

        Raises:
            QueueNotFound: the queue was deleted.
            StoreFailed: its store failed.
        """
        self.check_exists()
        self._states.advance(now)
        self.responses.drop_old(now)
        self._intake.wake_waiting(now)
        self.next_event = NEVER
        self.set_alarm(min(self._states.next_at, self.responses.next_at))
        if self._states.expiries.is_loading:
            self.next_event = min(self.next_event, now)  # the next delivery has to check again

    def _advance_if_due(self, now: int) -> None:
        """Make overdue transitions if there are any. Frequent calls, such as Add and Ack, have the condition inline."""
        if now >= self.next_event:
            self.advance(now)

    def _advance_exactly(self, now: int) -> None:
        """Make overdue transitions, as `_advance_if_due` does. Raises `NotLoaded` if not all that are due are known."""
        if now >= self.next_event:
            self.advance(now)
            self._states.expiries.check_first()

    def _catch_up(self, now: int) -> None:
        """Make all overdue transitions that matter for a delivery: expired messages must not be delivered.

        Messages of ended leases may become ready a little later, so that this call does not wait for very many of them.
        Raises `NotLoaded` if the first message has to be loaded to know whether it has expired.
        """
        self.advance(now)
        while self._states.is_behind(now):
            self.advance(now)
        self._states.expiries.check_first()

    def _note_loaded(self) -> None:
        """Advance soon, because messages that may have expired were loaded."""
        if not self.has_ended:
            self.next_event = NEVER
            self.set_alarm(0)

    def set_alarm(self, at: int) -> None:
        """Call `advance` at this time, or earlier."""
        if at < self.next_event:
            self.next_event = at
            self._alarms.set(self)
