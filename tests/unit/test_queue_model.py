"""Whatever is done to a queue in whatever order, it is what a naive model says, and its limit holds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from queuelet.definition import Definition
from queuelet.errors import QueueEmpty, QueueletError
from queuelet.queue import AddResult, Duplicate, WaitingAdd
from support.drafts import PlainDraft, id_of, payload_of
from support.queues import make_manager

OWN_IDS = [b"%08d-1111-4222-8333-444455556666" % number for number in range(4)]

drafts = st.builds(PlainDraft, st.binary(max_size=8), st.one_of(st.just(b""), st.sampled_from(OWN_IDS)))


@dataclass
class ModelWaiter:
    """A call that waits for room."""

    waiting: WaitingAdd | None
    drafts: list[PlainDraft]
    results: list[str] = field(default_factory=list)
    calls_of_done: int = 0

    @property
    def ended(self) -> bool:
        """Whether every message has its result."""
        return len(self.results) == len(self.drafts)

    def refuse(self, reason: str) -> None:
        """End with a reason."""
        self.results += [reason] * (len(self.drafts) - len(self.results))


class QueueMachine(RuleBasedStateMachine):
    """A queue beside a list."""

    def __init__(self) -> None:
        super().__init__()
        self.manager = make_manager()
        self.idle = self.manager.budget.used
        self.queue = self.manager.new(Definition(name="orders", limit=3), now=1)
        self.model: list[tuple[bytes, bytes]] = []
        self.waiters: list[ModelWaiter] = []
        self.ended: list[ModelWaiter] = []
        self.limit = 3
        self.draining = False
        self.clock = 1

    # What the model does

    def model_add(self, draft: PlainDraft, *, in_turn: bool) -> str:
        """Return what an Add ends with; `in_turn` is for those who waited."""
        if draft.own_id and any(known == draft.own_id for known, _ in self.model):
            return "DUPLICATE"
        if self.draining:
            return "QUEUE_DRAINING"
        if (self.waiters and not in_turn) or (self.limit != -1 and len(self.model) >= self.limit):
            return "QUEUE_FULL"
        self.model.append((draft.own_id, draft.payload))
        return "ADDED"

    def model_admit(self) -> None:
        """Let waiters in."""
        while self.waiters:
            waiter = self.waiters[0]
            while not waiter.ended:
                end = self.model_add(waiter.drafts[len(waiter.results)], in_turn=True)
                if end == "QUEUE_FULL":
                    return
                waiter.results.append(end)
            self.ended.append(self.waiters.pop(0))

    # What is done

    @rule(draft=drafts)
    def add(self, draft: PlainDraft) -> None:
        expected = self.model_add(draft, in_turn=False)
        try:
            end = name(self.queue.add(draft, now=self.tick()))
        except QueueletError as error:
            end = error.reason
        assert end == expected

    @rule(batch=st.lists(drafts, min_size=1, max_size=5))
    def add_batch(self, batch: list[PlainDraft]) -> None:
        expected = [self.model_add(draft, in_turn=False) for draft in batch]
        assert [name(result) for result in self.queue.add_batch(batch, now=self.tick())] == expected

    @rule(batch=st.lists(drafts, min_size=1, max_size=4))
    def wait_to_add(self, batch: list[PlainDraft]) -> None:
        waiter = ModelWaiter(None, batch)
        self.waiters.append(waiter)
        self.model_admit()
        waiter.waiting = self.queue.wait_to_add(batch, lambda: self.note_done(waiter), now=self.tick())

    @precondition(lambda self: self.waiters)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(self.waiters))
        self.waiters.remove(waiter)
        waiter.refuse("QUEUE_FULL")
        self.ended.append(waiter)
        self.model_admit()
        assert waiter.waiting
        self.queue.give_up_adding(waiter.waiting, now=self.tick())
        waiter.calls_of_done += 1

    @rule()
    def pop(self) -> None:
        try:
            popped = payload_of(self.queue.pop(now=self.tick()))
        except QueueEmpty:
            assert not self.model
        else:
            assert popped == self.model.pop(0)[1]
            self.model_admit()

    @rule(count=st.integers(1, 4))
    def pop_batch(self, count: int) -> None:
        popped = [payload_of(body) for body in self.queue.pop_batch(count, 1 << 20, now=self.tick())]
        assert popped == [payload for _, payload in self.model[:count]]
        del self.model[:count]
        self.model_admit()

    @rule(count=st.integers(1, 4))
    def peek_batch(self, count: int) -> None:
        assert [payload_of(body) for body in self.queue.peek_batch(count, 1 << 20)] == [
            payload for _, payload in self.model[:count]
        ]

    @rule(data=st.data())
    def purge_some(self, data: st.DataObject) -> None:
        rows = self.queue.browse(0, 100)
        chosen = data.draw(st.sets(st.integers(0, len(rows) - 1)) if rows else st.just(set()))
        ids = [id_of(rows[index][1]) for index in chosen]
        assert self.queue.purge_ids(ids, now=self.tick()) == len(chosen)
        self.model = [message for index, message in enumerate(self.model) if index not in chosen]
        self.model_admit()

    @rule(limit=st.one_of(st.just(-1), st.integers(1, 6)), draining=st.booleans())
    def redefine(self, limit: int, draining: bool) -> None:  # noqa: FBT001  # hypothesis passes it by name
        self.limit, self.draining = limit, draining
        if draining:
            for waiter in self.waiters:
                waiter.refuse("QUEUE_DRAINING")
            self.ended += self.waiters
            self.waiters = []
        self.model_admit()
        definition = replace(self.queue.definition, limit=limit, draining=draining)
        self.manager.redefine(self.queue, definition, now=self.tick())

    # What always holds

    @invariant()
    def the_messages_are_those_of_the_model(self) -> None:
        assert [payload_of(body) for _, body in self.queue.browse(0, 1_000)] == [payload for _, payload in self.model]
        assert self.queue.counts.total == self.queue.depth == len(self.model)

    @invariant()
    def every_waiter_ends_once_with_the_results_of_the_model(self) -> None:
        for waiter in self.ended:
            assert waiter.waiting
            assert [name(result) for result in waiter.waiting.results] == waiter.results
            assert waiter.calls_of_done == 1
        assert self.queue.waiting == len(self.waiters)
        for waiter in self.waiters:
            assert waiter.calls_of_done == 0

    @invariant()
    def nothing_is_lost_and_the_accounts_balance(self) -> None:
        assert self.queue.enqueued == self.queue.consumed + self.queue.purged + len(self.model)
        assert self.queue.stored_bytes == sum(len(body) for _, body in self.queue.browse(0, 1_000))

    def teardown(self) -> None:
        self.manager.delete(self.queue)
        assert self.manager.budget.used == self.idle

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    @staticmethod
    def note_done(waiter: ModelWaiter) -> None:
        waiter.calls_of_done += 1


def name(result: AddResult) -> str:
    """Return what an Add ended with, in a word."""
    if isinstance(result, QueueletError):
        return result.reason
    return "DUPLICATE" if isinstance(result, Duplicate) else "ADDED"


TestQueue = QueueMachine.TestCase
