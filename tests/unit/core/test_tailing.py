"""What a queue reports to its tails: everything is either buffered or counted as skipped, and the buffer is bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from queuelet.core.budget import MemoryBudget
from queuelet.core.message import Terms
from queuelet.core.stored_form import NewMessage, cut_payload, decode, encode_tags
from queuelet.core.tailing import BUFFERED, BUFFERED_BYTES, LEASED_BYTES, Event, Tail
from queuelet.definition import DeliverySettings, EventKind
from queuelet.tags import Tag
from queuelet.token_bucket import TokenBucket
from support.drafts import draft
from support.forgetful import ForgetfulStore
from support.queues import budget_of, make_queue, pop_all

SECOND = 1_000_000_000


class Reader:
    """A tail, and how often it was woken."""

    def __init__(self, rate: int = 1_000, shared: TokenBucket | None = None) -> None:
        self.woken = 0
        self.tail = Tail(TokenBucket(rate, rate, 1), shared or TokenBucket(1_000_000, 1_000_000, 1), self._wake)

    def _wake(self) -> None:
        self.woken += 1


def events(count: int, size: int = 1, now: int = 1) -> list[Event]:
    """Return events of messages with this size."""
    return [Event(EventKind.ADDED, now, seq, bytes(size)) for seq in range(count)]


@given(
    offers=st.lists(
        st.one_of(
            st.tuples(st.integers(0, 1_500), st.integers(0, 5_000), st.integers(0, SECOND)),
            st.just(("take", 0, 0)),
            st.just((1, 2 * BUFFERED_BYTES, SECOND)),
        ),
        max_size=20,
    ),
    rate=st.integers(1, 2_000),
)
def test_every_event_is_buffered_or_counted_and_the_buffer_is_bounded(
    offers: list[tuple[object, int, int]], rate: int
) -> None:
    reader, budget, now = Reader(rate), MemoryBudget(1 << 40), 1
    offered = taken = 0
    for count, size, pause in offers:
        now += pause
        if not isinstance(count, int):
            taken += len(reader.tail.take(300, budget))
            continue
        reader.tail.offer(events(count, size), count, now, budget)
        offered += count
        assert budget.used <= BUFFERED_BYTES or budget.used == 2 * BUFFERED_BYTES
    left = reader.tail.take(1_000_000, budget)
    assert len(left) <= BUFFERED
    assert taken + len(left) + reader.tail.skipped == offered
    assert budget.used == 0


def test_a_reader_is_woken_once_until_it_takes_the_events() -> None:
    reader, budget = Reader(), MemoryBudget(1 << 40)
    for _ in range(3):
        reader.tail.offer(events(1), 1, 1, budget)
    assert reader.woken == 1
    reader.tail.take(10, budget)
    reader.tail.offer(events(1), 1, 1, budget)
    assert reader.woken == 2


def test_tails_share_the_rate_of_the_server() -> None:
    shared = TokenBucket(10, 10, 1)
    readers = [Reader(shared=shared) for _ in range(3)]
    for reader in readers:
        reader.tail.offer(events(6), 6, 1, MemoryBudget(1 << 40))
    assert [reader.tail.skipped for reader in readers] == [0, 2, 6]


# Queues


def test_while_no_tail_has_room_events_are_only_counted_for_each_of_them() -> None:
    queue, first = make_queue(), Reader(rate=2)
    queue.tail(first.tail)
    for _ in range(10):
        queue.add(draft(b"x"), now=1)
    late = Reader(rate=2)
    queue.tail(late.tail)
    for number in range(4):
        queue.add(draft(b"x"), now=SECOND * number)
    assert (len(queue.take_events(first.tail, 100)), first.tail.skipped) == (2 + 3, 8 + 1)
    assert (len(queue.take_events(late.tail, 100)), late.tail.skipped) == (4, 0)


def test_a_queue_has_no_tails_unless_a_client_tails_it() -> None:
    queue, first, second = make_queue(), Reader(), Reader()
    states = queue._states  # noqa: SLF001  # only tests need it
    assert states.tails is None
    queue.tail(first.tail)
    queue.tail(second.tail)
    queue.end_tail(first.tail)
    assert states.tails is not None
    queue.end_tail(second.tail)
    assert states.tails is None


def test_events_that_were_not_read_are_released_with_the_tail() -> None:
    queue, reader = make_queue(), Reader()
    before = budget_of(queue).used
    queue.tail(reader.tail)
    queue.add(draft(b"x"), now=1)
    pop_all(queue)
    assert budget_of(queue).used > before
    queue.end_tail(reader.tail)
    assert budget_of(queue).used == before


def test_a_message_that_is_gone_before_its_event_is_read_has_no_body() -> None:
    queue, reader = make_queue(delivery=DeliverySettings(max_deliveries=2)), Reader()
    queue.add(draft(b"x"), now=1)
    leased = queue.receive(1, 1_000, now=1)
    queue.tail(reader.tail)
    queue.nack([leased.first_token], now=2)
    pop_all(queue)
    returned, popped = queue.take_events(reader.tail, 10)
    assert (returned.kind, returned.body, returned.held) == (EventKind.RETURNED, None, 1)
    assert popped.body is not None


def test_lease_ends_and_deaths_are_reported() -> None:
    queue, reader = make_queue(delivery=DeliverySettings(lease_seconds=1, max_deliveries=2)), Reader()
    queue.tail(reader.tail)
    queue.add(draft(b"x"), now=1)
    for now in (1, 2 * SECOND):
        queue.receive(1, 1_000, now=now, consumer="me")
    queue.advance(9 * SECOND)
    kinds = [event.kind for event in queue.take_events(reader.tail, 10)]
    assert kinds == [EventKind.ADDED, EventKind.LEASED, EventKind.RETURNED, EventKind.LEASED, EventKind.DIED]


def test_messages_that_expire_and_messages_with_a_rank_are_reported() -> None:
    queue, reader = make_queue(), Reader()
    queue.tail(reader.tail)
    queue.add(NewMessage(b"x", terms=Terms(ttl=5)), now=1)
    queue.advance(9)
    events = queue.take_events(reader.tail, 10)
    assert [(event.kind, event.time) for event in events] == [(EventKind.ADDED, 1), (EventKind.DIED, 9)]
    assert events[0].body == events[1].body


def test_events_of_a_leased_message_need_no_read_of_the_store() -> None:
    """A store that has to read it cannot be waited for, because a tail never slows a queue."""
    queue, reader = make_queue(store=ForgetfulStore, delivery=DeliverySettings(max_deliveries=1)), Reader()
    for each in range(3):
        queue.add(draft(b"%d" % each), now=1)
    queue.tail(reader.tail)
    leased = queue.receive(2, 1_000, now=2)
    assert isinstance(queue.store, ForgetfulStore)
    queue.store.reads.loaded.clear()
    queue.ack([leased.first_token], now=3)
    queue.nack([leased.first_token + 1], now=4)
    events = queue.take_events(reader.tail, 10)
    assert [(each.kind, each.body is None) for each in events] == [
        (EventKind.LEASED, False),
        (EventKind.LEASED, False),
        (EventKind.ACKED, False),
        (EventKind.DIED, False),
    ]
    assert reader.tail.skipped == 0


def test_the_leased_messages_that_are_held_are_bounded() -> None:
    queue, reader = make_queue(), Reader()
    before = budget_of(queue).used
    queue.tail(reader.tail)
    tails = queue._states.tails  # noqa: SLF001  # only tests need it
    assert tails is not None
    for now in range(10):
        tails.report(EventKind.LEASED, [now], [bytes(LEASED_BYTES // 4)], now)
        tails.report(EventKind.LEASED, [100 + now], [bytes(LEASED_BYTES + 1)], now)
        reader.tail.take(10, budget_of(queue))
        assert budget_of(queue).used - before <= LEASED_BYTES
    queue.end_tail(reader.tail)
    assert budget_of(queue).used == before


def test_closing_a_queue_wakes_its_tails() -> None:
    queue, reader = make_queue(), Reader()
    queue.tail(reader.tail)
    queue.delete()
    assert reader.woken == 1


# Cutting payloads


@given(
    payload=st.binary(max_size=300),
    most=st.integers(0, 300),
    tags=st.lists(st.tuples(st.text(min_size=1, max_size=50), st.text(max_size=50)), max_size=5),
    priority=st.integers(-3, 3),
)
def test_a_cut_message_has_everything_but_the_end_of_its_payload(
    payload: bytes, most: int, tags: list[tuple[str, str]], priority: int
) -> None:
    terms = Terms(priority=priority, ttl=7) if priority else None
    message = NewMessage(payload, encode_tags([Tag(*tag) for tag in tags]), terms=terms)
    body = message.stored(b"0" * 36, 5)
    cut, size = cut_payload(body, most)
    expected = decode(body)
    expected.payload = payload[:most]
    assert decode(cut) == expected
    assert size == len(payload)
