"""The states of the messages of a queue: ready, delayed, leased, dead; and all ways from one to another.

    state    what happens                 then
    -------  ---------------------------  -------
    (none)   added                        READY
             added with a delay           DELAYED
    READY    delivered                    LEASED
             expires                      DEAD
    DELAYED  its delay ends               READY
             expires                      DEAD
    LEASED   nacked, or its lease ends    READY
             nacked with a delay          DELAYED
             either, once too often       DEAD
             nacked as dead               DEAD
    DEAD     redriven                     READY

A message leaves them all when it is popped, acknowledged or purged. A ready one stands in the `ReadyOrder`, a delayed
one in `Delays`, a dead one in `dead`; tokens and ends of leases are in `Leases`. What became of a message that was
delivered or died is its `Delivery`; the store keeps it, and the ranks, and `restore` finds all the rest from them.

What becomes due by itself is done by `advance`, and `next_at` says when that will be. It is for the queue to see to it.
"""

from __future__ import annotations

from sortedcontainers import SortedList

from queuelet.core.budget import MemoryBudget
from queuelet.core.delays import Delays
from queuelet.core.expiry import Expiries
from queuelet.core.leases import LEASE_OVERHEAD, Leases
from queuelet.core.message import DeathReason, Delivery, Rank, TryOutcome
from queuelet.core.order import RANK_OVERHEAD, ReadyOrder
from queuelet.core.storage import Messages
from queuelet.core.stored_form import HISTORY, failed_try, newest_tries
from queuelet.core.tokens import Tokens
from queuelet.core.waiting import TakerLine
from queuelet.definition import Counts, DeliverySettings, State
from queuelet.errors import LeaseLost, QueueletError

_SLICE = 1_000
"""How much is done at once of what is due by itself; the rest follows when others had their turn."""


_TAKEN_OVER = "an exclusive consumer took the queue over"
_RESTARTED = "the server was restarted"


