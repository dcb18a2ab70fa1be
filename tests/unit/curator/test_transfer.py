"""Transfers of Curator's nodes: in order, each once, and only acknowledged nodes are removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuelet.cli.batches import batches
from queuelet.curator.items import encode
from queuelet.curator.messages import Conversion, Node
from queuelet.curator.names import Name, Recipe, in_order, read
from queuelet.curator.transfer import LOCKED, Left, Outcome, Transfer
from queuelet.errors import InvalidArgument, QueueFull, Unreachable
from queuelet.tags import Tag
from queuelet.v1 import queue_pb2 as pb

CONVERSION = Conversion(path="/queues/orders", recipe=Recipe.QUEUE, id_tag="curator-id")


def node_of(name: str, data: bytes = b"", recipe: Recipe = Recipe.QUEUE) -> Node:
    found = read(name, recipe)
    assert found is not None
    return Node(name=found, data=data, created=7, created_at=1_700_000_000_000, version=0)


@dataclass
class Nodes:
    """A fake ZooKeeper with the nodes of a queue."""

    stored: dict[str, Node]
    locked_by_others: set[str] = field(default_factory=set)
    locked: set[str] = field(default_factory=set)
    removed: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, *contents: bytes) -> Nodes:
        """Return nodes with this content."""
        nodes = [node_of(f"queue-{number:010d}", data) for number, data in enumerate(contents)]
        return cls({node.name.node: node for node in nodes})

    @property
    def names(self) -> list[Name]:
        return in_order(node.name for node in self.stored.values())

    def lock(self, nodes: Sequence[str]) -> list[bool]:
        self.locked |= set(nodes) - self.locked_by_others
        return [node not in self.locked_by_others for node in nodes]

    def unlock(self, nodes: Sequence[str]) -> None:
        self.locked -= set(nodes)

    def read(self, names: Sequence[Name]) -> list[Node | str | None]:
        return [self.stored.get(name.node) for name in names]

    def remove(self, nodes: Sequence[Node]) -> list[str | None]:
        self.removed += [node.name.node for node in nodes]
        return [None if self.stored.pop(node.name.node, None) else "it is gone" for node in nodes]


@dataclass
class Queue:
    """A fake queue that accepts an ID once, up to a limit, and may fail at a call."""

    limit: int = 10**9
    fails_at: int = 10**9
    """The number of the call whose response is lost, though it is carried out."""
    calls: int = 0
    queued: dict[str, bytes] = field(default_factory=dict)

    def add(self, new: Sequence[pb.NewMessage]) -> list[Outcome]:
        self.calls += 1
        outcomes = [self._add(message) for message in new]
        if self.calls == self.fails_at:
            raise Unreachable
        return outcomes

    def _add(self, message: pb.NewMessage) -> Outcome:
        if message.payload == b"refused":
            return InvalidArgument("it is refused")
        if message.id in self.queued:
            return True
        if len(self.queued) == self.limit:
            return QueueFull("it is full")
        self.queued[message.id] = message.payload
        return False

    @property
    def payloads(self) -> list[bytes]:
        return list(self.queued.values())


def transfer(nodes: Nodes, *, remove: bool = True, lock: bool = False, at_once: int = 1_000) -> Transfer:
    """Return a transfer with at most this many messages in a call."""

    def divided(items: object) -> object:
        whole = list(items)  # type: ignore[call-overload]  # pairs, whose type is the transfer's own
        return iter([whole[start : start + at_once] for start in range(0, len(whole), at_once)])

    divide = partial(batches, size=lambda item: len(item[1].payload)) if at_once == 1_000 else divided
    return Transfer(source=nodes, conversion=CONVERSION, batches=divide, remove=remove, lock=lock)  # type: ignore[arg-type]


def run(moving: Transfer, nodes: Nodes, queue: Queue) -> None:
    moving.run(nodes.names, queue.add, lambda _: None)


# Conversion of a node


def test_the_items_of_a_node_become_messages_in_their_order() -> None:
    """They have the priority, delay or ID of the name, and the common tags."""
    conversion = Conversion(path="/q", recipe=Recipe.ID, id_tag="order", tags=(Tag("from", "curator"),))
    first, second = conversion.messages(node_of("queue-|o 1|0000000003", encode([b"a", b""]), Recipe.ID))
    assert [first.payload, second.payload] == [b"a", b""]
    assert [(tag.key, tag.value) for tag in second.tags] == [("from", "curator"), ("order", "o 1")]
    assert UUID(first.id) != UUID(second.id)


def test_a_priority_and_a_delay_are_kept() -> None:
    priority = replace(CONVERSION, recipe=Recipe.PRIORITY)
    (message,) = priority.messages(node_of("queue-0FFFFFFFE0000000003", encode([b"a"]), Recipe.PRIORITY))
    assert (message.priority, message.HasField("not_before")) == (-2, False)
    delay = replace(CONVERSION, recipe=Recipe.DELAY)
    (message,) = delay.messages(node_of("queue-|198F3A2B4C5|0000000003", encode([b"a"]), Recipe.DELAY))
    assert message.not_before.ToMilliseconds() == 0x198F3A2B4C5


def test_a_delay_for_ever_ends_with_what_a_server_takes() -> None:
    """Programs use `Long.MAX_VALUE` for never."""
    delay = replace(CONVERSION, recipe=Recipe.DELAY)
    (message,) = delay.messages(node_of("queue-|7FFFFFFFFFFFFFFF|0000000003", encode([b"a"]), Recipe.DELAY))
    assert message.not_before.ToJsonString() == "2199-12-31T23:59:59.999Z"


def test_a_simple_queue_has_one_item_a_node_as_it_is() -> None:
    simple = replace(CONVERSION, recipe=Recipe.SIMPLE)
    (message,) = simple.messages(node_of("qn-0000000003", b"\0\1\0\1", Recipe.SIMPLE))
    assert message.payload == b"\0\1\0\1"


def test_ids_differ_by_path_node_transaction_and_time() -> None:
    """They depend on nothing else, so a repeated import gives the same IDs."""
    node = node_of("queue-0000000003", encode([b"a"]))
    others = [replace(node, created=8), replace(node, created_at=1), node_of("queue-0000000004", encode([b"a"]))]
    ids = [CONVERSION.messages(each)[0].id for each in (node, *others)]
    ids.append(replace(CONVERSION, path="/q").messages(node)[0].id)
    assert len(set(ids)) == 5
    assert CONVERSION.messages(replace(node, version=3))[0].id == ids[0]


def test_ids_stay_what_they_were() -> None:
    """A release with other IDs would add everything twice after an upgrade during an import."""
    (message,) = CONVERSION.messages(node_of("queue-0000000003", encode([b"a"])))
    assert message.id == "c3ee18fd-4483-5d51-8a9a-e3d5042e2259"


# Transfers


@pytest.mark.parametrize("remove", [True, False], ids=["moved", "copied"])
def test_every_item_arrives_in_order(remove: bool) -> None:  # noqa: FBT001  # of the parameters
    nodes, queue = Nodes.of(*(encode([b"%d" % n]) for n in range(1_000))), Queue()
    moving = transfer(nodes, remove=remove)
    run(moving, nodes, queue)
    assert queue.payloads == [b"%d" % n for n in range(1_000)]
    assert len(nodes.stored) == (0 if remove else 1_000)
    assert (moving.report.added, moving.report.nodes, moving.report.left) == (1_000, 1_000, [])


def test_a_copy_that_is_made_again_adds_nothing() -> None:
    nodes, queue = Nodes.of(encode([b"a", b"b"]), encode([b"c"])), Queue()
    run(transfer(nodes, remove=False), nodes, queue)
    again = transfer(nodes, remove=False)
    run(again, nodes, queue)
    assert queue.payloads == [b"a", b"b", b"c"]
    assert (again.report.added, again.report.duplicates) == (0, 3)


def test_a_node_without_items_is_removed() -> None:
    nodes, queue = Nodes.of(encode([])), Queue()
    run(transfer(nodes), nodes, queue)
    assert not nodes.stored
    assert not queue.calls


def test_a_damaged_node_is_left_and_the_others_go_on() -> None:
    nodes, queue = Nodes.of(encode([b"a"]), b"", encode([b"c"])), Queue()
    moving = transfer(nodes)
    run(moving, nodes, queue)
    assert queue.payloads == [b"a", b"c"]
    assert list(nodes.stored) == ["queue-0000000001"]
    reason = "it is damaged: 0 bytes are too few for a version"
    assert moving.report.left == [Left("queue-0000000001", reason)]


def test_a_node_of_which_an_item_is_refused_is_left_and_the_others_go_on() -> None:
    nodes, queue = Nodes.of(encode([b"a", b"refused", b"refused"]), encode([b"c"])), Queue()
    moving = transfer(nodes)
    run(moving, nodes, queue)
    assert queue.payloads == [b"a", b"c"]
    assert list(nodes.stored) == ["queue-0000000000"]
    assert moving.report.left == [Left("queue-0000000000", "the server refused it: it is refused")]


def test_a_full_queue_stops_it_after_what_was_acknowledged_is_removed() -> None:
    nodes, queue = Nodes.of(encode([b"a"]), encode([b"b", b"c"]), encode([b"d"])), Queue(limit=2)
    moving = transfer(nodes)
    with pytest.raises(QueueFull):
        run(moving, nodes, queue)
    assert list(nodes.stored) == ["queue-0000000001", "queue-0000000002"]
    assert (moving.report.added, moving.report.nodes, moving.report.removed) == (2, 1, 1)


def test_a_node_that_another_client_took_meanwhile_is_reported() -> None:
    """Its items may be processed twice then."""
    nodes, queue = Nodes.of(encode([b"a"]), encode([b"b"])), Queue()
    moving = transfer(nodes)

    def taken_while_added(new: Sequence[pb.NewMessage]) -> list[Outcome]:
        nodes.stored.pop("queue-0000000000", None)
        return queue.add(new)

    moving.run(nodes.names, taken_while_added, lambda _: None)
    assert moving.report.left == [Left("queue-0000000000", "its items were added, but it is gone")]


def test_a_node_that_another_client_took_before_is_none_of_ours() -> None:
    nodes, queue = Nodes.of(encode([b"a"]), encode([b"b"])), Queue()
    names = nodes.names
    nodes.stored.pop("queue-0000000000")
    moving = transfer(nodes)
    moving.run(names, queue.add, lambda _: None)
    assert (queue.payloads, moving.report.gone, moving.report.left) == ([b"b"], 1, [])


def test_a_locked_node_is_left_and_locks_of_our_own_are_given_back() -> None:
    nodes, queue = Nodes.of(encode([b"a"]), encode([b"b"])), Queue()
    nodes.locked_by_others.add("queue-0000000000")
    moving = transfer(nodes, lock=True)
    run(moving, nodes, queue)
    assert queue.payloads == [b"b"]
    assert moving.report.left == [Left("queue-0000000000", LOCKED)]
    assert not nodes.locked


@given(
    contents=st.lists(st.lists(st.binary(max_size=3), max_size=4), max_size=12),
    at_once=st.integers(1, 5),
    fails_at=st.integers(1, 12),
)
def test_an_import_that_is_cut_off_anywhere_and_run_again_adds_each_item_once(
    contents: list[list[bytes]], at_once: int, fails_at: int
) -> None:
    """A response may be lost though its call was carried out. No node is removed before its items are queued."""
    nodes, queue = Nodes.of(*map(encode, contents)), Queue(fails_at=fails_at)
    try:
        run(transfer(nodes, at_once=at_once), nodes, queue)
    except Unreachable:
        run(transfer(nodes, at_once=at_once), nodes, queue)
    assert queue.payloads == [item for items in contents for item in items]
    assert not nodes.stored
