"""Browse finds messages by state, tags, ID and content, in both directions. A dry run of Purge only counts messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuelet.v1 import queue_pb2 as pb
from support.both_stores import STORES
from support.counts import on_a_disk
from support.postgres_server import own_schema
from support.rpc import Refused, Rpc, eventually, unique_name
from support.server_process import ServerProcess

UNKNOWN_ID = "6f9c0000-1111-4222-8333-444455556666"
MIB = 1024 * 1024

READY, DELAYED, LEASED, DEAD = (
    pb.MESSAGE_STATE_READY,
    pb.MESSAGE_STATE_DELAYED,
    pb.MESSAGE_STATE_LEASED,
    pb.MESSAGE_STATE_DEAD,
)
STATES = (READY, DELAYED, LEASED, DEAD)


@pytest.fixture(scope="module")
def rpc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rpc]:
    """A client of a server with all stores."""
    folder: Path = tmp_path_factory.mktemp("browse")
    with (
        own_schema() as flags,
        ServerProcess("--data-dir", str(folder), *flags) as server,
        closing(Rpc(server.address)) as client,
    ):
        yield client
        assert server.stop() == 0


@pytest.fixture(scope="module", params=list(STORES.values()), ids=list(STORES))
def store(request: pytest.FixtureRequest) -> pb.Queue.Store:
    """Each store."""
    chosen: pb.Queue.Store = request.param
    return chosen


@pytest.fixture
def orders(rpc: Rpc, store: pb.Queue.Store) -> Iterator[str]:
    """A queue in each store."""
    name = new_queue(rpc, store)
    yield name
    rpc.delete_queue(name)


def new_queue(rpc: Rpc, store: pb.Queue.Store) -> str:
    """Create a queue without a limit, and return its name."""
    name = unique_name()
    rpc.call("NewQueue", pb.NewQueueRequest(name=name, store=store, limit=-1), pb.NewQueueResponse)
    return name


def page(rpc: Rpc, queue: str, **how: Any) -> pb.BrowseResponse:  # noqa: ANN401  # the fields of BrowseRequest
    """Browse one page."""
    return rpc.call("Browse", pb.BrowseRequest(queue_id=queue, **how), pb.BrowseResponse)


def pages(rpc: Rpc, queue: str, **how: Any) -> list[list[pb.BrowsedMessage]]:  # noqa: ANN401  # as above
    """Browse all pages."""
    found: list[list[pb.BrowsedMessage]] = []
    token = ""
    while True:
        response = page(rpc, queue, page_token=token, **how)
        found.append(list(response.messages))
        token = response.next_page_token
        if not token:
            return found


def payloads(browsed: Sequence[pb.BrowsedMessage]) -> list[bytes]:
    """Return the payloads of messages."""
    return [each.message.payload for each in browsed]


def purge(rpc: Rpc, queue: str, **how: Any) -> int:  # noqa: ANN401  # the fields of PurgeRequest
    """Purge, and return the number in the response."""
    return rpc.call("Purge", pb.PurgeRequest(queue_id=queue, **how), pb.PurgeResponse).purged


# Any filter


@dataclass(frozen=True)
class Fact:
    """What the model knows of a message."""

    payload: bytes
    tags: frozenset[str]
    state: pb.MessageState
    own_id: bool
    removed: bool


@dataclass(frozen=True)
class Filter:
    """The conditions of a request. IDs are given by positions in the queue; others are unknown."""

    states: frozenset[pb.MessageState]
    tag: str
    contains: str
    positions: tuple[int, ...]

    def selects(self, position: int, fact: Fact) -> bool:
        """Return whether the model's message meets all conditions."""
        return (
            not fact.removed
            and (not self.states or fact.state in self.states)
            and (not self.tag or self.tag in fact.tags)
            and self.contains.encode() in fact.payload
            and (not self.positions or position in self.positions)
        )


@dataclass(frozen=True)
class Look:
    """How pages are read."""

    page_size: int
    payload_bytes: int | None


facts = st.lists(
    st.builds(
        Fact,
        st.text("ab€", max_size=5).map(str.encode),
        st.frozensets(st.sampled_from(["a", "b"])),
        st.sampled_from(STATES),
        st.booleans(),
        st.sampled_from([False, False, False, True]),
    ),
    max_size=9,
)
filters = st.builds(
    Filter,
    st.frozensets(st.sampled_from(STATES)),
    st.sampled_from(["", "", "a", "b"]),
    st.sampled_from(["", "", "a", "ab", "€", "zz"]),
    st.one_of(st.just(()), st.lists(st.integers(0, 12), max_size=6).map(tuple)),
)
looks = st.builds(Look, st.integers(0, 4), st.none() | st.integers(0, 6))


