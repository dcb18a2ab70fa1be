"""The states of messages: ready, delayed, leased, dead; and all transitions between them.

    state    what happens                 then
    -------  ---------------------------  -------
    (none)   added                        READY
             added with a delay           DELAYED
             added as dead                DEAD
    READY    delivered                    LEASED
             expires                      DEAD
    DELAYED  its delay ends               READY
             expires                      DEAD
    LEASED   nacked, or its lease ends    READY
             nacked with a delay          DELAYED
             either, for the last time    DEAD
             nacked as dead               DEAD
    DEAD     redriven                     READY

A message that is popped, acked or purged has no state any more. Ready messages are in the `ReadyOrder`, delayed ones in
`Delays` and dead ones in `dead`; `Leases` has the tokens and deadlines of leases. A message that was delivered or died
has a `DeliveryRecord`. The store saves deliveries and ranks, and `restore` rebuilds everything else from them.

`advance` makes the transitions that are due at a certain time, and `next_at` is the time of the next one. The queue has
to call `advance` then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

from sortedcontainers import SortedList

from queuelet.core.budget import MemoryBudget
from queuelet.core.deadlines import NEVER
from queuelet.core.delays import Delays
from queuelet.core.expiry import Expiries
from queuelet.core.leases import LEASE_OVERHEAD, Leases
from queuelet.core.message import DeliveryRecord, PastDeliveries, Rank
from queuelet.core.order import RANK_OVERHEAD, ReadyOrder
from queuelet.core.storage import Messages
from queuelet.core.stored_form import HISTORY, failed_try, newest_tries
from queuelet.core.tailing import Tails
from queuelet.core.tokens import Tokens
from queuelet.core.waiting import TakerLine
from queuelet.definition import Counts, DeathReason, DeliverySettings, EventKind, MessageState, TryOutcome
from queuelet.errors import LeaseLost, QueueletError

_SLICE = 1_000
"""The maximum number of overdue transitions of one kind per `advance`, so that other calls do not wait for long."""


_TAKEN_OVER = "an exclusive consumer took over the queue"
_RESTARTED = "the server was restarted"


class States:
    """The state of each message of a queue."""

    __slots__ = (
        "_budget",
        "_messages",
        "_settings",
        "_takers",
        "_voided",
        "dead",
        "delays",
        "delays_ended",
        "expiries",
        "leased",
        "leases",
        "order",
        "tails",
    )

    def __init__(
        self,
        messages: Messages,
        *,
        settings: DeliverySettings,
        budget: MemoryBudget,
        tokens: Tokens,
        takers: TakerLine,
    ) -> None:
        self._messages = messages
        self._settings = settings
        self._budget = budget
        self._takers = takers
        self.order = ReadyOrder(messages)
        self.leases = Leases(tokens)
        self.leased = 0
        """The number of leased messages."""
        self.delays = Delays()
        self.dead: SortedList[int] = SortedList()
        self.expiries = Expiries(messages, self.delays, settings.message_ttl_seconds)
        self.delays_ended = 0
        """The number of delays that have ended."""
        self.tails: Tails | None = None
        """The tails that receive what happens to messages; None if there are none."""
        self._voided: list[int] = []
        """The tokens of leases that still have to be voided."""
        messages.report_damaged(self._lose)

    # Current states

    @property
    def ready(self) -> int:
        """The number of ready messages."""
        return len(self._messages) - self.leased - len(self.delays) - len(self.dead)

    @property
    def counts(self) -> Counts:
        """The number of messages in each state."""
        return Counts(ready=self.ready, delayed=len(self.delays), leased=self.leased, dead=len(self.dead))

    @property
    def oldest_lease(self) -> int:
        """When the oldest current lease began, in nanoseconds since 1970; 0 if there is none."""
        deliveries = self._messages.deliveries
        # The tokens are in the order in which they were granted, because tokens only increase.
        granted = (deliveries[seq] for seq in self.leases.seqs.values())
        return next((delivery.since for delivery in granted if delivery.state is MessageState.LEASED), 0)

    def of(self, seq: int) -> MessageState:
        """Return the state of a stored message."""
        delivery = self._messages.deliveries.get(seq)
        if delivery is not None:
            return delivery.state
        return MessageState.DELAYED if seq in self.delays.until else MessageState.READY

    def held_by(self, token: int) -> tuple[int, DeliveryRecord] | QueueletError:
        """Return the leased message of a token and its delivery, or the error if there is none."""
        seq = self.leases.seqs.get(token)
        if seq is None:
            return self.leases.refusal(token)
        delivery = self._messages.deliveries[seq]
        if delivery.state is not MessageState.LEASED:
            return LeaseLost(f"the lease has ended: the message is {delivery.state.name.lower()} again")
        return seq, delivery

    # Adding and removing

    def add_ranked(  # noqa: PLR0913, PLR0917  # made for each message with terms: by place is faster than by name
        self, seq: int, body: bytes, rank: Rank, own_id: bytes, now: int, past: PastDeliveries | None = None
    ) -> int:
        """Add a new message with a rank. Return when its delay ends or it expires, whichever is first.

        A message with past deliveries continues them. It is added as dead if it was dead.
        """
        self._messages.keep(seq, body, rank, own_id)
        self._budget.used += RANK_OVERHEAD
        delivery = None if past is None else self._continue(seq, past)
        if past is not None and past.reason and delivery is not None:
            delivery.state, delivery.reason, delivery.since = MessageState.DEAD, past.reason, past.died or now
            self.dead.add(seq)
            return NEVER
        expiry = self.expiries.watch(seq)
        if rank.due > now:
            self.delays.add(seq, rank.due)
            if delivery is not None:
                delivery.state, delivery.until = MessageState.DELAYED, rank.due
            return min(expiry, rank.due)
        self.order.put(seq)
        return expiry

    def _continue(self, seq: int, past: PastDeliveries) -> DeliveryRecord:
        """Record the past deliveries of a new message, and return the record."""
        delivery = DeliveryRecord(MessageState.READY, past.count, history=past.history)
        self._messages.deliveries[seq] = delivery
        self._messages.mark_changed((seq,))
        self._budget.used += LEASE_OVERHEAD
        return delivery

    def leave(self, seq: int, delivery: DeliveryRecord | None) -> None:
        """Remove a message from its current state. It stays stored, and in the line until it is discarded."""
        if delivery is not None and delivery.state is MessageState.LEASED:
            self.leased -= 1
        elif seq in self.delays.until:
            del self.delays.until[seq]
        elif delivery is not None and delivery.state is MessageState.DEAD:
            self.dead.remove(seq)
        else:
            self.order.drop(seq)

    def forget(self, seq: int) -> None:
        """Remove the delivery and the rank of a message that is no longer stored."""
        messages = self._messages
        delivery = messages.deliveries.pop(seq, None)
        if delivery is not None:
            self._budget.used -= LEASE_OVERHEAD
            self.leases.forget(delivery.token, delivery.superseded)
        if messages.ranks and messages.ranks.pop(seq, None) is not None:
            self._budget.used -= RANK_OVERHEAD

    def _lose(self, seq: int) -> None:
        """Remove a damaged message that the store set aside."""
        self.leave(seq, self._messages.deliveries.get(seq))
        self.forget(seq)

    def restore(self, now: int) -> None:
        """Rebuild the states of messages outside the line from the deliveries and ranks that the store has loaded."""
        messages = self._messages
        self._budget.used += self._overhead
        self.leases.restore(messages.deliveries)
        ended: list[tuple[int, DeliveryRecord]] = []
        for seq, delivery in messages.deliveries.items():
            if delivery.state is MessageState.LEASED:
                self.leased += 1
                if delivery.by_stream:
                    ended.append((seq, delivery))
            elif delivery.state is MessageState.DEAD:
                self.dead.add(seq)
            elif delivery.state is MessageState.DELAYED:
                self.delays.add(seq, delivery.until)
            else:
                self.order.put(seq)
        for seq, rank in messages.ranks.items():
            if seq in messages.deliveries:
                continue
            if rank.due > now:
                self.delays.add(seq, rank.due)
            else:
                self.order.put(seq)
        # Leases of streams end now, because their streams ended with the previous process.
        for seq, delivery in ended:
            messages.tally.released += 1
            self.end_try(seq, delivery, now, TryOutcome.RELEASED, _RESTARTED, now)
        self.expiries.watch_all()

    def clear(self) -> None:
        """Clear all states and their share of the memory budget. The stored messages stay."""
        self._budget.used -= self._overhead
        self.leases.clear()
        self.order.clear()
        self.delays.clear()
        self.expiries.clear()
        self.dead.clear()
        self._voided.clear()
        self.leased = 0

    # Transitions

    def lease(
        self, seqs: list[int], deadline: int, now: int, consumer: str, *, by_stream: bool
    ) -> tuple[int, list[int]]:
        """Lease ready messages that were checked out. Return the first token, and how often each was delivered."""
        deliveries = self._messages.deliveries
        known = len(deliveries)
        first = token = self.leases.grant(seqs, deadline)
        counts: list[int] = []
        for seq in seqs:
            delivery = deliveries.get(seq)
            if delivery is None:
                delivery = deliveries[seq] = DeliveryRecord(MessageState.LEASED, 1, token, deadline, now, consumer)
                counts.append(1)
            else:
                self._messages.tally.redelivered += 1
                self._supersede(seq, delivery)
                delivery.state = MessageState.LEASED
                delivery.count += 1
                delivery.token = token
                delivery.until = deadline
                delivery.since = now
                delivery.consumer = consumer
                counts.append(delivery.count)
            delivery.by_stream = by_stream
            token += 1
        self.leased += len(seqs)
        self._budget.used += LEASE_OVERHEAD * (len(deliveries) - known)
        self._messages.tally.leased += len(seqs)
        return first, counts

    def ack(self, tokens: Iterable[int]) -> tuple[list[QueueletError | None], int]:
        """Remove the messages of tokens. Return an error or None for each, and how many were removed."""
        results: list[QueueletError | None] = []
        messages, seqs, extended = self._messages, self.leases.seqs, self.leases.extended
        deliveries, ranks, discard = messages.deliveries, messages.ranks, messages.discard
        ended = 0
        for token in tokens:
            seq = seqs.pop(token, None)
            if seq is None:
                results.append(self.leases.refusal(token))
                continue
            delivery = deliveries.pop(seq)
            if delivery.state is MessageState.LEASED:
                ended += 1
            else:
                self.leave(seq, delivery)
            if delivery.superseded or extended:
                self.leases.forget(token, delivery.superseded)
            discard(seq)
            if ranks and ranks.pop(seq, None) is not None:
                self._budget.used -= RANK_OVERHEAD
            results.append(None)
        self.leased -= ended
        acked = results.count(None)
        self._budget.used -= LEASE_OVERHEAD * acked
        messages.tally.acked += acked
        return results, acked

    def report_acked(self, tails: Tails, tokens: Iterable[int], now: int) -> None:
        """Report the messages of tokens that are about to be acked."""
        seqs = self.leases.seqs
        tails.report_removals(EventKind.ACKED, [seqs[token] for token in dict.fromkeys(tokens) if token in seqs], now)

    def nack(  # noqa: PLR0913  # each is a fact of its own
        self,
        tokens: Iterable[int],
        now: int,
        outcome: TryOutcome,
        reason: str,
        ready_at: int,
        *,
        dead: bool,
        unused: bool,
    ) -> list[QueueletError | None]:
        """End the leases of tokens without an ack, as `end_try` does. Return an error or None for each."""

        def end(_: int, seq: int, delivery: DeliveryRecord) -> None:
            self.end_try(seq, delivery, now, outcome, reason, ready_at, dead=dead, unused=unused)

        results = self._change_leases(tokens, end)
        tally = self._messages.tally
        if outcome is TryOutcome.NACKED:
            tally.nacked += results.count(None)
        else:
            tally.released += results.count(None)
        return results

    def extend(self, tokens: Iterable[int], deadline: int) -> list[QueueletError | None]:
        """Change the deadline of leases. Return an error or None for each token."""

        def extend(token: int, seq: int, delivery: DeliveryRecord) -> None:
            delivery.until = deadline
            self.leases.extend(token, deadline)
            self._messages.mark_changed((seq,))

        results = self._change_leases(tokens, extend)
        self._messages.tally.extended += results.count(None)
        return results

    def end_try(  # noqa: PLR0913, PLR0917  # each is a fact of its own
        self,
        seq: int,
        delivery: DeliveryRecord,
        now: int,
        outcome: TryOutcome,
        reason: str,
        ready_at: int,
        *,
        dead: bool = False,
        unused: bool = False,
    ) -> None:
        """End a lease without an ack. The message becomes dead, delayed, or ready in its old position.

        Args:
            seq: the sequence number of the message.
            delivery: the delivery with the lease.
            now: the time.
            outcome: how the lease ended, for the history.
            reason: why, for the history.
            ready_at: when the message becomes ready; not later than `now` for immediately.
            dead: whether the message dies.
            unused: whether the message was never handed to the consumer's handler. Such a delivery is not counted and
                not added to the history.
        """
        self.leased -= 1
        if unused:
            delivery.count -= 1
        else:
            history = delivery.history + failed_try(outcome, delivery, now, reason)
            delivery.history = newest_tries(history) if delivery.history else history
        if dead:
            self._bury(seq, delivery, DeathReason.REJECTED, now)
            return
        if delivery.count >= self._settings.max_deliveries:
            self._bury(seq, delivery, DeathReason.MAX_DELIVERIES, now)
            return
        if self.tails is not None:
            self.tails.report_change(EventKind.RETURNED, seq, delivery, now, now - delivery.since)
        if ready_at > now:
            delivery.state = MessageState.DELAYED
            delivery.until = ready_at
            self.delays.add(seq, ready_at)
        else:
            delivery.state = MessageState.READY
            self.order.put(seq)
            self._takers.wake(1)
        self._messages.mark_changed((seq,))
        self.expiries.watch(seq)

    def void_leases(self) -> None:
        """End all current leases and refuse their tokens. `advance` does this in slices."""
        deliveries = self._messages.deliveries.values()
        self._voided = [delivery.token for delivery in deliveries if delivery.state is MessageState.LEASED]

    @property
    def is_voiding(self) -> bool:
        """Whether some leases still have to be voided."""
        return bool(self._voided)

    def redrive(self, seqs: Iterable[int], now: int) -> int:
        """Make dead messages ready as if they had just been added. Return how many were dead."""
        count = 0
        for seq in seqs:
            if seq in self.dead:
                self._redrive(seq, now)
                count += 1
        self._messages.tally.redriven += count
        return count

    def purge(self, seqs: Iterable[int], states: AbstractSet[MessageState], now: int) -> int:
        """Remove messages, if they are in `states`; no states mean all. Return how many were removed."""
        messages = self._messages
        count = 0
        for seq in seqs:
            if states and messages.get(seq) is not None and self.of(seq) not in states:
                continue
            if self.tails is not None:
                self.tails.report_removals(EventKind.PURGED, (seq,), now)
            self.leave(seq, messages.deliveries.get(seq))
            if messages.discard(seq) is not None:
                count += 1
            self.forget(seq)
        messages.tally.purged += count
        return count

    def count_among(self, seqs: Iterable[int], states: AbstractSet[MessageState]) -> int:
        """Return how many of these messages are stored and in `states`; no states mean all."""
        return sum(self._messages.get(seq) is not None and (not states or self.of(seq) in states) for seq in seqs)

    # Time

    @property
    def next_at(self) -> int:
        """When the next transition is due, in nanoseconds since 1970, or `NEVER`."""
        if self._voided:
            return 0
        return min(self.leases.next_deadline, self.delays.next_end, self.expiries.next_at)

    def is_behind(self, now: int) -> bool:
        """Return whether ending delays or expired messages are overdue."""
        return min(self.delays.next_end, self.expiries.next_at) <= now

    def advance(self, now: int) -> None:
        """Make overdue transitions, up to a limit: void and end leases, end delays, and bury expired messages."""
        if self._voided:
            self._void_some(now)
        self._end_leases(now)
        self._end_delays(now)
        self._bury_expired(now)

    def redefine(self, settings: DeliverySettings) -> bool:
        """Change the delivery settings. Return whether messages may be due because of that."""
        self._settings = settings
        return self.expiries.set_ttl(settings.message_ttl_seconds)

    # Internals

    def _change_leases(
        self, tokens: Iterable[int], change: Callable[[int, int, DeliveryRecord], None]
    ) -> list[QueueletError | None]:
        """Call `change` with each token, its message and its delivery. Return an error or None for each token."""
        results: list[QueueletError | None] = []
        for token in tokens:
            held = self.held_by(token)
            if isinstance(held, QueueletError):
                results.append(held)
            else:
                change(token, *held)
                results.append(None)
        return results

    def _redrive(self, seq: int, now: int) -> None:
        self.dead.remove(seq)
        messages = self._messages
        old = messages.ranks.get(seq)
        messages.ranks[seq] = Rank(old.priority if old else 0, now, now, old.ttl if old else 0)
        if old is None:
            self._budget.used += RANK_OVERHEAD
        delivery = messages.deliveries[seq]
        self._supersede(seq, delivery)
        delivery.state, delivery.count, delivery.token, delivery.reason = MessageState.READY, 0, 0, 0
        if self.tails is not None:
            self.tails.report_change(EventKind.REDRIVEN, seq, delivery, now)
        messages.mark_changed((seq,))
        self.expiries.watch(seq)
        self.order.put(seq)

    def _supersede(self, seq: int, delivery: DeliveryRecord) -> None:
        """Mark the newest token of a message as superseded. Only the last `HISTORY` ones are remembered."""
        if not delivery.token:
            return
        *oldest, last = (*delivery.superseded, delivery.token)
        kept = (*oldest[-HISTORY + 1 :], last)
        self.leases.forget(0, tuple(oldest[: -HISTORY + 1]))
        self.leases.supersede(seq, (last,))
        delivery.superseded = kept

    def _bury(self, seq: int, delivery: DeliveryRecord, reason: DeathReason, now: int) -> None:
        """Make a message dead that was removed from its state."""
        if self.tails is not None:
            self.tails.report_change(EventKind.DIED, seq, delivery, now)
        delivery.state = MessageState.DEAD
        delivery.reason = reason
        delivery.since = now
        self.dead.add(seq)
        self._messages.tally.buried += 1
        self._messages.mark_changed((seq,))

    def _void_some(self, now: int) -> None:
        voided, self._voided = self._voided[:_SLICE], self._voided[_SLICE:]
        for token in voided:
            seq = self.leases.seqs.get(token)
            delivery = None if seq is None else self._messages.deliveries[seq]
            if seq is not None and delivery is not None and delivery.state is MessageState.LEASED:
                self._messages.tally.expired += 1
                self.end_try(seq, delivery, now, TryOutcome.LEASE_EXPIRED, _TAKEN_OVER, now)
                self._supersede(seq, delivery)
                delivery.token = 0
        if not self._voided:
            # The holder may have been woken earlier, when no messages were available yet.
            self._takers.wake(min(1, self.ready))

    def _end_leases(self, now: int) -> None:
        done = 0
        while done < _SLICE and self.leases.next_deadline <= now:
            ended = self.leases.due(now)
            for token, seq in ended:
                delivery = self._messages.deliveries[seq]
                if delivery.state is MessageState.LEASED and delivery.token == token and delivery.until <= now:
                    self._messages.tally.expired += 1
                    self.end_try(seq, delivery, now, TryOutcome.LEASE_EXPIRED, "", now)
            done += 1 + len(ended)

    def _end_delays(self, now: int) -> None:
        for _ in range(_SLICE):
            if self.delays.next_end > now:
                return
            seq = self.delays.end_next()
            delivery = self._messages.deliveries.get(seq)
            if delivery is not None:
                delivery.state = MessageState.READY
                self._messages.mark_changed((seq,))
            self.order.put(seq)
            self.delays_ended += 1
            self._takers.wake(1)

    def _bury_expired(self, now: int) -> None:
        for _ in range(_SLICE):
            seq = self.expiries.take_next(now)
            if seq is None:
                return
            delivery = self._messages.deliveries.get(seq)
            if delivery is not None and delivery.state in {MessageState.LEASED, MessageState.DEAD}:
                continue  # it will be tracked again if it becomes ready
            self.leave(seq, delivery)
            if delivery is None:
                delivery = self._messages.deliveries[seq] = DeliveryRecord(MessageState.DEAD)
                self._budget.used += LEASE_OVERHEAD
            self._bury(seq, delivery, DeathReason.EXPIRED, now)

    @property
    def _overhead(self) -> int:
        """The memory of deliveries and ranks, in bytes. It is counted here, and that of messages by the store."""
        return LEASE_OVERHEAD * len(self._messages.deliveries) + RANK_OVERHEAD * len(self._messages.ranks)
