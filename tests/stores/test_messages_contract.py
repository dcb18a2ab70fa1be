"""The contract of `core/storage.py` for messages, run against every store. Add a new store to `STORES`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from queuelet.core.budget import MemoryBudget
from queuelet.core.message import DeliveryRecord, Rank
from queuelet.core.storage import Messages
from queuelet.core.stored_form import failed_try
from queuelet.definition import MessageState, QueueDefinition, TryOutcome
from queuelet.stores.memory import MemoryStore
from support.counts import on_a_disk
from support.disk_harness import DiskHarness
from support.postgres_harness import Postgres16Harness, PostgresHarness

OWN_ID = b"6f9c0000-1111-4222-8333-444455556666"
RANK = Rank(priority=-7, due=40, created=30, ttl=20)


class Harness(Protocol):
    """A store with one queue. The caller runs no event loop; a harness whose store needs one has its own."""

    budget: MemoryBudget
    """The budget to which the store charges its memory."""

    outlives_process: bool
    """Whether `reopen` can be called."""

    def open(self) -> Messages:
        """Create the queue, and return its messages. Called first and once."""

    def turn(self) -> None:
        """Let the store work in the background for a moment, without waiting for a commit."""

    def commit(self) -> None:
        """Wait for the commit of all changes."""

    def reopen(self) -> Messages:
        """Stop without another commit, like a killed process; open the store again and return the stored messages."""

    def close(self) -> None:
        """Close the store and remove its files."""


class MemoryHarness:
    """The Memory store."""

    outlives_process = False

    def __init__(self) -> None:
        self.budget = MemoryBudget(1 << 50)

    def open(self) -> Messages:
        """Create the queue."""
        return MemoryStore(self.budget).new("id", 1, QueueDefinition())

    def turn(self) -> None:
        """Do nothing, because the store has no background work."""

    def commit(self) -> None:
        """Do nothing, because there is nothing to write."""

    def reopen(self) -> Messages:
        """Fail, because nothing outlives the process."""
        raise NotImplementedError

    def close(self) -> None:
        """Do nothing."""


STORES: dict[str, type[Harness]] = {
    "memory": MemoryHarness,
    "disk": DiskHarness,
    "postgres": PostgresHarness,
    "postgres 16": Postgres16Harness,
}


@pytest.fixture(params=list(STORES.values()), ids=list(STORES))
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """Each store."""
    made: Harness = request.param()
    yield made
    made.close()


DURABLE = {name: made for name, made in STORES.items() if made.outlives_process}


@pytest.fixture(params=list(DURABLE.values()), ids=list(DURABLE))
def durable(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """Each store that outlives the process."""
    made: Harness = request.param()
    yield made
    made.close()


@pytest.fixture
def messages(harness: Harness) -> Messages:
    """The messages of an empty queue, in each store."""
    return harness.open()


def reopened(harness: Harness) -> Messages:
    """Commit, reopen the store, and return the stored messages."""
    harness.commit()
    return harness.reopen()


def body_of(seq: int, size: int = 10) -> bytes:
    """Return a message that contains its sequence number."""
    return (b"%d" % seq).ljust(size, b".")


def fill(messages: Messages, count: int, size: int = 10) -> None:
    """Add messages numbered from 1."""
    for seq in range(1, count + 1):
        messages.append(seq, body_of(seq, size))


def deliver(messages: Messages, count: int) -> list[int]:
    """Lease the first messages, as a queue does."""
    seqs, _ = messages.checkout_many(count, 1 << 20)
    for seq in seqs:
        messages.deliveries[seq] = DeliveryRecord(MessageState.LEASED, 1, 100 + seq, 50, 40, "worker")
    messages.mark_changed(seqs)
    return seqs


def line_of(messages: Messages) -> list[int]:
    """Return the sequence numbers of all messages in line."""
    return messages.first_many(1_000_000, 1 << 40)[0]


def stored_in(messages: Messages) -> list[int]:
    """Return the sequence numbers of all messages."""
    return [seq for seq, _ in messages.after(0, 1_000_000, 1 << 40)]


def facts_of(delivery: DeliveryRecord) -> list[object]:
    """Return all fields of a delivery."""
    return [getattr(delivery, name) for name in DeliveryRecord.__slots__]


# The line


def test_messages_leave_in_the_order_in_which_they_came(messages: Messages) -> None:
    fill(messages, 3)
    assert [messages.take() for _ in range(4)] == [(1, body_of(1)), (2, body_of(2)), (3, body_of(3)), None]


def test_messages_added_together_follow_earlier_ones_in_their_order(messages: Messages) -> None:
    fill(messages, 2)
    messages.append_many(3, [body_of(3), body_of(4)])
    messages.append_many(5, [])
    messages.append(5, body_of(5))
    assert messages.take_many(9, 1 << 20) == ([1, 2, 3, 4, 5], [body_of(seq) for seq in range(1, 6)])


def test_take_many_stops_at_the_count(messages: Messages) -> None:
    fill(messages, 5)
    assert messages.take_many(2, 1_000) == ([1, 2], [body_of(1), body_of(2)])
    assert len(messages) == 3


def test_take_many_stops_before_max_bytes_is_exceeded(messages: Messages) -> None:
    fill(messages, 5, size=10)
    assert messages.take_many(5, 29)[0] == [1, 2]


def test_take_many_takes_at_least_one_message_of_any_size(messages: Messages) -> None:
    fill(messages, 2, size=100)
    assert messages.take_many(5, 10)[0] == [1]


def test_first_many_removes_nothing(messages: Messages) -> None:
    fill(messages, 3)
    assert messages.first_many(2, 1_000) == messages.first_many(2, 1_000) == ([1, 2], [body_of(1), body_of(2)])
    assert messages.first_many(1, 0)[0] == [1]
    assert len(messages) == 3


def test_an_empty_line_has_no_first(messages: Messages) -> None:
    assert messages.first_many(1, 0) == ([], [])
    assert messages.first_many(5, 1_000) == messages.checkout_many(5, 1_000) == messages.take_many(5, 1_000) == ([], [])


def test_a_checked_out_message_is_out_of_the_line_and_stays_stored(messages: Messages) -> None:
    fill(messages, 4)
    assert messages.checkout_many(2, 1_000) == ([1, 2], [body_of(1), body_of(2)])
    assert line_of(messages) == [3, 4]
    assert messages.get(1) == body_of(1)
    assert stored_in(messages) == [1, 2, 3, 4]
    assert (len(messages), messages.stored_bytes) == (4, 40)


def test_a_returned_message_takes_its_old_place(messages: Messages) -> None:
    fill(messages, 5)
    messages.checkout_many(4, 1_000)
    for seq in (3, 1):
        messages.return_to_line(seq)
    assert messages.first_many(1, 0)[0] == [1]
    assert line_of(messages) == [1, 3, 5]
    assert messages.take() == (1, body_of(1))
    assert messages.take_many(5, 1_000)[0] == [3, 5]


def test_a_returned_message_counts_towards_max_bytes_and_can_be_checked_out_again(messages: Messages) -> None:
    fill(messages, 4, size=10)
    messages.checkout_many(2, 1_000)
    messages.return_to_line(1)
    messages.return_to_line(2)
    assert messages.checkout_many(5, 35)[0] == [1, 2, 3]
    messages.return_to_line(2)
    assert line_of(messages) == [2, 4]


def test_checked_out_messages_stay_when_thousands_after_them_are_removed(messages: Messages) -> None:
    fill(messages, 6_000)
    messages.checkout_many(100, 1 << 20)
    messages.take_many(2_000, 1 << 20)
    for seq in range(3_000, 5_500):
        messages.discard(seq)
    for seq in (70, 7):
        messages.return_to_line(seq)
    assert stored_in(messages) == [*range(1, 101), *range(2_101, 3_000), *range(5_500, 6_001)]
    assert line_of(messages) == [7, 70, *range(2_101, 3_000), *range(5_500, 6_001)]


# Messages with a rank


def test_a_message_with_a_rank_is_not_in_line(messages: Messages) -> None:
    messages.append(1, body_of(1))
    messages.keep(2, body_of(2), RANK)
    messages.append(3, body_of(3))
    assert messages.ranks == {2: RANK}
    assert line_of(messages) == [1, 3]
    assert stored_in(messages) == [1, 2, 3]
    assert messages.take_many(5, 1_000)[0] == [1, 3]
    assert messages.take() is None
    assert messages.get(2) == body_of(2)
    assert (len(messages), messages.stored_bytes) == (1, 10)


def test_a_checked_out_message_may_be_given_a_rank(messages: Messages) -> None:
    fill(messages, 2)
    messages.checkout_many(1, 1_000)
    messages.ranks[1] = RANK
    messages.mark_changed([1])
    assert line_of(messages) == [2]
    assert stored_in(messages) == [1, 2]


# Any message


def test_a_discarded_message_is_gone_and_leaves_the_others(messages: Messages) -> None:
    fill(messages, 3)
    assert messages.discard(2) == 10
    assert messages.discard(2) is None
    assert messages.get(2) is None
    assert messages.take_many(5, 1_000)[0] == [1, 3]


@pytest.mark.parametrize("where", ["checked out", "returned", "ranked"])
def test_a_message_can_be_discarded_wherever_it_is(messages: Messages, where: str) -> None:
    messages.keep(1, body_of(1), RANK) if where == "ranked" else messages.append(1, body_of(1))
    messages.append(2, body_of(2))
    if where != "ranked":
        messages.checkout_many(1, 1_000)
    if where == "returned":
        messages.return_to_line(1)
    assert messages.discard(1) == 10
    messages.ranks.pop(1, None)
    assert line_of(messages) == stored_in(messages) == [2]
    assert (len(messages), messages.stored_bytes) == (1, 10)


def test_after_stops_before_max_bytes_is_exceeded_and_returns_at_least_one_message(messages: Messages) -> None:
    fill(messages, 5, size=10)
    assert [seq for seq, _ in messages.after(0, 5, 29)] == [1, 2]
    assert [seq for seq, _ in messages.after(2, 5, 1)] == [3]


def test_after_accepts_the_sequence_number_of_a_removed_message(messages: Messages) -> None:
    fill(messages, 5)
    messages.discard(2)
    messages.take()
    assert [seq for seq, _ in messages.after(0, 10, 1 << 40)] == [3, 4, 5]
    assert messages.after(2, 2, 1 << 40) == [(3, body_of(3)), (4, body_of(4))]
    assert messages.after(5, 10, 1 << 40) == []


def test_before_returns_the_newest_messages_first(messages: Messages) -> None:
    fill(messages, 5)
    assert messages.before(6, 2, 1 << 40) == [(5, body_of(5)), (4, body_of(4))]
    assert messages.before(4, 9, 1 << 40) == [(3, body_of(3)), (2, body_of(2)), (1, body_of(1))]
    assert messages.before(1, 9, 1 << 40) == messages.before(0, 9, 1 << 40) == []
    assert [seq for seq, _ in messages.before(1 << 60, 9, 1 << 40)] == [5, 4, 3, 2, 1]


def test_before_stops_before_max_bytes_is_exceeded_and_returns_at_least_one_message(messages: Messages) -> None:
    fill(messages, 5, size=10)
    assert [seq for seq, _ in messages.before(6, 5, 29)] == [5, 4]
    assert [seq for seq, _ in messages.before(4, 5, 1)] == [3]


def test_before_accepts_the_sequence_number_of_a_removed_message_and_includes_those_out_of_line(
    harness: Harness,
) -> None:
    messages = harness.open()
    fill(messages, 4)
    messages.checkout_many(1, 0)
    messages.keep(5, body_of(5), RANK)
    harness.commit()
    messages.append(6, body_of(6))
    messages.append(7, body_of(7))
    messages.discard(7)
    messages.discard(3)
    assert [seq for seq, _ in messages.before(8, 9, 1 << 40)] == [6, 5, 4, 2, 1]
    assert [seq for seq, _ in messages.before(3, 9, 1 << 40)] == [2, 1]


def test_a_message_is_found_by_the_id_its_producer_gave_until_it_is_removed(messages: Messages) -> None:
    other = OWN_ID[:-1] + b"7"
    messages.append(1, body_of(1), OWN_ID)
    messages.keep(2, body_of(2), RANK, other)
    assert (messages.seq_of(OWN_ID), messages.seq_of(other)) == (1, 2)
    messages.checkout_many(1, 0)
    assert messages.seq_of(OWN_ID) == 1
    messages.discard(1)
    messages.discard(2)
    assert messages.seq_of(OWN_ID) is messages.seq_of(other) is None
    messages.append(3, body_of(3), OWN_ID)
    assert messages.seq_of(OWN_ID) == 3
    messages.take()
    assert messages.seq_of(OWN_ID) is None


def test_an_id_is_made_from_a_prefix_that_stays(messages: Messages) -> None:
    prefix = messages.id_prefix
    fill(messages, 1)
    messages.clear()
    assert messages.id_prefix == prefix
    assert len(prefix) == 24


# Responses


def test_a_response_is_saved_until_it_is_forgotten(messages: Messages) -> None:
    messages.store_response(b"first", 10, b"one")
    messages.store_response(b"second", 20, b"two")
    assert list(messages.responses.items()) == [(b"first", 10), (b"second", 20)]
    messages.forget_responses([b"first", b"never kept"])
    assert messages.response(b"first") is None
    assert messages.response(b"second") == b"two"
    assert list(messages.responses) == [b"second"]


# All of them


def test_clear_removes_everything_and_new_messages_start_a_new_line(messages: Messages) -> None:
    fill(messages, 3)
    messages.keep(4, body_of(4), RANK, OWN_ID)
    deliver(messages, 1)
    messages.store_response(b"key", 10, b"response")
    messages.clear()
    assert (len(messages), messages.stored_bytes) == (0, 0)
    assert not messages.ranks
    assert not messages.deliveries
    assert not messages.responses
    assert [messages.response(b"key"), messages.seq_of(OWN_ID), messages.get(1)] == [None, None, None]
    assert messages.take() is None
    assert stored_in(messages) == []
    messages.append(9, b"new")
    assert messages.take() == (9, b"new")


@pytest.mark.parametrize("end", ["one by one", "clear"])
def test_the_budget_is_as_before_once_everything_is_removed(harness: Harness, end: str) -> None:
    messages = harness.open()
    idle = harness.budget.used
    fill(messages, 6)
    messages.append(7, body_of(7), OWN_ID)
    messages.keep(8, body_of(8), RANK, OWN_ID[:-1] + b"7")
    messages.checkout_many(3, 1_000)
    messages.return_to_line(2)
    messages.store_response(b"key", 10, b"response")
    assert harness.budget.used > idle
    if end == "clear":
        messages.clear()
    else:
        assert messages.take() == (2, body_of(2))
        assert messages.take_many(2, 1_000)[0] == [4, 5]
        for seq in (1, 3, 6, 7, 8):
            messages.discard(seq)
        messages.ranks.clear()
        messages.forget_responses([b"key"])
    harness.commit()
    assert harness.budget.used == idle


# Across an end of the process


def test_a_delivered_message_is_out_of_the_line_when_the_store_is_opened(durable: Harness) -> None:
    messages = durable.open()
    fill(messages, 4)
    delivered = facts_of(messages.deliveries[deliver(messages, 2)[1]])
    messages = reopened(durable)
    assert line_of(messages) == [3, 4]
    assert stored_in(messages) == [1, 2, 3, 4]
    assert sorted(messages.deliveries) == [1, 2]
    assert facts_of(messages.deliveries[2]) == delivered
    messages.return_to_line(1)
    assert line_of(messages) == [1, 3, 4]


def test_a_checked_out_message_without_a_delivery_is_back_in_line(durable: Harness) -> None:
    messages = durable.open()
    fill(messages, 3)
    messages.checkout_many(2, 1_000)
    assert line_of(reopened(durable)) == [1, 2, 3]


def test_committed_messages_are_stored_when_the_store_is_reopened(durable: Harness) -> None:
    messages = durable.open()
    prefix = messages.id_prefix
    messages.append(1, body_of(1), OWN_ID)
    messages.keep(2, body_of(2), RANK)
    messages.append(3, body_of(3))
    messages.append(4, body_of(4))
    messages.discard(3)
    messages.tally.next_seq, messages.tally.enqueued = 5, 4
    messages.store_response(b"first", 10, b"one")
    messages.store_response(b"second", 20, b"two")
    messages = reopened(durable)
    stored = [(1, body_of(1)), (2, body_of(2)), (4, body_of(4))]
    assert messages.after(0, 10, 1 << 40) == stored
    assert messages.before(5, 10, 1 << 40) == stored[::-1]
    assert messages.ranks == {2: RANK}
    assert messages.seq_of(OWN_ID) == 1
    assert messages.tally.enqueued == 4
    assert messages.tally.next_seq >= 5
    assert list(messages.responses.items()) == [(b"first", 10), (b"second", 20)]
    assert messages.response(b"first") == b"one"
    assert (len(messages), messages.stored_bytes, messages.id_prefix) == (3, 30, prefix)


def test_the_budget_is_as_before_once_stored_messages_are_removed(durable: Harness) -> None:
    messages = durable.open()
    idle = durable.budget.used
    fill(messages, 3)
    deliver(messages, 1)
    messages.store_response(b"key", 10, b"response")
    messages = reopened(durable)
    messages.first_many(5, 1_000)
    messages.clear()
    durable.commit()
    assert durable.budget.used == idle


# Random sequences of calls

IDS = [b"%08d-1111-4222-8333-444455556666" % number for number in range(4)]
KEYS = [b"key %d" % number for number in range(4)]
ranks = st.builds(Rank, st.integers(-(1 << 31), (1 << 31) - 1), *[st.integers(0, 1 << 62)] * 3)
few_or_many = st.one_of(st.integers(1, 5), st.just(2_500))


class MessagesMachine(RuleBasedStateMachine):
    """Compares the messages with plain dicts in order of sequence numbers."""

    make: Callable[[], Harness]

    def __init__(self) -> None:
        super().__init__()
        self.durable = type(self).make()
        self.messages = self.durable.open()
        self.idle = self.durable.budget.used
        self.next_seq = 1
        self.bodies: dict[int, bytes] = {}
        self.line: set[int] = set()
        self.ids: dict[bytes, int] = {}
        self.ranks: dict[int, Rank] = {}
        self.deliveries: dict[int, DeliveryRecord] = {}
        self.responses: dict[bytes, tuple[int, bytes]] = {}

    # Adding

    @rule(count=few_or_many, own_id=st.sampled_from([b"", *IDS]))
    def append(self, count: int, own_id: bytes) -> None:
        for _ in range(count):
            own_id = self.unused(own_id)
            seq, body = self.model_add(own_id)
            self.line.add(seq)
            self.messages.append(seq, body, own_id)

    @rule(count=few_or_many)
    def append_many(self, count: int) -> None:
        added = [self.model_add(b"") for _ in range(count)]
        self.line.update(seq for seq, _ in added)
        self.messages.append_many(added[0][0], [body for _, body in added])

    @rule(rank=ranks, count=few_or_many, own_id=st.sampled_from([b"", *IDS]))
    def keep(self, rank: Rank, count: int, own_id: bytes) -> None:
        for _ in range(count):
            own_id = self.unused(own_id)
            seq, body = self.model_add(own_id)
            self.ranks[seq] = rank
            self.messages.keep(seq, body, rank, own_id)

    # The line

    @rule()
    def take(self) -> None:
        expected = self.first(1, 0)
        assert self.messages.take() == ((expected[0], self.bodies[expected[0]]) if expected else None)
        self.model_remove(expected)

    @rule(count=few_or_many, max_bytes=st.integers(0, 40_000))
    def take_many(self, count: int, max_bytes: int) -> None:
        expected = self.first(count, max_bytes)
        assert self.messages.take_many(count, max_bytes) == (expected, [self.bodies[seq] for seq in expected])
        self.model_remove(expected)

    @rule(count=few_or_many, max_bytes=st.integers(0, 40_000))
    def look(self, count: int, max_bytes: int) -> None:
        expected = self.first(count, max_bytes)
        assert self.messages.first_many(count, max_bytes) == (expected, [self.bodies[seq] for seq in expected])

    @rule(count=few_or_many, max_bytes=st.integers(0, 40_000), is_delivered=st.booleans())
    def lift(self, count: int, max_bytes: int, is_delivered: bool) -> None:  # noqa: FBT001  # hypothesis passes it by name
        expected = self.first(count, max_bytes)
        assert self.messages.checkout_many(count, max_bytes) == (expected, [self.bodies[seq] for seq in expected])
        self.line.difference_update(expected)
        if is_delivered:
            for seq in expected:
                delivery = DeliveryRecord(MessageState.LEASED, 1, seq + 1_000_000, 50, 40, "worker")
                self.deliveries[seq] = self.messages.deliveries[seq] = delivery
            self.messages.mark_changed(expected)

    @precondition(lambda self: self.lifted)
    @rule(data=st.data(), run=few_or_many)
    def return_to_line(self, data: st.DataObject, run: int) -> None:
        for seq in self.some(data, self.lifted, run):
            if seq in self.deliveries:
                self.deliveries[seq].state = MessageState.READY
                self.messages.mark_changed([seq])
            self.messages.return_to_line(seq)
            self.line.add(seq)

    @precondition(lambda self: self.lifted)
    @rule(data=st.data(), run=few_or_many, rank=ranks)
    def rank_lifted(self, data: st.DataObject, run: int, rank: Rank) -> None:
        for seq in self.some(data, self.lifted, run):
            self.ranks[seq] = self.messages.ranks[seq] = rank
            self.messages.mark_changed([seq])

    # Any message

    @rule(data=st.data(), run=few_or_many)
    def discard(self, data: st.DataObject, run: int) -> None:
        start = data.draw(st.integers(0, self.next_seq))
        for seq in range(start, start + run):
            body = self.bodies.get(seq)
            assert self.messages.discard(seq) == (None if body is None else len(body))
            if body is not None:
                self.model_remove([seq])

    @rule(data=st.data(), count=st.integers(1, 20))
    def after(self, data: st.DataObject, count: int) -> None:
        start = data.draw(st.integers(0, self.next_seq))
        expected = [(seq, body) for seq, body in self.bodies.items() if seq > start][:count]
        assert self.messages.after(start, count, 1 << 40) == expected

    @rule(data=st.data(), count=st.integers(1, 20))
    def before(self, data: st.DataObject, count: int) -> None:
        start = data.draw(st.integers(0, self.next_seq))
        expected = [(seq, body) for seq, body in reversed(self.bodies.items()) if seq < start][:count]
        assert self.messages.before(start, count, 1 << 40) == expected

    @rule(data=st.data())
    def get(self, data: st.DataObject) -> None:
        seq = data.draw(st.integers(0, self.next_seq))
        assert self.messages.look(seq) == self.bodies.get(seq)
        assert self.messages.get(seq) == self.bodies.get(seq)

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data(), reason=st.sampled_from(["", "no", "käse"]))
    def mark_changed(self, data: st.DataObject, reason: str) -> None:
        seq = data.draw(st.sampled_from(sorted(self.deliveries)))
        delivery = self.deliveries[seq]
        delivery.count += 1
        delivery.superseded = (*delivery.superseded, delivery.token)
        delivery.history += failed_try(TryOutcome.NACKED, delivery, 60, reason)
        self.messages.mark_changed([seq])

    # Responses

    @rule(key=st.sampled_from(KEYS), response=st.binary(max_size=8), until=st.integers(0, 1 << 62))
    def store_response(self, key: bytes, response: bytes, until: int) -> None:
        if key not in self.responses:
            # Responses that are saved later expire later, because the clock does not go back.
            until = max([until, *(kept for kept, _ in self.responses.values())])
            self.responses[key] = until, response
            self.messages.store_response(key, until, response)

    @rule(keys=st.sets(st.sampled_from(KEYS)))
    def forget_responses(self, keys: set[bytes]) -> None:
        self.messages.forget_responses(keys)
        for key in keys:
            self.responses.pop(key, None)

    # All

    @precondition(lambda self: self.next_seq > 5_000)  # rarely, so that many messages accumulate
    @rule()
    def clear(self) -> None:
        self.messages.clear()
        for known in (self.bodies, self.line, self.ids, self.ranks, self.deliveries, self.responses):
            known.clear()

    @rule()
    def turn(self) -> None:
        self.durable.turn()

    @rule()
    def commit(self) -> None:
        self.durable.commit()

    @precondition(lambda self: self.durable.outlives_process)
    @rule()
    def reopen(self) -> None:
        self.durable.commit()
        self.messages = self.durable.reopen()
        assert self.messages.tally.next_seq >= self.next_seq
        # A queue changes the `DeliveryRecord` objects that the store has loaded.
        assert {seq: facts_of(each) for seq, each in self.messages.deliveries.items()} == {
            seq: facts_of(each) for seq, each in self.deliveries.items()
        }
        self.deliveries = dict(self.messages.deliveries)
        self.line = set(self.bodies) - set(self.ranks) - set(self.deliveries)

    # What always holds

    @invariant()
    def agrees(self) -> None:
        assert len(self.messages) == len(self.bodies)
        assert self.messages.stored_bytes == sum(map(len, self.bodies.values()))
        assert self.messages.first_many(1, 0)[0] == sorted(self.line)[:1]
        assert self.messages.ranks == self.ranks
        assert self.messages.deliveries == self.deliveries
        assert [self.messages.seq_of(each) for each in IDS] == [self.ids.get(each) for each in IDS]
        assert list(self.messages.responses.items()) == [(key, until) for key, (until, _) in self.responses.items()]
        stored = [response for _, response in self.responses.values()]
        assert [self.messages.response(key) for key in self.responses] == stored

    def teardown(self) -> None:
        self.messages.clear()
        self.durable.commit()
        assert self.durable.budget.used == self.idle
        self.durable.close()

    # The model

    @property
    def lifted(self) -> list[int]:
        """The messages that were checked out of the line and have no rank."""
        return [seq for seq in self.bodies if seq not in self.line and seq not in self.ranks]

    def first(self, count: int, max_bytes: int) -> list[int]:
        found: list[int] = []
        size = 0
        for seq in sorted(self.line):
            size += len(self.bodies[seq])
            if len(found) == count or (found and size > max_bytes):
                break
            found.append(seq)
        return found

    def model_add(self, own_id: bytes) -> tuple[int, bytes]:
        seq = self.messages.tally.next_seq
        self.next_seq = self.messages.tally.next_seq = seq + 1
        self.bodies[seq] = body_of(seq, seq % 20)
        if own_id:
            self.ids[own_id] = seq
        return seq, self.bodies[seq]

    def model_remove(self, seqs: list[int]) -> None:
        """Forget removed messages, with their ranks and deliveries, as the queue does."""
        for seq in seqs:
            del self.bodies[seq]
            self.line.discard(seq)
            for known in (self.ranks, self.messages.ranks, self.deliveries, self.messages.deliveries):
                known.pop(seq, None)
        self.ids = {own_id: seq for own_id, seq in self.ids.items() if seq in self.bodies}

    def unused(self, own_id: bytes) -> bytes:
        """Return an ID unless a message already has it, because a queue would not add a second one."""
        return b"" if own_id in self.ids else own_id

    @staticmethod
    def some(data: st.DataObject, seqs: list[int], run: int) -> list[int]:
        start = data.draw(st.integers(0, len(seqs) - 1))
        return seqs[start : start + run]


@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
def test_messages_behave_like_plain_dicts(make: Callable[[], Harness]) -> None:
    machine = type("Machine", (MessagesMachine,), {"make": staticmethod(make)})
    run_state_machine_as_test(machine, settings=on_a_disk() if make in DURABLE.values() else settings(deadline=None))
