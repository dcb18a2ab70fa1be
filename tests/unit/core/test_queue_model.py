"""After any sequence of calls a queue is in the state of a naive model, and its limit holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from queuelet.bounds import Bounds
from queuelet.core.budget import MESSAGE_OVERHEAD, OWN_ID_OVERHEAD, RESPONSE_OVERHEAD, MemoryBudget
from queuelet.core.consumers import Claim
from queuelet.core.leases import LEASE_OVERHEAD
from queuelet.core.manager import Manager
from queuelet.core.message import Terms
from queuelet.core.order import RANK_OVERHEAD
from queuelet.core.plain_batch import PlainBatch
from queuelet.core.queue import Queue
from queuelet.core.stored_form import NewMessage
from queuelet.core.tokens import Tokens
from queuelet.core.waiting import AddResult, Duplicate, Taker, WaitingAdd
from queuelet.definition import Counts, DeliverySettings, MessageState, QueueDefinition, StoreKind, TryOutcome
from queuelet.errors import QueueEmpty, QueueHeld, QueueletError
from support.drafts import draft, id_of, payload_of, tries_of
from support.forgetful import ForgetfulStore, RepeatingQueue
from support.naive_queue import NEVER, NaiveQueue
from support.queues import make_manager

SECOND = 1_000_000_000
BEGIN = 1_000 * SECOND
OWN_IDS = [b"%08d-1111-4222-8333-444455556666" % number for number in range(4)]
UNKNOWN_ID = b"99999999-1111-4222-8333-444455556666"

seconds = st.sampled_from([0, 1, 2, 3, 5, 8])
some_terms = st.builds(
    lambda priority, delay, due, ttl: Terms(priority, due and BEGIN + due * SECOND, delay * SECOND, ttl * SECOND),
    st.sampled_from([0, 0, -3, 4]),
    seconds,
    st.sampled_from([0, 0, 10, 30]),
    st.sampled_from([0, 0, 2, 7, 20]),
)
drafts = st.builds(
    lambda payload, own_id, terms: draft(payload, own_id, terms=terms),
    st.binary(max_size=8),
    st.one_of(st.just(b""), st.sampled_from(OWN_IDS)),
    st.one_of(st.none(), some_terms),
)
plain_batches = st.lists(st.binary(max_size=8), min_size=1, max_size=4).map(PlainBatch)
batches = st.one_of(st.lists(drafts, min_size=1, max_size=5), plain_batches)
some_states = st.sets(st.sampled_from(MessageState))


@dataclass(eq=False)
class ModelWaiter:
    """A call that waits for room."""

    waiting: WaitingAdd | None
    drafts: Sequence[NewMessage]
    results: list[str] = field(default_factory=list)
    calls_of_done: int = 0

    @property
    def ended(self) -> bool:
        """Whether every message has a result."""
        return len(self.results) == len(self.drafts)

    def refuse(self, reason: str) -> None:
        """Set this result for all messages without one."""
        self.results += [reason] * (len(self.drafts) - len(self.results))


class LongPoll:
    """A call that waits for a message."""

    def __init__(self) -> None:
        self.is_woken = False

    def wake(self) -> None:
        """Record that a message is ready."""
        self.is_woken = True


class QueueMachine(RuleBasedStateMachine):
    """A queue and its model, which get the same calls."""

    def __init__(self) -> None:
        super().__init__()
        self.manager = self.make_manager()
        self.idle = self.manager.budget.used
        self.clock = BEGIN
        self.waiters: list[ModelWaiter] = []
        self.ended: list[ModelWaiter] = []
        self.takers: list[LongPoll] = []
        self.claims: list[Claim] = []
        self.tokens = [-1]  # and one that was never granted
        self.responses: dict[bytes, tuple[int, bytes]] = {}
        self.is_settled = True

    def make_manager(self) -> Manager:
        return make_manager()

    @initialize(limit=st.sampled_from([3, 6, -1]))
    def begin(self, limit: int) -> None:
        delivery = DeliverySettings(lease_seconds=3, max_deliveries=3)
        self.model = NaiveQueue(limit=limit, lease=3 * SECOND, max_deliveries=3)
        self.queue = self.manager.new(QueueDefinition(name="orders", limit=limit, delivery=delivery), now=self.clock)
        self.queue_cost = self.manager.budget.used - self.idle

    # Time

    @rule(step=st.sampled_from([1, SECOND, 2 * SECOND, 4 * SECOND, 10 * SECOND, 70 * SECOND]), rings=st.booleans())
    def time_goes_on(self, step: int, rings: bool) -> None:  # noqa: FBT001  # hypothesis passes it by name
        self.clock += step
        self.is_settled = False
        if rings:
            alarms = self.manager.alarms
            while alarms.next_at <= self.clock:
                alarms.ring(self.clock)
            self.after_alarms()
            self.now()

    def after_alarms(self) -> None:
        """Do what follows from alarms."""

    @rule()
    def advance(self) -> None:
        self.queue.advance(self.now())

    def now(self) -> int:
        """Make the overdue transitions of the model, as the queue does before each call. Return the time."""
        self.model.settle(self.clock)
        self.is_settled = True
        return self.clock

    # Adding

    def model_add(self, draft: NewMessage, *, in_turn: bool) -> str:
        """Return the result of an Add; `in_turn` is for an Add that has waited."""
        is_free = in_turn or not self.waiters
        return self.model.add(draft.payload, draft.own_id, draft.terms, self.clock, is_line_free=is_free)

    def model_admit(self) -> None:
        """Add the messages of waiting Adds while there is room."""
        while self.waiters:
            waiter = self.waiters[0]
            while not waiter.ended:
                end = self.model_add(waiter.drafts[len(waiter.results)], in_turn=True)
                if end == "QUEUE_FULL":
                    return
                waiter.results.append(end)
            self.ended.append(self.waiters.pop(0))

    @rule(draft=drafts)
    def add(self, draft: NewMessage) -> None:
        now = self.now()
        expected = self.model_add(draft, in_turn=False)
        try:
            end = name(self.queue.add(draft, now))
        except QueueletError as error:
            end = error.reason
        assert end == expected

    @rule(batch=batches)
    def add_batch(self, batch: Sequence[NewMessage]) -> None:
        now = self.now()
        expected = [self.model_add(draft, in_turn=False) for draft in batch]
        assert [name(result) for result in self.queue.add_batch(batch, now)] == expected

    @rule(batch=batches)
    def wait_to_add(self, batch: Sequence[NewMessage]) -> None:
        now = self.now()
        waiter = ModelWaiter(None, batch)
        self.waiters.append(waiter)
        self.model_admit()
        waiter.waiting = self.queue.wait_to_add(batch, lambda: self.note_done(waiter), now)

    @precondition(lambda self: self.waiters)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(self.waiters))
        self.waiters.remove(waiter)
        waiter.refuse("QUEUE_FULL")
        self.ended.append(waiter)
        self.model_admit()
        assert waiter.waiting
        self.queue.give_up_adding(waiter.waiting, self.clock)
        waiter.calls_of_done += 1

    # Taking

    @rule()
    def pop(self) -> None:
        now = self.now()
        if self.holder:
            with pytest.raises(QueueHeld):
                self.queue.pop(now)
        elif not self.model.first(1):
            with pytest.raises(QueueEmpty):
                self.queue.pop(now)
        else:
            assert [payload_of(self.queue.pop(now))] == self.model.pop(1)
            self.model_admit()

    @rule(count=st.integers(1, 4))
    def pop_batch(self, count: int) -> None:
        now = self.now()
        if self.holder:
            with pytest.raises(QueueHeld):
                self.queue.pop_batch(count, 1 << 20, now)
        else:
            assert [payload_of(body) for body in self.queue.pop_batch(count, 1 << 20, now)] == self.model.pop(count)
            self.model_admit()

    @rule(count=st.integers(1, 4))
    def peek_batch(self, count: int) -> None:
        bodies = self.queue.peek_batch(count, 1 << 20, self.now())
        assert [payload_of(body) for body in bodies] == [record.payload for record in self.model.first(count)]

    @precondition(lambda self: not self.model.of(MessageState.READY))
    @rule()
    def wait_for_message(self) -> None:
        self.queue.peek_batch(1, 0, self.now())
        if not self.model.first(1):
            self.takers.append(LongPoll())
            self.queue.waiters.wait_for_message(Taker(self.takers[-1].wake))

    @precondition(lambda self: self.takers)
    @rule(data=st.data())
    def give_up_waiting(self, data: st.DataObject) -> None:
        taker = data.draw(st.sampled_from(self.takers))
        self.takers.remove(taker)
        self.queue.advance(self.now())
        self.queue.waiters.give_up_waiting(Taker(taker.wake))

    # Leases

    @rule(count=st.integers(1, 4), lease=st.sampled_from([0, SECOND, 9 * SECOND]), data=st.data())
    def receive(self, count: int, lease: int, data: st.DataObject) -> None:
        now = self.now()
        claim = data.draw(st.sampled_from([None, *self.claims]))
        if self.holder and self.holder is not claim:
            with pytest.raises(QueueHeld):
                self.queue.receive(count, 1 << 20, now, claim=claim)
            return
        leased = self.queue.receive(count, 1 << 20, now, lease=lease, consumer="me", claim=claim)
        assert leased.deadline == now + (lease or self.model.lease)
        records = self.model.receive(count, leased.deadline, leased.first_token)
        assert [payload_of(body) for body in leased.bodies] == [record.payload for record in records]
        assert leased.counts == [record.count for record in records]
        if records:
            assert leased.first_token > max(self.tokens)
            self.tokens += [record.token for record in records]

    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        tokens = self.some_tokens(data)
        now = self.now()
        assert reasons(self.queue.ack(tokens, now)) == self.model.ack(tokens)
        self.model_admit()

    @rule(
        data=st.data(),
        delay=seconds,
        reason=st.sampled_from(["", "busy"]),
        outcome=st.sampled_from(TryOutcome),
        fate=st.sampled_from(["", "dead", "unused"]),
    )
    def nack(
        self,
        data: st.DataObject,
        delay: int,
        reason: str,
        outcome: TryOutcome,
        fate: str,
    ) -> None:
        tokens = self.some_tokens(data)
        now = self.now()
        results = self.queue.nack(tokens, now, delay=delay * SECOND, reason=reason, outcome=outcome, **fates(fate))
        assert reasons(results) == self.model.nack(tokens, outcome, reason, now + delay * SECOND, now, **fates(fate))

    @rule(data=st.data(), lease=st.sampled_from([0, SECOND, 9 * SECOND]))
    def extend(self, data: st.DataObject, lease: int) -> None:
        tokens = self.some_tokens(data)
        now = self.now()
        until = now + (lease or self.model.lease)
        results, deadline = self.queue.extend(tokens, now, lease=lease)
        assert deadline == until
        assert reasons(results) == self.model.extend(tokens, until)

    def some_tokens(self, data: st.DataObject) -> list[int]:
        """Return tokens of current, ended or unknown leases; the newest are likely."""
        held = [record.token for record in self.model.records if record.token]
        return data.draw(st.lists(st.sampled_from([*self.tokens, *held, *held, *held]), max_size=3))

    # Claims

    @property
    def holder(self) -> Claim | None:
        """The exclusive claim that holds the queue: the first one."""
        return next((claim for claim in self.claims if claim.is_exclusive), None)

    @rule(is_exclusive=st.booleans())
    def claim(self, is_exclusive: bool) -> None:  # noqa: FBT001  # hypothesis passes it by name
        claim = Claim(lambda: None, is_exclusive=is_exclusive)
        if self.holder and not is_exclusive:
            with pytest.raises(QueueHeld):
                self.queue.claims.add(claim)
            return
        before = self.holder
        self.claims.append(claim)
        self.queue.claims.add(claim)
        self.note_holder(before)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def release_claim(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        before = self.holder
        self.claims.remove(claim)
        self.queue.claims.drop(claim)
        self.note_holder(before)

    def note_holder(self, before: Claim | None) -> None:
        """Void all leases of the model if there is a new holder."""
        if self.holder is not None and self.holder is not before:
            self.model.is_taken_over = True
            self.is_settled = False

    # Browsing, purging and redriving

    @rule(
        data=st.data(),
        place=st.integers(0, 8),
        count=st.integers(1, 5),
        states=some_states,
        descending=st.booleans(),
        by_id=st.booleans(),
    )
    def browse(
        self,
        data: st.DataObject,
        place: int,
        count: int,
        states: set[MessageState],
        *,
        descending: bool,
        by_id: bool,
    ) -> None:
        now = self.now()
        among = None
        chosen = {record.seq for record in self.model.records}
        if by_id:
            rows = {each.seq: each.body for each in self.queue.browse(0, 1_000, now=now).messages}
            chosen = data.draw(st.sets(st.sampled_from(list(rows)))) if rows else set()
            among = sorted(self.queue.locate([*(id_of(rows[seq]) for seq in chosen), UNKNOWN_ID]))
        expected = [
            record.seq
            for record in self.model.records
            if (record.seq < place if descending else record.seq > place)
            and record.seq in chosen
            and (not states or record.state in states)
        ]
        found: list[int] = []
        is_end = False
        while not is_end:
            page = self.queue.browse(place, count, states, now=now, descending=descending, among=among)
            found += [each.seq for each in page.messages]
            place, is_end = page.last, page.is_end
        assert found == (expected[::-1] if descending else expected)

    @rule(data=st.data(), by_id=st.booleans(), states=st.one_of(st.just(set()), some_states))
    def purge(self, data: st.DataObject, by_id: bool, states: set[MessageState]) -> None:  # noqa: FBT001  # hypothesis passes it by name
        now = self.now()
        rows = {each.seq: each.body for each in self.queue.browse(0, 1_000, now=now).messages}
        chosen = data.draw(st.sets(st.sampled_from(list(rows)))) if rows else set()
        ids = [id_of(rows[seq]) for seq in chosen]
        counted = self.queue.count_ids([*ids, UNKNOWN_ID], now, states)
        expected = self.model.purge([record for record in self.model.records if record.seq in chosen], states)
        assert counted == expected
        if by_id:
            assert self.queue.purge_ids(ids, now, states) == expected
        else:
            assert self.queue.purge([*chosen, 1_000_000], now, states) == expected
        self.model_admit()

    @rule(data=st.data())
    def redrive(self, data: st.DataObject) -> None:
        now = self.now()
        seqs = [record.seq for record in self.model.records]
        chosen = sorted(data.draw(st.sets(st.sampled_from(seqs)))) if seqs else []
        expected = self.model.redrive([record for record in self.model.records if record.seq in chosen], now)
        assert self.queue.redrive([*chosen, 1_000_000], now) == expected

    # Responses

    @rule(key=st.sampled_from([b"a", b"b"]), response=st.binary(min_size=1, max_size=5))
    def respond_once(self, key: bytes, response: bytes) -> None:
        until, kept = self.responses.get(key, (0, b""))
        if until > self.clock:
            assert self.queue.responses.lookup_or_admit(key, self.clock) == kept
        else:
            assert self.queue.responses.lookup_or_admit(key, self.clock) is None
            self.queue.responses.store(key, response, self.clock)
            self.responses[key] = self.clock + 60 * SECOND, response

    # Changing

    @rule(limit=st.one_of(st.just(-1), st.integers(1, 6)), draining=st.booleans())
    def redefine(self, limit: int, draining: bool) -> None:  # noqa: FBT001  # hypothesis passes it by name
        self.model.limit, self.model.is_draining = limit, draining
        if draining:
            for waiter in self.waiters:
                waiter.refuse("QUEUE_DRAINING")
            self.ended += self.waiters
            self.waiters = []
        self.model_admit()
        definition = replace(self.queue.definition, limit=limit, draining=draining)
        self.manager.redefine(self.queue, definition, now=self.clock)

    @rule(lease=st.integers(1, 5), max_deliveries=st.integers(1, 4), ttl=st.sampled_from([None, 2, 6, 20]))
    def redefine_delivery(self, lease: int, max_deliveries: int, ttl: int | None) -> None:
        # Overdue transitions use the old settings, because the timer of a server rings in time.
        self.queue.advance(self.now())
        self.model.lease, self.model.max_deliveries = lease * SECOND, max_deliveries
        self.model.ttl = NEVER if ttl is None else ttl * SECOND
        delivery = DeliverySettings(lease_seconds=lease, max_deliveries=max_deliveries, message_ttl_seconds=ttl)
        self.manager.redefine(self.queue, replace(self.queue.definition, delivery=delivery), now=self.now())

    # Invariants

    @invariant()
    def the_limit_holds_and_nothing_is_lost(self) -> None:
        assert self.queue.depth == len(self.model.records)
        tally = self.queue.tally
        assert tally.enqueued == tally.consumed + tally.acked + tally.purged + self.queue.depth

    @invariant()
    def the_alarm_rings_in_time(self) -> None:
        assert self.queue.next_event <= self.model.next_due()
        assert self.manager.alarms.next_at <= max(self.queue.next_event, self.clock)

    @invariant()
    def every_waiter_ends_once_with_the_results_of_the_model(self) -> None:
        for waiter in self.ended:
            assert waiter.waiting
            assert [name(result) for result in waiter.waiting.results] == waiter.results
            assert waiter.calls_of_done == 1
        for waiter in self.waiters:
            assert waiter.calls_of_done == 0

    @precondition(lambda self: self.is_settled)
    @invariant()
    def the_messages_are_those_of_the_model(self) -> None:
        # Transitions may make others due: a message whose lease ended late may expire immediately.
        page = self.queue.browse(0, 1_000, now=self.now())
        assert self.queue.browse(page.last, 1, now=self.now()).is_end
        assert len(page.messages) == len(self.model.records)
        for each, record in zip(page.messages, self.model.records, strict=True):
            assert (each.seq, payload_of(each.body), each.state) == (record.seq, record.payload, record.state)
            assert each.until == (record.until if record.state in {MessageState.LEASED, MessageState.DELAYED} else 0)
            assert (each.delivery is not None) == record.is_known
            if each.delivery:
                assert (each.delivery.count, each.delivery.token) == (record.count, record.token)
                assert each.delivery.reason == record.reason
                assert tries_of(each.delivery) == record.tries
        ready = [payload_of(body) for body in self.queue.peek_batch(1_000, 1 << 20, self.clock)]
        assert ready == [record.payload for record in self.model.first(1_000)]

    @precondition(lambda self: self.is_settled)
    @invariant()
    def the_counts_are_those_of_the_model(self) -> None:
        self.queue.advance(self.now())
        counts = Counts(*(len(self.model.of(state)) for state in MessageState))
        assert self.queue.counts == counts
        assert self.queue.ready == counts.ready
        assert {name: getattr(self.queue.tally, name) for name in self.model.tally} == dict(self.model.tally)

    @precondition(lambda self: self.is_settled and not self.holder)
    @invariant()
    def a_waiter_is_woken_for_every_ready_message(self) -> None:
        woken = sum(taker.is_woken for taker in self.takers)
        assert woken == len(self.takers) or self.queue.ready <= woken

    @invariant()
    def the_first_claim_holds_the_queue_and_tokens_grow(self) -> None:
        assert self.queue.claims.is_held == (self.holder is not None)
        if self.holder and self.holder.token not in self.tokens:
            assert self.holder.token > max(self.tokens)
            self.tokens.append(self.holder.token)
        assert len(self.queue.waiters) == (
            len(self.waiters)
            + sum(not taker.is_woken for taker in self.takers)
            + sum(claim.is_exclusive and claim is not self.holder for claim in self.claims)
        )

    @invariant()
    def the_memory_accounts_balance(self) -> None:
        records = self.model.records
        kept = [
            len(response) + RESPONSE_OVERHEAD
            for key, (_, response) in self.responses.items()
            if key in self.stored_responses
        ]
        assert (
            self.manager.budget.used - self.idle - self.queue_cost
            == (
                self.queue.stored_bytes
                + len(records) * MESSAGE_OVERHEAD
                + sum(bool(record.own_id) for record in records) * OWN_ID_OVERHEAD
                + len(self.queue._messages.deliveries) * LEASE_OVERHEAD  # noqa: SLF001  # some may be overdue
                + sum(record.is_ranked for record in records) * RANK_OVERHEAD
                + sum(draft.size for waiter in self.waiters for draft in waiter.drafts[len(waiter.results) :])
                + sum(kept)
            )
        )

    @property
    def stored_responses(self) -> set[bytes]:
        """The keys of the stored responses; expired ones are dropped at the next lookup."""
        return set(self.queue._messages.responses)  # noqa: SLF001  # expired ones are still there

    def teardown(self) -> None:
        if hasattr(self, "queue"):
            self.manager.delete(self.queue)
            assert self.manager.budget.used == self.idle

    @staticmethod
    def note_done(waiter: ModelWaiter) -> None:
        waiter.calls_of_done += 1


def fates(fate: str) -> dict[str, bool]:
    """Return the options of a Nack: `dead` or `unused`."""
    return {"dead": fate == "dead", "unused": fate == "unused"}


def name(result: AddResult) -> str:
    """Return the result of an Add as a word."""
    if isinstance(result, QueueletError):
        return result.reason
    return "DUPLICATE" if isinstance(result, Duplicate) else "ADDED"


def reasons(results: list[QueueletError | None]) -> list[str]:
    """Return the reason of each lease's error; empty for no error."""
    return [result.reason if result else "" for result in results]


class ForgetfulQueueMachine(QueueMachine):
    """The same with a store whose messages have to be loaded before they are read."""

    def make_manager(self) -> Manager:
        budget = MemoryBudget(1 << 40)
        self.store = ForgetfulStore(budget)
        return Manager({StoreKind.MEMORY: self.store}, bounds=Bounds(), budget=budget, tokens=Tokens(1))

    @initialize(limit=st.sampled_from([3, 6, -1]))
    def begin(self, limit: int) -> None:
        super().begin(limit)
        self.repeating = RepeatingQueue(self.queue, self.store.reads, lambda: self.clock)
        self.queue = cast("Queue", self.repeating)

    def after_alarms(self) -> None:
        self.repeating.settle()


TestQueue = QueueMachine.TestCase
TestQueueWhoseMessagesHaveToBeLoaded = ForgetfulQueueMachine.TestCase
