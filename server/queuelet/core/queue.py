"""A queue and the rules of its calls: adding, delivering, leasing, and removing messages.

Nothing here waits, reads a clock or does I/O. Times are arguments (nanoseconds since 1970), messages are already
encoded, and a call that has to wait leaves a callback. `advance` makes the changes that are due at a certain time, such
as ending leases; it runs before each call that depends on it, and when the queue's alarm rings. Only one thread uses a
queue at a time, so the limit is exact without locks.

A `Queue` has the rules of the calls. `States` has the state of each message and the transitions over time. An `AddLine`
and a `TakerLine` have the waiting calls, `Claims` the consumers, `Browser` finds messages, and `refusals` has the
errors. Add, Pop, Receive and Ack access the parts of these directly, because they have to be fast.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from queuelet.bounds import UNBOUNDED
from queuelet.core import refusals
from queuelet.core.alarms import Alarms
from queuelet.core.browsing import Browser, Page
from queuelet.core.budget import MESSAGE_OVERHEAD, MemoryBudget
from queuelet.core.consumers import Claim, Claims
from queuelet.core.deadlines import NEVER
from queuelet.core.leases import LEASE_OVERHEAD, Leased
from queuelet.core.message import Delivery, TryOutcome
from queuelet.core.order import RANK_OVERHEAD
from queuelet.core.plain_batch import PlainBatch
from queuelet.core.request_ids import ResponseCache
from queuelet.core.states import States
from queuelet.core.storage import Messages, Store
from queuelet.core.tokens import Tokens
from queuelet.core.waiting import AddLine, AddResult, Draft, Duplicate, TakerLine, Waiter, WaitingAdd
from queuelet.definition import Counts, Definition, State
from queuelet.errors import InvalidArgument, LeaseLost, MemoryExhausted, QueueFull, QueueletError
from queuelet.ids import MessageIds

QUEUE_OVERHEAD = 4_096
"""The memory of an empty queue without tags, in bytes."""

_SECOND = 1_000_000_000


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
        definition: Definition,
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
        self.tally = messages.tally
        self.refused_full = 0
        self.refused_empty = 0
        self.refused_memory = 0
        self.refused_waiting = 0
        self.next_event = NEVER
        self._last_counts: Counts | None = None
        self._keeps_answer = False
        self.answers = ResponseCache(messages, definition.name or queue_id)
        self._messages = messages
        self._budget = budget
        self._alarms = alarms
        self._max_waiting = max_waiting
        self._max_waiting_per_peer = max_waiting_per_peer
        self._claims = Claims(tokens)
        self._waiting_adds = AddLine(budget)
        self._waiting_takers = TakerLine()
        self._ended: QueueletError | None = None
        self._states = States(
            messages, settings=definition.delivery, budget=budget, tokens=tokens, takers=self._waiting_takers
        )
        # Attributes of their own, because the fast calls use them.
        self._order, self._leases, self._expiries = self._states.order, self._states.leases, self._states.expiries
        self._ids = MessageIds(messages.id_prefix)
        self._browser = Browser(messages, self._ids, self._states)
        self._states.restore(now)
        if len(messages):
            self.advance(now)

    # Properties

    @property
    def epoch(self) -> str:
        """The epoch of its store."""
        return self.store.epoch

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
    def activity(self) -> int:
        """A number that changes whenever the counts do."""
        tally = self.tally
        return (
            tally.enqueued + tally.consumed + tally.purged + tally.leased + tally.acked + tally.nacked
            + tally.released + tally.expired + tally.buried + tally.redriven + self._states.woken
        )  # fmt: skip

    @property
    def waiting(self) -> int:
        """The number of calls that wait: for room, for a message, or to become the exclusive consumer."""
        return len(self._waiting_adds) + len(self._waiting_takers) + self._claims.in_line

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
        own_id = draft.own_id
        if own_id and (first := self.find(own_id)) is not None:
            return Duplicate(first)
        if self.definition.draining:
            raise refusals.draining(self)
        if self._waiting_adds or len(self._messages) >= self.definition.limit != UNBOUNDED:
            self.refused_full += 1
            raise refusals.full(self)
        return self._append(draft, now)

    def add_batch(self, drafts: Sequence[Draft], now: int) -> list[AddResult]:
        """Add messages in order. Return a result for each."""
        results: list[AddResult] = []
        if isinstance(drafts, PlainBatch) and self._has_room_for_all(drafts, now):
            results += self._append_all(drafts, now)
            return results
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
        if now >= self.next_event:
            self.advance(now)
        waiting = WaitingAdd(drafts, done, peer)
        if not self._waiting_adds:
            limit = self.definition.limit
            if limit == UNBOUNDED or len(self._messages) + len(drafts) <= limit:
                waiting.results = self.add_batch(drafts, now)
            else:
                self._add_while_room(waiting, now)
        if waiting.is_complete:
            done()
            return waiting
        size = sum(draft.size for draft in waiting.rest)
        try:
            self._check_waiting(peer)
            self._budget.check(size)
        except QueueletError as error:
            self.refused_memory += isinstance(error, MemoryExhausted)
            if not waiting.results:
                raise
            waiting.refuse_rest(error)
            done()
            return waiting
        self._waiting_adds.join(waiting, size)
        return waiting

    def give_up_adding(self, waiting: WaitingAdd, now: int) -> None:
        """Stop waiting for room. Messages without a result get `QueueFull`, and the next waiting Add proceeds."""
        if waiting in self._waiting_adds:
            self._waiting_adds.leave(waiting)
            self.refused_full += len(waiting.drafts) - len(waiting.results)
            waiting.refuse_rest(refusals.full(self))
            self._wake_waiting_adds(now)

    # Popping and peeking

    def pop(self, now: int) -> bytes:
        """Remove and return the first ready message.

        Raises:
            QueueEmpty: no message is ready.
            QueueHeld: an exclusive consumer holds the queue.
        """
        if now >= self.next_event:
            self._catch_up(now)
        if self._claims.holder is not None:
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
        if messages.deliveries or messages.ranks:
            self._states.forget(seq)
        if self._waiting_adds:
            self._wake_waiting_adds(now)
        return body

    def pop_batch(self, maximum: int, max_bytes: int, now: int) -> list[bytes]:
        """Remove and return the first ready messages.

        It takes at most `maximum`, and at most `max_bytes` together unless the first is larger.

        Raises:
            QueueHeld: an exclusive consumer holds the queue.
        """
        if now >= self.next_event:
            self._catch_up(now)
        if self._claims.holder is not None:
            raise refusals.held(self)
        seqs, bodies = self._order.take_many(maximum, max_bytes)
        self.tally.consumed += len(bodies)
        if self._messages.deliveries or self._messages.ranks:
            for seq in seqs:
                self._states.forget(seq)
        if self._waiting_adds:
            self._wake_waiting_adds(now)
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

    def wait_for_message(self, waiter: Waiter, *, first: bool = False) -> None:
        """Wake a waiter when a message is ready. Another call may take that message first.

        Args:
            waiter: woken at most once.
            first: whether to wait before the others, because it was woken and another call took the message.

        Raises:
            TooMany: the maximum number of calls wait on this queue, in all or from this address.
        """
        self._check_waiting(waiter.peer)
        if first:
            self._waiting_takers.appendleft(waiter)
        else:
            self._waiting_takers.append(waiter)

    def stop_waiting(self, waiter: Waiter) -> bool:
        """Stop waiting for a message. Return whether the waiter was still waiting, that is, not woken before."""
        try:
            self._waiting_takers.remove(waiter)
        except ValueError:
            return False
        return True

    def give_up_waiting(self, waiter: Waiter) -> None:
        """Stop waiting for a message. If the waiter was woken already, wake the next one instead."""
        if not self.stop_waiting(waiter):
            self.pass_turn()

    def pass_turn(self) -> None:
        """Wake the next waiter if a message is ready, because the last one that was woken may have taken none."""
        self._waiting_takers.wake(min(1, self.ready))

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
        if self._claims.holder is not None and self._claims.holder is not claim:
            raise refusals.held(self)
        deadline = now + (lease or self.definition.delivery.lease_seconds * _SECOND)
        if self._states.is_voiding:
            return Leased([], 0, [], deadline)  # voided messages return, and may come before the first
        seqs, bodies = self._order.checkout_many(maximum, max_bytes)
        if not seqs:
            return Leased([], 0, [], deadline)
        first = token = self._leases.grant(seqs, deadline)
        deliveries = self._messages.deliveries
        known = len(deliveries)
        counts: list[int] = []
        by_stream = claim is not None
        for seq in seqs:
            delivery = deliveries.get(seq)
            if delivery is None:
                delivery = deliveries[seq] = Delivery(State.LEASED, 1, token, deadline, now, consumer)
                counts.append(1)
            else:
                counts.append(self._states.deliver_again(seq, delivery, token, deadline, now, consumer))
            delivery.by_stream = by_stream
            token += 1
        self._states.leased += len(seqs)
        self._budget.used += LEASE_OVERHEAD * (len(deliveries) - known)
        self.tally.leased += len(seqs)
        if self._keeps_answer:
            self._messages.mark_changed(seqs)  # a durable response is useless without its leases
        else:
            self._messages.mark_leased(seqs)
        self._set_alarm(deadline)
        return Leased(bodies, first, counts, deadline)

    def ack(self, tokens: Iterable[int], now: int) -> list[QueueletError | None]:
        """Remove the messages of these leases. Return an error or None for each token.

        The newest token of a message is valid even after its lease has ended, until the message is redelivered,
        redriven or purged.
        """
        if now >= self.next_event:
            self.advance(now)
        results: list[QueueletError | None] = []
        messages, seqs, extended = self._messages, self._leases.seqs, self._leases.extended
        deliveries, ranks, discard = messages.deliveries, messages.ranks, messages.discard
        ended = 0
        for token in tokens:
            seq = seqs.pop(token, None)
            if seq is None:
                results.append(self._leases.refusal(token))
                continue
            delivery = deliveries.pop(seq)
            if delivery.state is State.LEASED:
                ended += 1
            else:
                self._states.leave(seq, delivery)
            if delivery.superseded or extended:
                self._leases.forget(token, delivery.superseded)
            discard(seq)
            if ranks and ranks.pop(seq, None) is not None:
                self._budget.used -= RANK_OVERHEAD
            results.append(None)
        self._states.leased -= ended
        acked = results.count(None)
        self._budget.used -= LEASE_OVERHEAD * acked
        self.tally.acked += acked
        if acked:
            self._wake_waiting_adds(now)
        return results

    def nack(  # noqa: PLR0913  # as `receive`
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
        if now >= self.next_event:
            self.advance(now)
        results: list[QueueletError | None] = []
        for token in tokens:
            held = self._states.held_by(token)
            if isinstance(held, QueueletError):
                results.append(held)
                continue
            self._states.end_try(*held, now, outcome, reason, now + delay, dead=dead, unused=unused)
            results.append(None)
        ended = results.count(None)
        if outcome is TryOutcome.NACKED:
            self.tally.nacked += ended
        else:
            self.tally.released += ended
        self._set_alarm(self._states.next_at)
        return results

    def extend(self, tokens: Sequence[int], now: int, *, lease: int = 0) -> tuple[list[QueueletError | None], int]:
        """Let leases end `lease` nanoseconds from now; 0 for the default of the queue.

        Return an error or None for each token, and the new deadline.
        """
        if now >= self.next_event:
            self.advance(now)
        deadline = now + (lease or self.definition.delivery.lease_seconds * _SECOND)
        results: list[QueueletError | None] = []
        for token in tokens:
            held = self._states.held_by(token)
            if isinstance(held, QueueletError):
                results.append(held)
                continue
            self._states.extend(*held, deadline)
            results.append(None)
        self.tally.extended += results.count(None)
        self._set_alarm(deadline)
        return results, deadline

    def is_leased(self, token: int) -> bool:
        """Return whether the lease of this token has not ended."""
        return not isinstance(self._states.held_by(token), QueueletError)

    def has_lost(self, token: int) -> bool:
        """Return whether the lease of this token has expired or was superseded by a newer one."""
        return isinstance(self._states.held_by(token), LeaseLost)

    # Consumers

    @property
    def is_held(self) -> bool:
        """Whether an exclusive consumer holds the queue, so that no other call may take messages."""
        return self._claims.holder is not None

    def check_free(self) -> None:
        """Raise `QueueHeld` if an exclusive consumer holds the queue."""
        if self.is_held:
            raise refusals.held(self)

    def claim(self, claim: Claim) -> None:
        """Add a consumer. An exclusive one becomes the holder now if there is none, otherwise after those before it.

        When a consumer becomes the holder all leases end, and their messages return to their old positions before it
        gets the first message.

        Raises:
            QueueHeld: the consumer is not exclusive, and there is a holder.
            TooMany: the maximum number of calls wait on this queue, in all or from this address.
        """
        if claim.is_exclusive:
            self._check_waiting(claim.peer)
        else:
            self.check_free()
        was_held = self.is_held
        self._claims.add(claim)
        if self.is_held and not was_held:
            self._void_leases()
            # Calls that wait for a message have to be refused now.
            self._waiting_takers.wake_all()

    def release_claim(self, claim: Claim) -> None:
        """Remove a consumer. If it held the queue, the next exclusive one does, or all calls may take messages."""
        before = self._claims.holder
        self._claims.drop(claim)
        if before is self._claims.holder:
            return
        if self.is_held:
            self._void_leases()
        else:
            self._waiting_takers.wake(self.ready)

    # Browsing, purging and redriving

    def find(self, message_id: bytes) -> bytes | None:
        """Return the queued message with this ID (in canonical form), or None."""
        seq = self._browser.seq_of(message_id)
        return None if seq is None else self._messages.get(seq)

    def browse(self, after: int, count: int, states: Iterable[State] = (), *, now: int) -> Page:
        """Read up to `count` messages after a sequence number, in the order of the numbers. Return those in `states`.

        No states mean all states. Messages in line are only read if READY is among the states.
        """
        if now >= self.next_event:
            self.advance(now)
        return self._browser.page(after, count, states)

    def purge_ids(self, message_ids: Iterable[bytes], now: int, states: Iterable[State] = ()) -> int:
        """Remove the messages with these IDs, if they are in `states`. Return how many were removed."""
        return self.purge(self._browser.seqs_of(message_ids), now, states)

    def purge(self, seqs: Iterable[int], now: int, states: Iterable[State] = ()) -> int:
        """Remove the messages with these numbers, if they are in `states`. Return how many were removed.

        No states mean all states.
        """
        if now >= self.next_event:
            self.advance(now)
        wanted = set(states)
        count = 0
        for seq in seqs:
            if wanted and self._messages.get(seq) is not None and self._states.of(seq) not in wanted:
                continue
            self._states.leave(seq, self._messages.deliveries.get(seq))
            if self._messages.discard(seq) is not None:
                count += 1
            self._states.forget(seq)
        self.tally.purged += count
        self._wake_waiting_adds(now)
        return count

    def dead_seqs(self, message_ids: Iterable[bytes]) -> list[int]:
        """Return the sequence numbers of the dead messages with these IDs."""
        return [seq for seq in self._browser.seqs_of(message_ids) if seq in self._states.dead]

    def redrive(self, seqs: Iterable[int], now: int) -> int:
        """Make dead messages ready as if they had just been added. Return how many were dead.

        They keep their priority and their history. The tokens of their earlier leases become invalid.
        """
        if now >= self.next_event:
            self.advance(now)
        count = sum(self._states.redrive(seq, now) for seq in seqs)
        self.tally.redriven += count
        self._set_alarm(self._states.next_at)
        self._waiting_takers.wake(count)
        return count

    # Committing, changing and closing

    def commit(self, *, within: float = 0) -> Awaitable[None] | None:
        """Return an awaitable for the commit of all changes so far, as `Messages.commit` does."""
        return self._messages.commit(within=within)

    def redefine(self, definition: Definition, now: int) -> None:
        """Change the definition. If the new limit is below the depth, no messages are dropped, but Adds are refused."""
        self.check_exists()
        self.store.redefine(self.id, self.revision + 1, definition)
        self.revision += 1
        self.definition = definition
        may_be_due = self._states.redefine(definition.delivery)
        if definition.draining:
            self._waiting_adds.refuse(refusals.draining(self))
        if may_be_due:
            self.advance(now)
        self._wake_waiting_adds(now)

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
        self._claims.notify_all()

    # Time

    def advance(self, now: int) -> None:
        """Make overdue transitions, up to a limit: end leases and delays, and bury expired messages.

        Raises:
            QueueNotFound: the queue was deleted.
            StoreFailed: its store failed.
        """
        self.check_exists()
        self._states.advance(now)
        self.answers.drop_old(now)
        self._wake_waiting_adds(now)
        self.next_event = NEVER
        self._set_alarm(min(self._states.next_at, self.answers.next_at))

    def _catch_up(self, now: int) -> None:
        """Make all overdue transitions that matter for a delivery: expired messages must not be delivered.

        Messages of ended leases may become ready a little later, so that this call does not wait for very many of them.
        """
        self.advance(now)
        while self._states.is_behind(now):
            self.advance(now)

    def take_once(self, key: bytes, take: Callable[[], bytes], now: int) -> bytes:
        """Call `take` and store its response, so that a retry with the same key gets the same response.

        A retry returns the stored response without calling `take`. An empty response is not stored. Waiting Adds do not
        proceed in between, because otherwise the store might commit the removal of messages without the response.

        Raises:
            TooManyAnswers: the response could not be stored.
            QueueletError: also the errors of `take`.
        """
        stored = self.answers.lookup_or_admit(key, now)
        if stored is not None:
            return stored
        self._keeps_answer = True
        try:
            answer = take()
            if answer:
                self.keep_answer(key, answer, now)
        finally:
            self._keeps_answer = False
            self._wake_waiting_adds(now)
        return answer

    def keep_answer(self, key: bytes, answer: bytes, now: int) -> None:
        """Store the response of a call, in the same commit as the changes that the call made."""
        self.answers.keep(key, answer, now)
        self._set_alarm(self.answers.next_at)

    # Internals of adding

    def _append(self, draft: Draft, now: int) -> bytes:
        tally = self.tally
        seq = tally.next_seq
        own_id = draft.own_id
        if own_id and (self._ids.seq_of(own_id) or 0) >= seq:
            raise InvalidArgument(f"id: {own_id.decode()} is reserved for the server itself; use another", field="id")
        if self.is_durable:
            self.store.check_room()
        body = draft.stored(own_id or self._ids.made(seq), now)
        budget = self._budget
        cost = len(body) + MESSAGE_OVERHEAD
        if budget.used + cost > budget.watermark:
            self.refused_memory += 1
            budget.check(cost)
        tally.next_seq = seq + 1
        tally.enqueued += 1
        if draft.terms is None:
            self._messages.append(seq, body, own_id)
            expiry = now + self._expiries.ttl
            if expiry < self.next_event:
                self._set_alarm(expiry)
        else:
            self._set_alarm(self._states.add_ranked(seq, body, draft.terms.rank(now), own_id, now))
        if self._waiting_takers and seq not in self._states.delays.until:
            self._waiting_takers.wake(1)
        return body

    def _has_room_for_all(self, batch: PlainBatch, now: int) -> bool:
        """Return whether none of these messages would be refused."""
        if now >= self.next_event:
            self.advance(now)
        limit = self.definition.limit
        if limit != UNBOUNDED and len(self._messages) + len(batch) > limit:
            return False
        try:
            self._budget.check(batch.size + len(batch) * MESSAGE_OVERHEAD)
            self.store.check_room()
        except QueueletError:
            return False
        return not (self._waiting_adds or self.definition.draining)

    def _append_all(self, batch: PlainBatch, now: int) -> list[bytes]:
        tally, count = self.tally, len(batch)
        bodies = batch.stored(self._ids, tally.next_seq, now)
        self._messages.append_many(tally.next_seq, bodies)
        tally.next_seq += count
        tally.enqueued += count
        self._set_alarm(now + self._expiries.ttl)
        self._waiting_takers.wake(count)
        return bodies

    def _add_while_room(self, waiting: WaitingAdd, now: int) -> None:
        """Add messages in order while there is room."""
        results, limit = waiting.results, self.definition.limit
        while not waiting.is_complete:
            draft = waiting.drafts[len(results)]
            first = self.find(draft.own_id) if draft.own_id else None
            has_room = limit == UNBOUNDED or len(self._messages) < limit
            if first is None and not has_room and not self.definition.draining:
                return
            self._waiting_adds.release(waiting, draft)
            if first is not None:
                results.append(Duplicate(first))
                continue
            if self.definition.draining:
                results.append(refusals.draining(self))
                continue
            try:
                results.append(self._append(draft, now))
            except QueueletError as error:
                results.append(error)

    def _wake_waiting_adds(self, now: int) -> None:
        """Add the messages of waiting Adds while there is room, in FIFO order."""
        while self._waiting_adds and not self._keeps_answer:
            waiting = self._waiting_adds[0]
            self._add_while_room(waiting, now)
            if not waiting.is_complete:
                return
            self._waiting_adds.complete_first()

    # Other internals

    def _check_waiting(self, peer: str) -> None:
        """Raise `TooMany` if no more calls from this address may wait."""
        waiting = self.waiting
        if waiting >= self._max_waiting:
            self.refused_waiting += 1
            raise refusals.too_many(self)
        # The calls per address are counted only if they may be too many, instead of at every start and end of a wait.
        if waiting >= self._max_waiting_per_peer:
            of_peer = self._waiting_of(peer)
            if of_peer >= self._max_waiting_per_peer:
                self.refused_waiting += 1
                raise refusals.too_many_of_peer(self, peer, of_peer)

    def _waiting_of(self, peer: str) -> int:
        """Return how many calls from one address wait."""
        lines: tuple[Iterable[WaitingAdd | Waiter], ...] = (self._waiting_adds, self._waiting_takers)
        return sum(each.peer == peer for line in lines for each in line) + self._claims.in_line_of(peer)

    def _void_leases(self) -> None:
        self._states.void_leases()
        self._set_alarm(self._states.next_at)

    def _set_alarm(self, at: int) -> None:
        if at < self.next_event:
            self.next_event = at
            self._alarms.set(self)