def filled_queue(rpc: Rpc, store: pb.Queue.Store, known: Sequence[Fact]) -> tuple[str, list[str]]:
    """Create a queue whose messages are as the model says, and return its name and their IDs."""
    name = new_queue(rpc, store)
    request = pb.AddBatchRequest(queue_id=name)
    for position, fact in enumerate(known):
        message = request.messages.add(payload=fact.payload, tags=[pb.Tag(key=tag) for tag in sorted(fact.tags)])
        if fact.own_id:
            message.id = f"{position:08x}-1111-4222-8333-444455556666"
        if fact.state == DELAYED and not fact.removed:
            message.delay.seconds = 600
    if not known:
        return name, []
    ids = [result.id for result in rpc.call("AddBatch", request, pb.AddBatchResponse).results]
    for delivery in rpc.receive(name, lease=600):
        fact = known[ids.index(delivery.message.meta.id)]
        if fact.removed:
            assert rpc.ack(name, delivery.token) == [""]
        elif fact.state != LEASED:
            assert rpc.nack(name, delivery.token, dead=fact.state == DEAD) == [""]
    return name, ids


@on_a_disk()
@given(facts, st.lists(st.tuples(filters, looks), min_size=1, max_size=4), filters)
def test_pages_in_both_directions_and_a_dry_run_are_those_of_a_model(
    rpc: Rpc, store: pb.Queue.Store, known: list[Fact], queries: list[tuple[Filter, Look]], removal: Filter
) -> None:
    """With any filter: pages give the same messages as the model, and a dry run counts what Purge then removes."""
    name, ids = filled_queue(rpc, store, known)

    def ids_at(positions: Sequence[int]) -> list[str]:
        return [ids[each].upper() if each < len(ids) else UNKNOWN_ID for each in positions]

    def all_ids() -> list[str]:
        return [each.message.meta.id for found in pages(rpc, name) for each in found]

    for wanted, look in queries:
        expected = [(ids[at], fact) for at, fact in enumerate(known) if wanted.selects(at, fact)]
        for descending in (False, True):
            found = pages(
                rpc,
                name,
                states=sorted(wanted.states),
                selector=wanted.tag,
                contains=wanted.contains,
                ids=ids_at(wanted.positions),
                page_size=look.page_size,
                payload_bytes=look.payload_bytes,
                descending=descending,
            )
            assert all(len(each) <= (look.page_size or len(known)) for each in found)
            assert [
                (each.message.meta.id, each.message.payload, each.payload_size, each.state)
                for messages in found
                for each in messages
            ] == [
                (message_id, fact.payload[: look.payload_bytes], len(fact.payload), fact.state)
                for message_id, fact in (reversed(expected) if descending else expected)
            ]

    stored = [ids[at] for at, fact in enumerate(known) if not fact.removed]
    choice: dict[str, Any] = {"all": True}
    if removal.positions:
        choice = {"ids": ids_at(removal.positions)}
        removal = Filter(removal.states, "", "", removal.positions)
    elif removal.tag:
        choice = {"selector": removal.tag}
        removal = Filter(removal.states, removal.tag, "", ())
    else:
        removal = Filter(removal.states, "", "", ())
    gone = [ids[at] for at, fact in enumerate(known) if removal.selects(at, fact)]
    before = rpc.stats(name)
    assert purge(rpc, name, states=sorted(removal.states), dry_run=True, **choice) == len(gone)
    after = rpc.stats(name)
    assert (after.purged, after.queue.messages) == (before.purged, before.queue.messages)
    assert all_ids() == stored
    assert purge(rpc, name, states=sorted(removal.states), **choice) == len(gone)
    assert all_ids() == [each for each in stored if each not in gone]
    rpc.delete_queue(name)


# Pages


def test_the_newest_messages_come_first_and_those_added_meanwhile_are_not_among_them(rpc: Rpc, orders: str) -> None:
    rpc.add_batch(orders, [b"%d" % number for number in range(250)])
    first = page(rpc, orders, page_size=120, descending=True)
    rpc.add(orders, b"new")
    second = page(rpc, orders, page_size=120, descending=True, page_token=first.next_page_token)
    third = page(rpc, orders, page_size=120, descending=True, page_token=second.next_page_token)
    assert payloads([*first.messages, *second.messages, *third.messages]) == [
        b"%d" % number for number in reversed(range(250))
    ]
    assert third.next_page_token == ""


@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
def test_a_page_token_continues_only_in_the_order_of_its_first_page(rpc: Rpc, orders: str, *, descending: bool) -> None:
    rpc.add_batch(orders, [b"1", b"2"])
    token = page(rpc, orders, page_size=1, descending=descending).next_page_token
    order = "newest" if descending else "oldest"
    with pytest.raises(
        Refused, match=f"page_token: '{token}' continues pages with the {order} messages first; send it"
    ):
        page(rpc, orders, page_token=token, descending=not descending)


