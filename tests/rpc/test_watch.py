"""The watch stream: a snapshot of the queues, then their changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from queuelet.v1 import queue_pb2 as pb
from support.rpc import Refused, Rpc, Watch, unique_name
from support.server_process import ServerProcess


@contextmanager
def watching(rpc: Rpc, selector: str = "") -> Iterator[Watch]:
    """Watch, and cancel the call at the end."""
    watch = rpc.watch(selector)
    try:
        yield watch
    finally:
        watch.cancel()


def about(queue_id: str) -> Callable[[pb.WatchQueuesResponse], bool]:
    """Return whether a batch has a queue."""
    return lambda batch: queue_id in shown_in(batch) or queue_id in removed(batch)


def shown_in(*batches: pb.WatchQueuesResponse) -> dict[str, pb.Queue]:
    """Return the queues of batches, each in its last version."""
    return {queue.meta.id: queue for batch in batches for queue in batch.queues}


def removed(*batches: pb.WatchQueuesResponse) -> dict[str, str]:
    """Return IDs and names of the queues that batches report as removed."""
    return {gone.id: gone.name for batch in batches for gone in batch.removed}


@pytest.fixture
def label() -> tuple[str, str]:
    """A tag that no other test uses, so that the test watches only its own queues."""
    return ("test", unique_name())


def selector(label: tuple[str, str]) -> str:
    """Return a selector for the queues with this tag."""
    return f"{label[0]}={label[1]}"


def test_a_snapshot_has_stores_then_queues_then_that_it_is_complete(rpc: Rpc, label: tuple[str, str]) -> None:
    queues = {queue.meta.id: queue for queue in (rpc.new_queue(tags=[label]) for _ in range(5))}
    with watching(rpc, selector(label)) as watch:
        batches = watch.snapshot()
    (store,) = batches[0].stores
    assert store.store == pb.Queue.MEMORY
    assert store.epoch == rpc.server_stats().stores[0].epoch == next(iter(queues.values())).epoch
    assert not [batch for batch in batches[1:] if batch.stores], "stores come first, and once"
    assert [batch.snapshot_complete for batch in batches] == [False] * (len(batches) - 1) + [True]
    assert shown_in(*batches) == queues
    assert not removed(*batches)


def test_a_snapshot_of_no_queues_is_complete_at_once(rpc: Rpc, label: tuple[str, str]) -> None:
    with watching(rpc, selector(label)) as watch:
        batches = watch.snapshot()
    assert batches[0].stores
    assert not shown_in(*batches)


def test_without_a_selector_all_queues_are_reported(rpc: Rpc, queue: pb.Queue) -> None:
    with watching(rpc) as watch:
        assert shown_in(*watch.snapshot())[queue.meta.id] == queue


def test_a_snapshot_holds_every_queue_once() -> None:
    with ServerProcess() as server, closing(Rpc(server.address)) as rpc:
        declared = [pb.QueueDeclaration(name=f"q{number}", store=pb.Queue.MEMORY, limit=-1) for number in range(1_500)]
        rpc.call("DeclareQueues", pb.DeclareQueuesRequest(queues=declared), pb.DeclareQueuesResponse)
        with watching(rpc) as watch:
            batches = watch.snapshot()
        names = [queue.name for batch in batches for queue in batch.queues]
        assert names == [f"q{number}" for number in range(1_500)]


def test_a_snapshot_of_queues_with_many_tags_fits_what_a_client_receives(label: tuple[str, str]) -> None:
    """Each queue is within its limits; a batch of them must be within 4 MiB."""
    with ServerProcess() as server, closing(Rpc(server.address)) as rpc:
        tags = [label, *((f"k{number}", "v" * 4_000) for number in range(60))]
        ids = {rpc.new_queue(tags=tags).meta.id for _ in range(30)}
        with watching(rpc) as watch:
            assert shown_in(*watch.snapshot()).keys() == ids


def test_changes_of_queues_with_many_tags_fit_what_a_client_receives() -> None:
    """The counts of many queues change between two batches."""
    with ServerProcess() as server, closing(Rpc(server.address)) as rpc:
        tags = [(f"k{number}", "v" * 4_000) for number in range(60)]
        reader = Rpc(server.address)
        with closing(reader), watching(reader) as watch:
            watch.snapshot()
            ids = [rpc.new_queue(tags=tags).meta.id for _ in range(30)]
            seen: set[str] = set()
            while seen != set(ids):
                seen |= shown_in(next(watch)).keys()
            for queue_id in ids:
                rpc.add(queue_id)
            full: set[str] = set()
            while full != set(ids):
                full |= {queue_id for queue_id, queue in shown_in(next(watch)).items() if queue.messages.ready == 1}


# Changes


def test_a_new_queue_is_reported(rpc: Rpc, label: tuple[str, str]) -> None:
    with watching(rpc, selector(label)) as watch:
        watch.snapshot()
        made = rpc.new_queue(unique_name(), limit=3, tags=[label])
        assert shown_in(*watch.until(about(made.meta.id)))[made.meta.id] == made


def test_an_edit_is_reported_with_its_revision(rpc: Rpc, label: tuple[str, str]) -> None:
    made = rpc.new_queue(tags=[label])
    queue_id = made.meta.id
    with watching(rpc, selector(label)) as watch:
        watch.snapshot()
        tag = pb.Tag(key="new", value="tag")
        rpc.call("AddQueueTag", pb.AddQueueTagRequest(queue_id=queue_id, tag=tag), pb.AddQueueTagResponse)
        edited = shown_in(*watch.until(about(queue_id)))[queue_id]
        assert edited == rpc.get_queue(queue_id)
        assert edited.revision == made.revision + 1
        assert tag in edited.meta.tags


def test_a_declaration_that_changes_nothing_is_not_reported(rpc: Rpc, label: tuple[str, str]) -> None:
    declared = pb.QueueDeclaration(
        name=unique_name(), store=pb.Queue.MEMORY, limit=5, tags=[pb.Tag(key=label[0], value=label[1])]
    )
    request = pb.DeclareQueuesRequest(queues=[declared])
    queue = rpc.call("DeclareQueues", request, pb.DeclareQueuesResponse).results[0].queue
    with watching(rpc, selector(label)) as watch:
        watch.snapshot()
        rpc.call("DeclareQueues", request, pb.DeclareQueuesResponse)
        declared.limit = 6
        rpc.call("DeclareQueues", pb.DeclareQueuesRequest(queues=[declared]), pb.DeclareQueuesResponse)
        batch = next(watch)
        assert [(each.limit, each.revision) for each in batch.queues] == [(6, queue.revision + 1)]


def test_a_deleted_queue_is_reported_once_with_its_name(rpc: Rpc, label: tuple[str, str]) -> None:
    name = unique_name()
    queue_id = rpc.new_queue(name, tags=[label]).meta.id
    with watching(rpc, selector(label)) as watch:
        watch.snapshot()
        rpc.delete_queue(queue_id)
        last = rpc.new_queue(tags=[label]).meta.id
        batches = watch.until(about(last))
        assert removed(*batches) == {queue_id: name}
        assert queue_id not in shown_in(*batches)


def test_a_queue_made_again_under_its_name_is_reported_with_its_new_id(rpc: Rpc, label: tuple[str, str]) -> None:
    name = unique_name()
    before = rpc.new_queue(name, tags=[label]).meta.id
    with watching(rpc, selector(label)) as watch:
        watch.snapshot()
        rpc.delete_queue(before)
        after = rpc.new_queue(name, tags=[label]).meta.id
        batches = watch.until(about(after))
        assert removed(*batches) == {before: name}
        assert shown_in(*batches)[after].name == name


def test_a_queue_made_and_deleted_before_it_was_reported_is_never_reported(rpc: Rpc, label: tuple[str, str]) -> None:
    with watching(rpc, selector(label)) as watch:
        watch.snapshot()
        declared = pb.QueueDeclaration(
            name=unique_name(), store=pb.Queue.MEMORY, limit=1, tags=[pb.Tag(key=label[0], value=label[1])]
        )
        rpc.call("DeclareQueues", pb.DeclareQueuesRequest(queues=[declared]), pb.DeclareQueuesResponse)
        removal = pb.QueueRemoval(queue_id=declared.name)
        rpc.call("RemoveQueues", pb.RemoveQueuesRequest(queues=[removal]), pb.RemoveQueuesResponse)
        last = rpc.new_queue(tags=[label]).meta.id
        batches = watch.until(about(last))
        came = {queue.name for batch in batches for queue in batch.queues}
        gone = set(removed(*batches).values())
        assert (declared.name in came) == (declared.name in gone)


def test_a_queue_that_the_selector_no_longer_picks_is_reported_as_removed(rpc: Rpc, label: tuple[str, str]) -> None:
    name = unique_name()
    queue_id = rpc.new_queue(name, tags=[label]).meta.id
    tag = pb.Tag(key=label[0], value=label[1])
    with watching(rpc, selector(label)) as watch:
        watch.snapshot()
        rpc.call("DeleteQueueTag", pb.DeleteQueueTagRequest(queue_id=queue_id, tag=tag), pb.DeleteQueueTagResponse)
        assert removed(*watch.until(about(queue_id))) == {queue_id: name}
        rpc.call("AddQueueTag", pb.AddQueueTagRequest(queue_id=queue_id, tag=tag), pb.AddQueueTagResponse)
        assert queue_id in shown_in(*watch.until(about(queue_id)))


def test_queues_that_the_selector_never_picked_are_not_reported(rpc: Rpc, label: tuple[str, str]) -> None:
    other = rpc.new_queue().meta.id
    with watching(rpc, f"{label[0]} in ({label[1]}), !hidden") as watch:
        watch.snapshot()
        hidden = rpc.new_queue(tags=[label, ("hidden", "")]).meta.id
        rpc.delete_queue(other)
        rpc.delete_queue(hidden)
        shown = rpc.new_queue(tags=[label]).meta.id
        batches = watch.until(about(shown))
        assert shown_in(*batches).keys() == {shown}
        assert not removed(*batches)


# Counts


def test_counts_are_reported_and_coalesced(rpc: Rpc, label: tuple[str, str]) -> None:
    """500 adds during a watch: a few batches, about one per second, the last with the final count."""
    queue_id = rpc.new_queue(tags=[label]).meta.id
    with watching(rpc, selector(label)) as watch:
        watch.snapshot()
        start = time.monotonic()
        for _ in range(500):
            rpc.add(queue_id)
        batches = watch.until(lambda batch: about(queue_id)(batch) and shown_in(batch)[queue_id].messages.ready == 500)
        seconds = time.monotonic() - start
        counts = [shown_in(batch)[queue_id].messages.ready for batch in batches]
        assert counts == sorted(set(counts))
        assert len(counts) <= seconds + 2
        assert shown_in(batches[-1])[queue_id].revision == 1, "messages do not change the definition"
        rpc.pop_all(queue_id)
        emptied = shown_in(*watch.until(about(queue_id)))[queue_id]
        assert emptied.messages == pb.MessageCounts()


def test_counts_are_reported_for_every_queue_that_changed(rpc: Rpc, label: tuple[str, str]) -> None:
    ids = [rpc.new_queue(tags=[label]).meta.id for _ in range(10)]
    with watching(rpc, selector(label)) as watch:
        watch.snapshot()
        for number, queue_id in enumerate(ids[:-1]):
            rpc.add_batch(queue_id, [b""] * (number + 1))
        seen: dict[str, int] = {}
        while sum(seen.values()) < 45:
            seen.update({queue_id: queue.messages.ready for queue_id, queue in shown_in(next(watch)).items()})
        assert seen == {queue_id: number + 1 for number, queue_id in enumerate(ids[:-1])}


def test_a_definition_is_reported_without_waiting_for_the_next_counts(rpc: Rpc, label: tuple[str, str]) -> None:
    """Ten edits, each reported before the next one; counts would arrive once per second."""
    queue_id = rpc.new_queue(tags=[label]).meta.id
    with watching(rpc, selector(label)) as watch:
        watch.snapshot()
        for number in range(10):
            tag = pb.Tag(key="edit", value=str(number))
            rpc.call("AddQueueTag", pb.AddQueueTagRequest(queue_id=queue_id, tag=tag), pb.AddQueueTagResponse)
            batches = watch.until(about(queue_id))
            assert shown_in(*batches)[queue_id].revision == number + 2


# Epoch, and many watchers


def test_the_epoch_changes_with_a_restart_and_only_then() -> None:
    epochs = []
    for _ in range(2):
        with ServerProcess() as server, closing(Rpc(server.address)) as rpc:
            for _ in range(2):
                with watching(rpc) as watch:
                    epochs.append(watch.snapshot()[0].stores[0].epoch)
    assert epochs[0] == epochs[1] != epochs[2] == epochs[3]


def test_many_watchers_see_the_same(server: ServerProcess, label: tuple[str, str]) -> None:
    clients = [Rpc(server.address) for _ in range(20)]
    watches = [client.watch(selector(label)) for client in clients]
    try:
        for watch in watches:
            watch.snapshot()
        queue = clients[0].new_queue(tags=[label])
        for watch in watches:
            assert shown_in(*watch.until(about(queue.meta.id)))[queue.meta.id] == queue
    finally:
        for watch in watches:
            watch.cancel()
        for client in clients:
            client.close()


def test_a_watch_ends_with_its_deadline(rpc: Rpc, label: tuple[str, str]) -> None:
    watch = rpc.watch(selector(label), timeout=0.5)
    watch.snapshot()
    with pytest.raises(Refused, match="DEADLINE_EXCEEDED"):
        watch.until(lambda _: False)
