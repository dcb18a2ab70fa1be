"""Long work lets other calls have their turn.

Counted in calls that are answered meanwhile, since a time would measure the machine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from queuelet.v1 import queue_pb2 as pb
from support.patience import patient
from support.rpc import Rpc, unique_name
from support.server_process import ServerProcess

TAGS = [pb.Tag(key=f"k{number}", value="v") for number in range(64)]
COSTLY = ",".join(f"!a{number}" for number in range(63)) + ",nosuch"
"""A selector that is held against every tag, 64 times, and picks nothing."""

MEANWHILE = 4
"""Calls that have to be answered while long work goes on. One that is not sliced lets none through."""


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    """The address of a server with many tags: 10,000 messages in the queue `tagged`, and 10,000 queues."""
    with ServerProcess() as server, closing(Rpc(server.address)) as rpc:
        rpc.new_queue("tagged")
        rpc.new_queue("other")
        for _ in range(10):
            messages = [pb.NewMessage(tags=TAGS)] * 1_000
            rpc.call("AddBatch", pb.AddBatchRequest(queue_id="tagged", messages=messages), pb.AddBatchResponse)
        for _ in range(100):
            declared = [
                pb.QueueDeclaration(name=unique_name(), store=pb.Queue.MEMORY, limit=-1, tags=TAGS) for _ in range(100)
            ]
            rpc.call("DeclareQueues", pb.DeclareQueuesRequest(queues=declared), pb.DeclareQueuesResponse)
        yield server.address


def browse(rpc: Rpc) -> None:
    """Page through all messages."""
    request = pb.BrowseRequest(queue_id="tagged", selector=COSTLY)
    assert not rpc.call("Browse", request, pb.BrowseResponse).messages


def purge(rpc: Rpc) -> None:
    """Look for messages to purge among all."""
    assert rpc.call("Purge", pb.PurgeRequest(queue_id="tagged", selector=COSTLY), pb.PurgeResponse).purged == 0


def list_queues(rpc: Rpc) -> None:
    """Look for queues among all."""
    assert not rpc.call("ListQueues", pb.ListQueuesRequest(selector=COSTLY), pb.ListQueuesResponse).queues


def add_batch(rpc: Rpc) -> None:
    """Add many messages with many tags."""
    messages = [pb.NewMessage(tags=TAGS)] * 3_000
    answer = rpc.call("AddBatch", pb.AddBatchRequest(queue_id="other", messages=messages), pb.AddBatchResponse)
    assert len(answer.results) == len(messages)


def watch(rpc: Rpc) -> None:
    """See a snapshot of all queues."""
    watching = rpc.watch(COSTLY)
    assert not any(batch.queues for batch in watching.snapshot())
    watching.cancel()


@pytest.mark.parametrize("work", [browse, purge, list_queues, add_batch, watch], ids=lambda work: str(work.__name__))
def test_calls_are_answered_while_long_work_goes_on(place: str, work: Callable[[Rpc], None]) -> None:
    answered = 0
    begun = threading.Event()

    def long_work() -> None:
        with closing(Rpc(place)) as worker:
            worker.server_stats()
            begun.set()
            work(worker)

    worker = threading.Thread(target=long_work)
    worker.start()
    assert begun.wait(patient(30))
    with closing(Rpc(place)) as rpc:
        while worker.is_alive():
            rpc.get_queue("other")
            answered += 1
    assert answered >= MEANWHILE
