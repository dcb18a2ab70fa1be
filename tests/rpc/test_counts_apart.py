"""The watch stream with counts apart from definitions, on each store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from queuelet.client import Client
from queuelet.tags import Tag
from queuelet.v1 import queue_pb2 as pb
from support import both_stores
from support.both_stores import both, client, rpc, store
from support.durable_server import DurableServer, durable
from support.rpc import Rpc, Watch, unique_name
from support.server_process import ServerProcess

__all__ = ["both", "client", "durable", "rpc", "store"]


@contextmanager
def watching(rpc: Rpc, tag: str) -> Iterator[Watch]:
    """Watch the queues with a tag, and cancel the call at the end."""
    watch = rpc.watch(f"test={tag}", counts_apart=True)
    try:
        yield watch
    finally:
        watch.cancel()


def new_queue(rpc: Rpc, store: pb.Queue.Store, tag: str) -> str:
    """Create a queue with a tag and return its ID."""
    return rpc.get_queue(both_stores.new_queue(rpc, store, tag)).meta.id


def counts(*batches: pb.WatchQueuesResponse) -> dict[str, pb.QueueCounts]:
    """Return the last counts of each queue."""
    return {each.id: each for batch in batches for each in batch.counts}


def test_a_snapshot_has_counts_and_totals_of_every_queue(rpc: Rpc, store: pb.Queue.Store) -> None:
    tag = unique_name()
    busy, idle = new_queue(rpc, store, tag), new_queue(rpc, store, tag)
    first = rpc.add(busy)
    rpc.add_batch(busy, [b""] * 4)
    rpc.ack(busy, rpc.receive(busy, 1)[0].token)
    rpc.pop(busy)
    oldest = rpc.call("Peek", pb.PeekRequest(queue_id=busy), pb.PeekResponse).message.meta
    with watching(rpc, tag) as watch:
        batches = watch.snapshot()
    assert sorted(each.id for batch in batches for each in batch.counts) == sorted([busy, idle])
    assert {queue.meta.id for batch in batches for queue in batch.queues} == {busy, idle}
    assert oldest.id != first.meta.id
    assert counts(*batches) == {
        idle: pb.QueueCounts(id=idle, messages=pb.MessageCounts()),
        busy: pb.QueueCounts(
            id=busy, messages=pb.MessageCounts(ready=3), enqueued=5, consumed=1, acked=1, oldest_ready=oldest.created
        ),
    }


def test_changed_counts_come_without_their_queue(rpc: Rpc, store: pb.Queue.Store) -> None:
    tag = unique_name()
    queue = new_queue(rpc, store, tag)
    with watching(rpc, tag) as watch:
        watch.snapshot()
        rpc.add_batch(queue, [b""] * 10)
        batches = watch.until(lambda batch: counts(batch).get(queue, pb.QueueCounts()).enqueued == 10)
        assert not [each for batch in batches for each in batch.queues]
        assert counts(*batches)[queue].messages == pb.MessageCounts(ready=10)
        rpc.pop_all(queue)
        batches = watch.until(lambda batch: counts(batch).get(queue, pb.QueueCounts()).consumed == 10)
        assert not [each for batch in batches for each in batch.queues]
        assert not counts(*batches)[queue].HasField("oldest_ready")


def test_totals_are_reported_even_if_the_counts_are_the_same_again(rpc: Rpc, store: pb.Queue.Store) -> None:
    tag = unique_name()
    queue = new_queue(rpc, store, tag)
    with watching(rpc, tag) as watch:
        watch.snapshot()
        rpc.add(queue)
        rpc.pop(queue)
        batches = watch.until(lambda batch: counts(batch).get(queue, pb.QueueCounts()).consumed == 1)
        assert counts(*batches)[queue].messages == pb.MessageCounts()


def test_an_edit_comes_at_once_as_a_queue_and_the_counts_before_it_still_come(rpc: Rpc, store: pb.Queue.Store) -> None:
    tag = unique_name()
    queue = new_queue(rpc, store, tag)
    with watching(rpc, tag) as watch:
        watch.snapshot()
        rpc.add(queue)
        request = pb.AddQueueTagRequest(queue_id=queue, tag=pb.Tag(key="new", value="tag"))
        rpc.call("AddQueueTag", request, pb.AddQueueTagResponse)
        batches = watch.until(lambda batch: counts(batch).get(queue, pb.QueueCounts()).enqueued == 1)
        assert [each.revision for batch in batches for each in batch.queues] == [2]


def test_a_new_queue_comes_with_its_counts(rpc: Rpc, store: pb.Queue.Store) -> None:
    tag = unique_name()
    with watching(rpc, tag) as watch:
        watch.snapshot()
        queue = new_queue(rpc, store, tag)
        batches = watch.until(lambda batch: bool(batch.counts))
        assert [each.meta.id for batch in batches for each in batch.queues] == [queue]
        assert counts(*batches).keys() == {queue}


def test_without_counts_apart_no_counts_are_sent(rpc: Rpc, store: pb.Queue.Store) -> None:
    tag = unique_name()
    queue = new_queue(rpc, store, tag)
    watch = rpc.watch(f"test={tag}")
    batches = watch.snapshot()
    rpc.add(queue)
    batches += watch.until(lambda batch: any(each.messages.ready for each in batch.queues))
    watch.cancel()
    assert not counts(*batches)


def test_counts_survive_a_restart_with_their_totals(durable: DurableServer) -> None:
    for enqueued in (1, 2):
        with ServerProcess(*durable.flags) as server, closing(Rpc(server.address)) as rpc:
            if enqueued == 1:
                new_queue(rpc, durable.store, "kept")
            with watching(rpc, "kept") as watch:
                (queue,) = counts(*watch.snapshot())
                rpc.add(queue)
                batches = watch.until(lambda batch: bool(batch.counts))
                assert counts(*batches)[queue].enqueued == enqueued


async def test_the_client_returns_counts_as_values(client: Client) -> None:
    queue = await client.new_queue(tags=[Tag("test", tag := unique_name())])
    await client.add(queue.id, b"x")
    async for changes in client.watch_queues(f"test={tag}", counts_apart=True):
        for each in changes.counts:
            assert (each.id, each.messages.ready, each.enqueued, each.consumed, each.acked) == (queue.id, 1, 1, 0, 0)
            assert each.oldest_ready
            return