class States:
    """Where each message of a queue stands."""

    __slots__ = (
        "_budget",
        "_messages",
        "_settings",
        "_takers",
        "_voided",
        "dead",
        "delays",
        "expiries",
        "leased",
        "leases",
        "order",
        "woken",
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
        """Take the messages, and who is to hear when one becomes ready."""
        self._messages = messages
        self._settings = settings
        self._budget = budget
        self._takers = takers
        self.order = ReadyOrder(messages)
        self.leases = Leases(tokens)
        self.leased = 0
        """How many messages are leased."""
        self.delays = Delays()
        self.dead: SortedList[int] = SortedList()
        self.expiries = Expiries(messages, self.delays, settings.message_ttl_seconds)
        self.woken = 0
        """How many delays were over."""
        self._voided: list[int] = []
        """Tokens of the leases that are still to be voided."""
        messages.report_damaged(self._lose)

    # What is where

    @property
    def ready(self) -> int:
        """How many messages can be taken now."""
        return len(self._messages) - self.leased - len(self.delays) - len(self.dead)

    @property
    def counts(self) -> Counts:
        """Messages by state."""
        return Counts(ready=self.ready, delayed=len(self.delays), leased=self.leased, dead=len(self.dead))

    @property
    def oldest_lease(self) -> int:
        """When the oldest of the leases began, 0 if there is none."""
        deliveries = self._messages.deliveries
        # Tokens grow, and stand in the order in which they were given.
        given = (deliveries[seq] for seq in self.leases.seqs.values())
        return next((delivery.since for delivery in given if delivery.state is State.LEASED), 0)

    def of(self, seq: int) -> State:
        """Return the state of a stored message."""
        delivery = self._messages.deliveries.get(seq)
        if delivery is not None:
            return delivery.state
        return State.DELAYED if seq in self.delays.until else State.READY

    def held_by(self, token: int) -> tuple[int, Delivery] | QueueletError:
        """Return the message that is leased under a token, or why there is none."""
        seq = self.leases.seqs.get(token)
        if seq is None:
            return self.leases.refusal(token)
        delivery = self._messages.deliveries[seq]
        if delivery.state is not State.LEASED:
            return LeaseLost(f"the lease is over: the message is {delivery.state.name.lower()} again")
        return seq, delivery

    # In and out

    def keep(self, seq: int, body: bytes, rank: Rank, own_id: bytes, now: int) -> int:
        """Keep a new message that has a rank, and return when it is to be looked at."""
        self._messages.keep(seq, body, rank, own_id)
        self._budget.used += RANK_OVERHEAD
        expiry = self.expiries.watch(seq)
        if rank.due > now:
            self.delays.add(seq, rank.due)
            return min(expiry, rank.due)
        self.order.put(seq)
        return expiry

    def leave(self, seq: int, delivery: Delivery | None) -> None:
        """Take a message out of the state it is in. It stays stored, and the line sees for itself that it is gone."""
        if delivery is not None and delivery.state is State.LEASED:
            self.leased -= 1
        elif seq in self.delays.until:
            del self.delays.until[seq]
        elif delivery is not None and delivery.state is State.DEAD:
            self.dead.remove(seq)
        else:
            self.order.drop(seq)

    def forget(self, seq: int) -> None:
        """Forget the delivery and the rank of a message that is gone."""
        messages = self._messages
        delivery = messages.deliveries.pop(seq, None)
        if delivery is not None:
            self._budget.used -= LEASE_OVERHEAD
            self.leases.forget(delivery.token, delivery.superseded)
        if messages.ranks and messages.ranks.pop(seq, None) is not None:
            self._budget.used -= RANK_OVERHEAD

    def _lose(self, seq: int) -> None:
        """Forget a message that the store set aside, whatever its state is."""
        self.leave(seq, self._messages.deliveries.get(seq))
        self.forget(seq)

    def restore(self, now: int) -> None:
        """Take up what the store has kept of messages that do not simply stand in line."""
        messages = self._messages
        self._budget.used += self._beside_cost
        ended: list[tuple[int, Delivery]] = []
        for seq, delivery in messages.deliveries.items():
            self.leases.restore(seq, delivery.token, delivery.superseded)
            if delivery.state is State.LEASED:
                self.leased += 1
                if delivery.by_stream:
                    ended.append((seq, delivery))
                else:
                    self.leases.watch(delivery.token, 1, delivery.until)
            elif delivery.state is State.DEAD:
                self.dead.add(seq)
            elif delivery.state is State.DELAYED:
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
        # The streams ended with the server before.
        for seq, delivery in ended:
            messages.tally.released += 1
            self.end_try(seq, delivery, now, TryOutcome.RELEASED, _RESTARTED, now)
        self.expiries.watch_all()

    def clear(self) -> None:
        """Forget all, and account for it no longer. What the store keeps stays."""
        self._budget.used -= self._beside_cost
        self.leases.clear()
        self.order.clear()
        self.delays.clear()
        self.expiries.clear()
        self.dead.clear()
        self._voided.clear()
        self.leased = 0

    # From one to another

    def deliver_again(  # noqa: PLR0913, PLR0917  # as `Queue.receive`, of which it is a part
        self, seq: int, delivery: Delivery, token: int, deadline: int, now: int, consumer: str
    ) -> int:
        """Note another lease on a message that was delivered before; return how often it was delivered."""
        self._messages.tally.redelivered += 1
        self._supersede(seq, delivery)
        delivery.state = State.LEASED
        delivery.count += 1
        delivery.token = token
        delivery.until = deadline
        delivery.since = now
        delivery.consumer = consumer
        return delivery.count

    def extend(self, seq: int, delivery: Delivery, deadline: int) -> None:
        """Have a lease end at another time."""
        delivery.until = deadline
        self.leases.extend(delivery.token, deadline)
        self._messages.mark_changed((seq,))

    def end_try(  # noqa: PLR0913, PLR0917  # each is a fact of its own
        self,
        seq: int,
        delivery: Delivery,
        now: int,
        outcome: TryOutcome,
        reason: str,
        wake: int,
        *,
        dead: bool = False,
        unused: bool = False,
    ) -> None:
        """End a lease without an ack: the message is dead, away for a while, or back in its place.

        A delivery that was not used was none: it does not count, and is not part of the history.
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
        if wake > now:
            delivery.state = State.DELAYED
            delivery.until = wake
            self.delays.add(seq, wake)
        else:
            delivery.state = State.READY
            self.order.put(seq)
            self._takers.wake(1)
        self._messages.mark_changed((seq,))
        self.expiries.watch(seq)

    def void_leases(self) -> None:
        """Have all leases of now end, and their tokens refused. `advance` does it, in slices."""
        deliveries = self._messages.deliveries.values()
        self._voided = [delivery.token for delivery in deliveries if delivery.state is State.LEASED]

    @property
    def is_voiding(self) -> bool:
        """Whether leases are still to be voided."""
        return bool(self._voided)

    def redrive(self, seq: int, now: int) -> bool:
        """Make a message ready as if it had just been added, if it is dead; tell whether it was."""
        if seq not in self.dead:
            return False
        self.dead.remove(seq)
        messages = self._messages
        old = messages.ranks.get(seq)
        messages.ranks[seq] = Rank(old.priority if old else 0, now, now, old.ttl if old else 0)
        if old is None:
            self._budget.used += RANK_OVERHEAD
        delivery = messages.deliveries[seq]
        self._supersede(seq, delivery)
        delivery.state, delivery.count, delivery.token, delivery.reason = State.READY, 0, 0, 0
        messages.mark_changed((seq,))
        self.expiries.watch(seq)
        self.order.put(seq)
        return True

    # Time

    @property
    def next_at(self) -> int:
        """When something becomes due next."""
        if self._voided:
            return 0
        return min(self.leases.next_deadline, self.delays.next_end, self.expiries.next_at)

    def is_behind(self, now: int) -> bool:
        """Whether there are delays or lives that are over by now, and not ended yet."""
        return min(self.delays.next_end, self.expiries.next_at) <= now

    def advance(self, now: int) -> None:
        """Do what is due by now, or much of it: void and end leases and delays, and bury what has expired."""
        if self._voided:
            self._void_some(now)
        self._end_leases(now)
        self._end_delays(now)
        self._bury_expired(now)

    def redefine(self, settings: DeliverySettings) -> bool:
        """Deliver otherwise from now on; tell whether something may be due by that."""
        self._settings = settings
        return self.expiries.set_ttl(settings.message_ttl_seconds)

    # Inside

    def _supersede(self, seq: int, delivery: Delivery) -> None:
        """Make the newest token of a message one of its old ones."""
        if not delivery.token:
            return
        *oldest, last = (*delivery.superseded, delivery.token)
        kept = (*oldest[-HISTORY + 1 :], last)
        self.leases.forget(0, tuple(oldest[: -HISTORY + 1]))
        self.leases.supersede(seq, (last,))
        delivery.superseded = kept

    def _bury(self, seq: int, delivery: Delivery, reason: DeathReason, now: int) -> None:
        """Make a message dead that is in no other state any more."""
        delivery.state = State.DEAD
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
            if seq is not None and delivery is not None and delivery.state is State.LEASED:
                self._messages.tally.expired += 1
                self.end_try(seq, delivery, now, TryOutcome.LEASE_EXPIRED, _TAKEN_OVER, now)
                self._supersede(seq, delivery)
                delivery.token = 0
        if not self._voided:
            # The holder may have been woken before, and got nothing yet.
            self._takers.wake(min(1, self.ready))

    def _end_leases(self, now: int) -> None:
        done = 0
        while done < _SLICE and self.leases.next_deadline <= now:
            ended = self.leases.due(now)
            for token, seq in ended:
                delivery = self._messages.deliveries[seq]
                if delivery.state is State.LEASED and delivery.token == token and delivery.until <= now:
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
                delivery.state = State.READY
                self._messages.mark_changed((seq,))
            self.order.put(seq)
            self.woken += 1
            self._takers.wake(1)

    def _bury_expired(self, now: int) -> None:
        for _ in range(_SLICE):
            seq = self.expiries.take_next(now)
            if seq is None:
                return
            delivery = self._messages.deliveries.get(seq)
            if delivery is not None and delivery.state in {State.LEASED, State.DEAD}:
                continue  # it is watched again when it comes back
            self.leave(seq, delivery)
            if delivery is None:
                delivery = self._messages.deliveries[seq] = Delivery(State.DEAD)
                self._budget.used += LEASE_OVERHEAD
            self._bury(seq, delivery, DeathReason.EXPIRED, now)

    @property
    def _beside_cost(self) -> int:
        """What deliveries and ranks take, in bytes. The queue accounts for them, the store for the messages."""
        return LEASE_OVERHEAD * len(self._messages.deliveries) + RANK_OVERHEAD * len(self._messages.ranks)
