"""Long work does not block other calls.

The tests count the calls that are served meanwhile, because a time would measure the machine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from google.protobuf.message import Message as ProtobufMessage

from queuelet.v1 import queue_pb2 as pb
from support.pages import samples
from support.patience import patient
from support.relay import Relay
from support.rpc import Rpc, eventually, outcome, unique_name
from support.server_process import ServerProcess

TAGS = [pb.Tag(key=f"k{number}", value="v") for number in range(64)]
COSTLY = ",".join(f"!a{number}" for number in range(63)) + ",nosuch"
"""A selector that is compared with every tag 64 times and selects nothing."""

MEANWHILE = 4
"""Calls that have to be served during long work. Work without time slices would let none through."""


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
    """Search all messages for ones to purge."""
    assert rpc.call("Purge", pb.PurgeRequest(queue_id="tagged", selector=COSTLY), pb.PurgeResponse).purged == 0


def list_queues(rpc: Rpc) -> None:
    """Search all queues."""
    assert not rpc.call("ListQueues", pb.ListQueuesRequest(selector=COSTLY), pb.ListQueuesResponse).queues


def add_batch(rpc: Rpc) -> None:
    """Add many messages with many tags."""
    messages = [pb.NewMessage(tags=TAGS)] * 3_000
    response = rpc.call("AddBatch", pb.AddBatchRequest(queue_id="other", messages=messages), pb.AddBatchResponse)
    assert len(response.results) == len(messages)


def watch(rpc: Rpc) -> None:
    """Receive a snapshot of all queues."""
    watching = rpc.watch(COSTLY)
    assert not any(batch.queues for batch in watching.snapshot())
    watching.cancel()


@pytest.mark.parametrize("work", [browse, purge, list_queues, add_batch, watch], ids=lambda work: str(work.__name__))
def test_calls_get_their_responses_while_long_work_goes_on(place: str, work: Callable[[Rpc], None]) -> None:
    responses = 0
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
            responses += 1
    assert responses >= MEANWHILE


MANY = 64
"""Expensive calls at the same time."""


def test_the_long_work_of_one_address_does_not_wait_for_all_that_another_asks_for() -> None:
    """It begins last and ends while all others are still in progress. Short calls are served all the time."""
    with (
        ServerProcess() as server,
        Relay(server.port, source="127.0.0.2") as relay,
        closing(Rpc(relay.address)) as greedy,
    ):
        tagged = pb.AddBatchRequest(
            queue_id=greedy.new_queue("tagged").meta.id, messages=[pb.NewMessage(tags=TAGS)] * 3_000
        )
        greedy.call("AddBatch", tagged, pb.AddBatchResponse)
        greedy.new_queue("other")
        request = pb.PurgeRequest(queue_id="tagged", selector=COSTLY)
        calls = [greedy.start("Purge", request, timeout=None) for _ in range(MANY)]
        url = f"{server.metrics_url}/metrics"
        eventually(lambda: samples(url, "queuelet_long_work_waiting")[""] >= MANY - 1, "all of them have begun")
        with closing(Rpc(server.address)) as modest, closing(Rpc(server.address)) as rpc:
            own = modest.start("Purge", request, timeout=None)
            responses = 0
            while not own.done():
                rpc.add("other")
                responses += 1
            assert isinstance(outcome(own, pb.PurgeResponse), pb.PurgeResponse)
            assert not any(call.done() for call in calls)
        assert responses >= MEANWHILE
        assert samples(url, "queuelet_long_work_seconds_total")[""] > 0
        for call in calls:
            call.cancel()
        eventually(lambda: samples(url, "queuelet_long_work_waiting")[""] == 0, "none is left")


MAX_ITEMS = 10_000
"""The most items of one request."""


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("AddBatch", pb.AddBatchRequest(queue_id="full", messages=[pb.NewMessage()] * MAX_ITEMS)),
        ("Ack", pb.AckRequest(queue_id="full", tokens=range(1, MAX_ITEMS + 1))),
        ("Nack", pb.NackRequest(queue_id="full", tokens=range(1, MAX_ITEMS + 1))),
        ("Extend", pb.ExtendRequest(queue_id="full", tokens=range(1, MAX_ITEMS + 1))),
    ],
    ids=["AddBatch", "Ack", "Nack", "Extend"],
)
def test_other_calls_are_served_between_many_of_the_largest_requests(method: str, request_: ProtobufMessage) -> None:
    with ServerProcess() as server, closing(Rpc(server.address)) as greedy:
        greedy.new_queue("full", limit=1)
        greedy.add("full")
        with closing(Rpc(server.address, options=[("grpc.use_local_subchannel_pool", 1)])) as modest:
            modest.new_queue("other")
            calls = [greedy.start(method, request_, timeout=None) for _ in range(MANY)]
            responses = 0
            while not all(call.done() for call in calls):
                modest.add("other")
                responses += 1
        # Without time slices, one call waits for most of them.
        assert responses >= MANY // 4


def test_a_batch_that_a_full_queue_refuses_has_a_result_for_each_message_and_one_sentence(place: str) -> None:
    with closing(Rpc(place)) as rpc:
        queue = rpc.new_queue(limit=1).meta.id
        rpc.add(queue)
        results = rpc.add_batch(queue, [b""] * 10_000)
        assert [result.error.reason for result in results] == ["QUEUE_FULL"] * 10_000
        assert [bool(result.error.message) for result in results] == [True] + [False] * 9_999
        assert rpc.stats(queue).refused_full == 10_000
        rpc.pop(queue)
        assert [bool(result.id) for result in rpc.add_batch(queue, [b"", b""])] == [True, False]
