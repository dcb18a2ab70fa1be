"""The queues of `queuelet watch`: counts that come apart are those of whole queues again."""

from __future__ import annotations

from queuelet.cli.watch import WatchedQueues
from queuelet.v1 import queue_pb2 as pb


def queue(ready: int, *, limit: int = -1) -> pb.Queue:
    """A queue with this many ready messages."""
    return pb.Queue(meta=pb.Metadata(id="1"), name="orders", limit=limit, messages=pb.MessageCounts(ready=ready))


def counts(ready: int, id_: str = "1") -> pb.QueueCounts:
    """Its counts."""
    return pb.QueueCounts(id=id_, messages=pb.MessageCounts(ready=ready))


def test_the_counts_of_a_definition_are_not_reported_again() -> None:
    queues = WatchedQueues()
    assert queues.apply(pb.WatchQueuesResponse(queues=[queue(2)], counts=[counts(2)])) == [queue(2)]
    assert queues.apply(pb.WatchQueuesResponse(queues=[queue(3, limit=9)])) == [queue(3, limit=9)]
    assert queues.apply(pb.WatchQueuesResponse(counts=[counts(3)])) == []


def test_changed_counts_are_those_of_the_whole_queue() -> None:
    queues = WatchedQueues()
    queues.apply(pb.WatchQueuesResponse(queues=[queue(2, limit=9)], counts=[counts(2)]))
    assert queues.apply(pb.WatchQueuesResponse(counts=[counts(1)])) == [queue(1, limit=9)]
    assert queues.by_id == {"1": queue(1, limit=9)}


def test_messages_that_came_and_went_are_reported() -> None:
    queues = WatchedQueues()
    queues.apply(pb.WatchQueuesResponse(queues=[queue(0)], counts=[counts(0)]))
    assert queues.apply(pb.WatchQueuesResponse(counts=[counts(0)])) == [queue(0)]


def test_queues_that_are_gone_are_forgotten_and_counts_of_unknown_ones_ignored() -> None:
    queues = WatchedQueues()
    queues.apply(pb.WatchQueuesResponse(queues=[queue(0)], counts=[counts(0)]))
    assert queues.apply(pb.WatchQueuesResponse(removed=[pb.RemovedQueue(id="1")])) == []
    assert queues.apply(pb.WatchQueuesResponse(counts=[counts(5), counts(5, "2")])) == []
    assert queues.by_id == {}


def test_whole_queues_of_a_server_that_does_not_know_counts_apart_are_reported() -> None:
    queues = WatchedQueues()
    for ready in (0, 1, 1):
        assert queues.apply(pb.WatchQueuesResponse(queues=[queue(ready)])) == [queue(ready)]
