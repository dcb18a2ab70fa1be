"""What `move` adds to the other queue, and in which order."""

from __future__ import annotations

import pytest

from queuelet.cli.move_plan import LARGE, check, delayed_in_order, in_order_of, to_new, with_facts
from queuelet.errors import InvalidArgument
from queuelet.limits import SECOND_NS
from queuelet.v1 import queue_pb2 as pb

READY, DELAYED, DEAD = pb.MESSAGE_STATE_READY, pb.MESSAGE_STATE_DELAYED, pb.MESSAGE_STATE_DEAD


def browsed(name: str, state: pb.MessageState = READY, *, until: int = 0, ttl: int = 0) -> pb.BrowsedMessage:
    """Return a message that was added at 1,000 s. Times are in seconds."""
    each = pb.BrowsedMessage(state=state)
    each.message.meta.id = name
    each.message.meta.created.FromSeconds(1_000)
    if until:
        each.until.FromSeconds(until)
    if ttl:
        each.message.ttl.FromSeconds(ttl)
    return each


def names(messages: list[pb.BrowsedMessage]) -> list[str]:
    return [each.message.meta.id for each in messages]


def test_delayed_messages_are_moved_in_the_order_in_which_they_become_ready() -> None:
    found = [browsed(name, DELAYED, until=until) for name, until in (("a", 9), ("b", 5), ("c", 9), ("d", 1))]
    assert [each.id for each in delayed_in_order(found)] == ["d", "b", "a", "c"]


def test_ready_messages_keep_the_order_of_their_delivery() -> None:
    peeked = [pb.Message(meta=pb.Metadata(id=name), payload=name.encode()) for name in "cab"]
    facts = [browsed("a"), browsed("b", DEAD), browsed("c")]
    complete = with_facts(peeked, facts)
    assert names(complete) == ["c", "a"], "one has died meanwhile"
    assert [each.message.payload for each in complete] == [b"c", b"a"]
    assert names(in_order_of(["c", "x", "a"], facts)) == ["c", "a"]


@pytest.mark.parametrize(
    ("state", "ttl", "left"),
    [(READY, 100, 40), (DELAYED, 100, 40), (DEAD, 100, 100), (READY, 50, 50)],
    ids=["ready", "delayed", "dead: it counts from a redrive", "older than its ttl: it was redriven"],
)
def test_the_rest_of_a_time_to_live_is_moved(state: pb.MessageState, ttl: int, left: int) -> None:
    new = to_new(browsed("a", state, until=2_000, ttl=ttl), 1_060 * SECOND_NS)
    assert new.ttl.ToSeconds() == left


def test_a_large_message_keeps_only_its_newest_failed_delivery() -> None:
    each = browsed("a")
    each.tries.add(reason="first")
    each.tries.add(reason="last")
    assert [one.reason for one in to_new(each, 0).past.tries] == ["first", "last"]
    each.message.payload = bytes(LARGE + 1)
    assert [one.reason for one in to_new(each, 0).past.tries] == ["last"]


def test_a_message_that_was_never_delivered_has_no_past() -> None:
    assert not to_new(browsed("a"), 0).HasField("past")


def test_a_move_that_would_make_messages_less_durable_is_refused() -> None:
    disk = pb.Queue(meta=pb.Metadata(id="1"), name="a", store=pb.Queue.DISK, epoch="x")
    memory = pb.Queue(meta=pb.Metadata(id="2"), name="b", store=pb.Queue.MEMORY, epoch="y")
    check(memory, disk, end_leases=False)
    with pytest.raises(InvalidArgument, match="is in memory"):
        check(disk, memory, end_leases=False)
    restored = pb.Queue(meta=pb.Metadata(id="1"), name="a", store=pb.Queue.DISK, epoch="z")
    check(disk, restored, end_leases=False)
    with pytest.raises(InvalidArgument, match="is the queue itself"):
        check(disk, disk, end_leases=False)
