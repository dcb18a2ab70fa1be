"""What every store does with the messages of a queue. A new store joins by a line in `STORES`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from queuelet.stores import Messages
from queuelet.stores.memory import MemoryStore

STORES: dict[str, Callable[[], Messages]] = {"memory": lambda: MemoryStore().messages()}


@pytest.fixture(params=list(STORES.values()), ids=list(STORES))
def messages(request: pytest.FixtureRequest) -> Messages:
    """The messages of an empty queue, in each store."""
    made: Messages = request.param()
    return made


def fill(messages: Messages, count: int, size: int = 10) -> None:
    """Add messages numbered from 1."""
    for seq in range(1, count + 1):
        messages.append(seq, b"%d" % seq + b"." * (size - len(b"%d" % seq)))


def test_messages_leave_in_the_order_in_which_they_came(messages: Messages) -> None:
    fill(messages, 3)
    assert [messages.take() for _ in range(4)] == [(1, b"1........."), (2, b"2........."), (3, b"3........."), None]


def test_take_many_stops_at_the_count(messages: Messages) -> None:
    fill(messages, 5)
    assert messages.take_many(2, 1_000)[0] == [1, 2]
    assert len(messages) == 3


def test_take_many_stops_before_the_bytes_are_too_many(messages: Messages) -> None:
    fill(messages, 5, size=10)
    assert messages.take_many(5, 29)[0] == [1, 2]


def test_take_many_takes_one_however_large(messages: Messages) -> None:
    fill(messages, 2, size=100)
    assert messages.take_many(5, 10)[0] == [1]


def test_head_leaves_what_it_returns(messages: Messages) -> None:
    fill(messages, 3)
    assert messages.head(2, 1_000) == messages.head(2, 1_000) == [b"1.........", b"2........."]
    assert len(messages) == 3


def test_a_discarded_message_is_gone_and_leaves_the_others(messages: Messages) -> None:
    fill(messages, 3)
    assert messages.discard(2) == b"2........."
    assert messages.discard(2) is None
    assert messages.get(2) is None
    assert messages.take_many(5, 1_000)[0] == [1, 3]


def test_after_begins_past_a_number_that_need_not_be_there(messages: Messages) -> None:
    fill(messages, 5)
    messages.discard(2)
    messages.take()
    assert [seq for seq, _ in messages.after(0, 10)] == [3, 4, 5]
    assert [seq for seq, _ in messages.after(2, 2)] == [3, 4]
    assert messages.after(5, 10) == []


def test_clear_leaves_nothing(messages: Messages) -> None:
    fill(messages, 3)
    messages.clear()
    assert len(messages) == 0
    assert messages.take() is None
    messages.append(9, b"new")
    assert messages.take() == (9, b"new")


class MessagesMachine(RuleBasedStateMachine):
    """Whatever is done to the messages, they are what a plain dict in order of number would hold."""

    make: Callable[[], Messages]

    def __init__(self) -> None:
        super().__init__()
        self.messages = type(self).make()
        self.model: dict[int, bytes] = {}
        self.next_seq = 1

    @rule(count=st.one_of(st.integers(1, 5), st.just(3_000)))
    def append(self, count: int) -> None:
        for _ in range(count):
            body = b"%d" % self.next_seq
            self.messages.append(self.next_seq, body)
            self.model[self.next_seq] = body
            self.next_seq += 1

    @rule()
    def take(self) -> None:
        expected = next(iter(self.model.items()), None)
        assert self.messages.take() == expected
        if expected:
            del self.model[expected[0]]

    @rule(count=st.one_of(st.integers(1, 5), st.just(2_500)), max_bytes=st.integers(0, 40_000))
    def take_many(self, count: int, max_bytes: int) -> None:
        expected = self.first(count, max_bytes)
        assert self.messages.head(count, max_bytes) == [self.model[seq] for seq in expected]
        assert self.messages.take_many(count, max_bytes)[0] == expected
        for seq in expected:
            del self.model[seq]

    @rule(data=st.data(), run=st.one_of(st.integers(1, 3), st.just(2_000)))
    def discard_a_run(self, data: st.DataObject, run: int) -> None:
        start = data.draw(st.integers(0, self.next_seq))
        for seq in range(start, start + run):
            assert self.messages.discard(seq) == self.model.pop(seq, None)

    @rule(data=st.data(), count=st.integers(1, 20))
    def after(self, data: st.DataObject, count: int) -> None:
        start = data.draw(st.integers(0, self.next_seq))
        expected = [(seq, body) for seq, body in self.model.items() if seq > start][:count]
        assert self.messages.after(start, count) == expected

    @rule()
    def clear(self) -> None:
        self.messages.clear()
        self.model.clear()

    @invariant()
    def agrees(self) -> None:
        assert len(self.messages) == len(self.model)
        assert self.messages.head(1, 0) == list(self.model.values())[:1]

    def first(self, count: int, max_bytes: int) -> list[int]:
        found: list[int] = []
        size = 0
        for seq, body in self.model.items():
            size += len(body)
            if len(found) == count or (found and size > max_bytes):
                break
            found.append(seq)
        return found


class MemoryMachine(MessagesMachine):
    """The Memory store's turn."""

    make = staticmethod(STORES["memory"])


TestMemory = MemoryMachine.TestCase