def test_pages_of_cut_payloads_have_many_large_messages(rpc: Rpc, orders: str) -> None:
    """Whole, they take a page each."""
    for number in range(5):
        rpc.add(orders, b"%d" % number * 3 * MIB)
    assert [len(found) for found in pages(rpc, orders)] == [1] * 5
    (cut,) = pages(rpc, orders, payload_bytes=2)
    assert payloads(cut) == [b"%d" % number * 2 for number in range(5)]
    assert {each.payload_size for each in cut} == {3 * MIB}
    (empty,) = pages(rpc, orders, payload_bytes=0, descending=True)
    assert payloads(empty) == [b""] * 5
    assert {each.payload_size for each in empty} == {3 * MIB}


@pytest.mark.need(18)
@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
def test_a_search_through_very_many_bytes_ends_early_with_a_page_token(
    rpc: Rpc, orders: str, *, descending: bool
) -> None:
    """So that a call ends before its deadline, and the next one continues."""
    for number in range(24):
        rpc.add(orders, b"%02d" % number + bytes(3 * MIB))
    first = page(rpc, orders, contains="99", descending=descending)
    assert not first.messages
    assert first.next_page_token
    assert pages(rpc, orders, contains="99", descending=descending)[-1] == []
    (found,) = [each for each in pages(rpc, orders, contains="02", descending=descending, payload_bytes=2) if each]
    assert payloads(found) == [b"02"]


@pytest.mark.need(18)
def test_a_search_through_very_many_messages_in_other_states_ends_early_with_a_page_token(
    rpc: Rpc, orders: str
) -> None:
    for _ in range(2):
        rpc.add_batch(orders, [b"leased"] * 6_000)
    while rpc.receive(orders, 10_000, lease=600):
        pass
    rpc.add(orders, b"ready")
    first = page(rpc, orders, states=[READY])
    assert not first.messages
    found = page(rpc, orders, states=[READY], page_token=first.next_page_token)
    assert (payloads(found.messages), found.next_page_token) == ([b"ready"], "")


# By content and ID


@pytest.mark.need(17, 40)
def test_contains_finds_plain_text_in_payloads_only(rpc: Rpc, orders: str) -> None:
    rpc.add(orders, b"a+b", tags=[("key", "other")])
    rpc.add(orders, "käse".encode())
    rpc.add(orders, b"\xff\x00 a.b \xfe")

    def found(contains: str) -> list[bytes]:
        return payloads(page(rpc, orders, contains=contains).messages)

    assert found("a+b") == [b"a+b"]
    assert found("ä") == ["käse".encode()]
    assert found("a.b") == [b"\xff\x00 a.b \xfe"]
    assert found("A+B") == found("key") == found("other") == found(orders) == []
    assert found("x" * 256) == []


def test_ids_are_found_in_the_order_of_their_adds_also_twice_given_and_in_capitals(rpc: Rpc, orders: str) -> None:
    added = [rpc.add(orders, b"%d" % number).meta.id for number in range(300)]
    request = pb.AddRequest(queue_id=orders, message=pb.NewMessage(payload=b"own", id=UNKNOWN_ID))
    rpc.call("Add", request, pb.AddResponse)
    gone = rpc.pop(orders).meta.id
    assert gone == added[0]
    ids = [UNKNOWN_ID, added[7].upper(), added[3], added[7], gone, UNKNOWN_ID[:-1] + "0"]
    assert payloads(page(rpc, orders, ids=ids).messages) == [b"3", b"7", b"own"]
    assert payloads(page(rpc, orders, ids=ids, descending=True).messages) == [b"own", b"7", b"3"]
    found = pages(rpc, orders, ids=added[::-1], page_size=100)
    assert [len(each) for each in found] == [100, 100, 99]
    assert payloads([each for few in found for each in few]) == [b"%d" % number for number in range(1, 300)]


def test_an_id_of_another_queue_finds_nothing(rpc: Rpc, orders: str, store: pb.Queue.Store) -> None:
    other = new_queue(rpc, store)
    message_id = rpc.add(other, b"x").meta.id
    rpc.add(orders, b"y")
    assert not page(rpc, orders, ids=[message_id]).messages
    rpc.delete_queue(other)


def test_the_size_of_an_expired_message_is_shown_with_its_cut_payload(rpc: Rpc, orders: str) -> None:
    message = pb.NewMessage(payload=b"stale bread", priority=-3)
    message.ttl.nanos = 1
    rpc.call("Add", pb.AddRequest(queue_id=orders, message=message), pb.AddResponse)
    eventually(lambda: rpc.get_queue(orders).messages.dead == 1, "it is dead")
    (browsed,) = page(rpc, orders, payload_bytes=5).messages
    assert (browsed.message.payload, browsed.payload_size, browsed.state) == (b"stale", 11, DEAD)
    assert (browsed.message.priority, browsed.message.ttl.nanos) == (-3, 1)
