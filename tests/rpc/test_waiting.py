"""Calls that wait, for a message or for room, and the limits: of messages, waiting calls and memory."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import grpc
import pytest

from queuelet.v1 import queue_pb2 as pb
from support.pages import samples
from support.relay import Relay
from support.rpc import Pending, Refused, Rpc, add_request, eventually, outcome, pop_request, unique_name
from support.server_process import ServerProcess

RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


def waiting(rpc: Rpc, queue: str, count: int) -> None:
    """Return once this many calls wait on a queue."""
    eventually(lambda: rpc.stats(queue).waiting_calls == count, f"{count} calls wait")


def popped(call: Pending) -> bytes:
    """Return the payload that a Pop returns."""
    response = outcome(call, pb.PopResponse)
    assert isinstance(response, pb.PopResponse), response
    return response.message.payload


# For a message


def test_a_waiting_pop_wakes_when_a_message_is_added(rpc: Rpc, queue: pb.Queue) -> None:
    call = rpc.start("Pop", pop_request(queue.meta.id, 600), timeout=600)
    waiting(rpc, queue.meta.id, 1)
    added = rpc.add(queue.meta.id, b"news")
    response = outcome(call, pb.PopResponse)
    assert isinstance(response, pb.PopResponse)
    assert response.message == added
    assert rpc.stats(queue.meta.id).waiting_calls == 0


def test_waiting_pops_are_served_in_the_order_they_came(rpc: Rpc, queue: pb.Queue) -> None:
    calls = []
    for number in range(5):
        calls.append(rpc.start("Pop", pop_request(queue.meta.id, 600), timeout=600))
        waiting(rpc, queue.meta.id, number + 1)
    for number in range(5):
        rpc.add(queue.meta.id, str(number).encode())
        assert popped(calls[number]) == str(number).encode()


def test_a_batch_wakes_as_many_as_it_has_messages(rpc: Rpc, queue: pb.Queue) -> None:
    calls = [rpc.start("Pop", pop_request(queue.meta.id, 600), timeout=600) for _ in range(5)]
    waiting(rpc, queue.meta.id, 5)
    rpc.add_batch(queue.meta.id, [b"0", b"1", b"2"])
    eventually(lambda: sum(call.done() for call in calls) == 3, "three are served")
    waiting(rpc, queue.meta.id, 2)
    rpc.add_batch(queue.meta.id, [b"3", b"4"])
    assert sorted(popped(call) for call in calls) == [b"0", b"1", b"2", b"3", b"4"]


def test_a_waiting_pop_batch_returns_what_there_is_when_it_wakes(rpc: Rpc, queue: pb.Queue) -> None:
    request = pb.PopBatchRequest(queue_id=queue.meta.id)
    request.wait.FromSeconds(600)
    call = rpc.start("PopBatch", request, timeout=600)
    waiting(rpc, queue.meta.id, 1)
    rpc.add_batch(queue.meta.id, [b"0", b"1", b"2"])
    response = outcome(call, pb.PopBatchResponse)
    assert isinstance(response, pb.PopBatchResponse)
    assert [message.payload for message in response.messages] == [b"0", b"1", b"2"]


def test_a_pop_that_may_wait_takes_what_is_there_at_once(rpc: Rpc, queue: pb.Queue) -> None:
    rpc.add(queue.meta.id, b"there")
    assert popped(rpc.start("Pop", pop_request(queue.meta.id, 600), timeout=600)) == b"there"


def test_a_wait_that_ends_without_a_message_is_an_empty_queue(rpc: Rpc, queue: pb.Queue) -> None:
    with pytest.raises(Refused) as caught:
        rpc.call("Pop", pop_request(queue.meta.id, 0.2), pb.PopResponse)
    assert caught.value.reason == "QUEUE_EMPTY"
    request = pb.PopBatchRequest(queue_id=queue.meta.id)
    request.wait.FromMilliseconds(200)
    assert rpc.call("PopBatch", request, pb.PopBatchResponse) == pb.PopBatchResponse()
    assert rpc.stats(queue.meta.id).waiting_calls == 0


def test_a_call_with_a_deadline_shorter_than_its_wait_gets_its_response_in_time(rpc: Rpc, queue: pb.Queue) -> None:
    """DEADLINE_EXCEEDED instead would leave open whether a message was removed."""
    with pytest.raises(Refused) as caught:
        rpc.call("Pop", pop_request(queue.meta.id, 600), pb.PopResponse, timeout=2)
    assert caught.value.reason == "QUEUE_EMPTY"


@pytest.mark.parametrize("seconds", [10**9, 2**62])
def test_a_wait_of_ages_is_a_wait_for_ever(rpc: Rpc, queue: pb.Queue, seconds: int) -> None:
    request = pb.PopRequest(queue_id=queue.meta.id)
    request.wait.seconds = seconds
    call = rpc.start("Pop", request, timeout=None)
    waiting(rpc, queue.meta.id, 1)
    rpc.add(queue.meta.id, b"at last")
    assert popped(call) == b"at last"


def test_a_call_that_comes_while_others_wait_does_not_leave_them_unserved(rpc: Rpc, queue: pb.Queue) -> None:
    """A Pop that does not wait may be quicker than one that was woken; the latter keeps waiting."""
    calls = [rpc.start("Pop", pop_request(queue.meta.id, 600), timeout=600) for _ in range(3)]
    waiting(rpc, queue.meta.id, 3)
    taken: list[bytes] = []
    stop = threading.Event()

    def snatch() -> None:
        while not stop.is_set():
            try:
                taken.append(rpc.pop(queue.meta.id).payload)
            except Refused:
                continue

    thread = threading.Thread(target=snatch)
    thread.start()
    numbers = itertools.count()
    while not all(call.done() for call in calls):
        rpc.add(queue.meta.id, str(next(numbers)).encode())
    stop.set()
    thread.join()
    left = [message.payload for message in rpc.pop_all(queue.meta.id)]
    everything = [*taken, *left, *(popped(call) for call in calls)]
    assert sorted(everything, key=int) == [str(number).encode() for number in range(next(numbers))]


@pytest.mark.parametrize("method", ["Pop", "Add"])
def test_a_queue_deleted_under_a_waiting_call_is_not_found(rpc: Rpc, method: str) -> None:
    queue = rpc.new_queue(limit=1).meta.id
    if method == "Add":
        rpc.add(queue)
    request = add_request(queue, wait=True) if method == "Add" else pop_request(queue, 600)
    call = rpc.start(method, request, timeout=600)
    waiting(rpc, queue, 1)
    rpc.delete_queue(queue)
    ended = outcome(call, pb.AddResponse)
    assert isinstance(ended, Refused)
    assert ended.reason == "QUEUE_NOT_FOUND"
    assert "was deleted" in ended.text


# For space


@pytest.fixture
def full(rpc: Rpc) -> Iterator[str]:
    """A full queue: one message, with a limit of one."""
    queue = rpc.new_queue(limit=1).meta.id
    rpc.add(queue, b"first")
    yield queue
    rpc.delete_queue(queue)


def test_waiting_adds_get_room_in_the_order_they_came(rpc: Rpc, full: str) -> None:
    calls = []
    for number in range(5):
        calls.append(rpc.start("Add", add_request(full, str(number).encode(), wait=True), timeout=600))
        waiting(rpc, full, number + 1)
    assert rpc.pop(full).payload == b"first"
    for number in range(5):
        response = outcome(calls[number], pb.AddResponse)
        assert isinstance(response, pb.AddResponse)
        assert rpc.pop(full) == response.message
        assert response.message.payload == str(number).encode()


def test_no_later_add_overtakes_one_that_waits(rpc: Rpc) -> None:
    """Not even if there is space: a batch that waits for its second half blocks later ones."""
    queue = rpc.new_queue(limit=3).meta.id
    rpc.add_batch(queue, [b"0", b"1", b"2"])
    batch = pb.AddBatchRequest(
        queue_id=queue, messages=[pb.NewMessage(payload=b"%d" % n) for n in range(3, 7)], wait=True
    )
    early = rpc.start("AddBatch", batch, timeout=600)
    waiting(rpc, queue, 1)
    late = rpc.start("Add", add_request(queue, b"7", wait=True), timeout=600)
    waiting(rpc, queue, 2)
    order = []
    for _ in range(8):
        with pytest.raises(Refused) as caught:
            rpc.add(queue, b"overtaking")
        assert caught.value.reason == "QUEUE_FULL"
        order.append(rpc.pop(queue).payload)
        if not rpc.stats(queue).waiting_calls:
            break
    order += [message.payload for message in rpc.pop_all(queue)]
    assert order == [b"%d" % number for number in range(8)]
    assert isinstance(outcome(early, pb.AddBatchResponse), pb.AddBatchResponse)
    assert isinstance(outcome(late, pb.AddResponse), pb.AddResponse)
    rpc.add(queue, b"room again")


@pytest.mark.parametrize("way", ["PopBatch", "Purge", "a higher limit", "no limit"])
def test_room_comes_from_whatever_makes_it(rpc: Rpc, way: str) -> None:
    name = unique_name()
    rpc.new_queue(name, limit=1)
    rpc.add(name, b"first")
    call = rpc.start("Add", add_request(name, b"second", wait=True), timeout=600)
    waiting(rpc, name, 1)
    if way == "PopBatch":
        rpc.pop_all(name)
    elif way == "Purge":
        rpc.call("Purge", pb.PurgeRequest(queue_id=name, all=True), pb.PurgeResponse)
    else:
        declared = pb.QueueDeclaration(name=name, store=pb.Queue.MEMORY, limit=2 if way == "a higher limit" else -1)
        rpc.call("DeclareQueues", pb.DeclareQueuesRequest(queues=[declared]), pb.DeclareQueuesResponse)
    assert isinstance(outcome(call, pb.AddResponse), pb.AddResponse)
    assert [message.payload for message in rpc.pop_all(name)][-1:] in ([b"second"], [])


def test_a_queue_that_begins_to_drain_refuses_those_who_wait(rpc: Rpc) -> None:
    name = unique_name()
    rpc.new_queue(name, limit=1)
    rpc.add(name, b"first")
    call = rpc.start("Add", add_request(name, b"second", wait=True), timeout=600)
    waiting(rpc, name, 1)
    declared = pb.QueueDeclaration(name=name, store=pb.Queue.MEMORY, limit=1, draining=True)
    rpc.call("DeclareQueues", pb.DeclareQueuesRequest(queues=[declared]), pb.DeclareQueuesResponse)
    ended = outcome(call, pb.AddResponse)
    assert isinstance(ended, Refused)
    assert ended.reason == "QUEUE_DRAINING"
    assert rpc.pop(name).payload == b"first"


def test_a_deadline_ends_with_a_result_for_each_message(rpc: Rpc) -> None:
    queue = rpc.new_queue(limit=2).meta.id
    messages = [pb.NewMessage(payload=b"%d" % number) for number in range(5)]
    request = pb.AddBatchRequest(queue_id=queue, messages=messages, wait=True)
    results = rpc.call("AddBatch", request, pb.AddBatchResponse, timeout=2).results
    assert [bool(result.id) for result in results] == [True, True, False, False, False]
    assert {result.error.reason for result in results[2:]} == {"QUEUE_FULL"}
    assert {result.error.code for result in results[2:]} == {8}
    assert [message.meta.id for message in rpc.pop_all(queue)] == [result.id for result in results[:2]]
    rpc.add_batch(queue, [b"", b""])
    with pytest.raises(Refused) as caught:
        rpc.call("Add", add_request(queue, wait=True), pb.AddResponse, timeout=2)
    assert caught.value.reason == "QUEUE_FULL"
    assert rpc.stats(queue).waiting_calls == 0


def test_an_add_that_may_wait_goes_in_at_once_where_there_is_room(rpc: Rpc, queue: pb.Queue) -> None:
    added = rpc.call("Add", add_request(queue.meta.id, b"x", wait=True), pb.AddResponse)
    assert added.message.payload == b"x"


# Limits


def test_calls_that_wait_on_a_queue_are_bounded() -> None:
    with ServerProcess("--max-waiting", "5") as server, closing(Rpc(server.address)) as rpc:
        full, empty = rpc.new_queue(limit=1).meta.id, rpc.new_queue().meta.id
        rpc.add(full)
        adds = [rpc.start("Add", add_request(full, wait=True), timeout=600) for _ in range(5)]
        pops = [rpc.start("Pop", pop_request(empty, 600), timeout=600) for _ in range(5)]
        waiting(rpc, full, 5)
        waiting(rpc, empty, 5)
        for queue, request in ((full, add_request(full, wait=True)), (empty, pop_request(empty, 600))):
            response = pb.AddResponse if queue == full else pb.PopResponse
            ended = outcome(rpc.start("Add" if queue == full else "Pop", request, timeout=600), response)
            assert isinstance(ended, Refused)
            assert (ended.code, ended.reason) == (RESOURCE_EXHAUSTED, "TOO_MANY")
            assert "5 calls are waiting" in ended.text
            assert "--max-waiting" in ended.text
        for _ in range(6):
            rpc.add(empty, b"x")
            rpc.pop(full)
            eventually(
                lambda: rpc.get_queue(full).messages.ready == 1 or all(add.done() for add in adds), "room is taken"
            )
        assert all(isinstance(outcome(add, pb.AddResponse), pb.AddResponse) for add in adds)
        assert all(isinstance(outcome(pop, pb.PopResponse), pb.PopResponse) for pop in pops)


def test_a_client_cannot_take_all_the_places_of_those_who_wait() -> None:
    """Also over many connections, because its address counts."""
    with (
        ServerProcess("--max-waiting", "5", "--max-waiting-per-peer", "3") as server,
        Relay(server.port, source="127.0.0.2") as relay,
        ExitStack() as opened,
    ):
        greedy = [opened.enter_context(closing(Rpc(relay.address))) for _ in range(2)]
        rpc = opened.enter_context(closing(Rpc(server.address)))
        queue = rpc.new_queue().meta.id
        calls = [client.start("Pop", pop_request(queue, 600), timeout=600) for client in greedy for _ in range(4)]
        eventually(lambda: sum(call.done() for call in calls) == 5, "those past the bound are refused")
        refused = [outcome(call, pb.PopResponse) for call in calls if call.done()]
        for each in refused:
            assert isinstance(each, Refused)
            assert (each.code, each.reason) == (RESOURCE_EXHAUSTED, "TOO_MANY")
            assert "3 calls from 127.0.0.2 are waiting" in each.text
            assert "--max-waiting-per-peer" in each.text
        assert samples(f"{server.metrics_url}/metrics", "queuelet_queue_waiting_refused_total") == {
            f'queue="{queue}"': 5
        }
        modest = rpc.start("Pop", pop_request(queue, 600), timeout=600)
        waiting(rpc, queue, 4)
        for number in range(4):
            rpc.add(queue, b"%d" % number)
        assert popped(modest) == b"3"
        again = greedy[0].start("Pop", pop_request(queue, 600), timeout=600)
        waiting(rpc, queue, 1)
        rpc.add(queue, b"again")
        assert popped(again) == b"again"


MIB = 1024 * 1024


def fill(rpc: Rpc, queue: str, payload: bytes) -> None:
    """Add messages until one is refused."""
    for _ in range(1_000):
        rpc.add(queue, payload)


def test_the_memory_watermark_refuses_adds_while_the_rest_goes_on() -> None:
    with ServerProcess() as probe, closing(Rpc(probe.address)) as rpc:
        baseline = rpc.server_stats().memory_bytes
    with (
        ServerProcess("--memory-watermark", str(baseline + 24 * MIB)) as server,
        closing(Rpc(server.address)) as rpc,
    ):
        queue = rpc.new_queue().meta.id
        payload = bytes(MIB)
        with pytest.raises(Refused) as caught:
            fill(rpc, queue, payload)
        added = rpc.stats(queue).enqueued
        assert (caught.value.code, caught.value.reason) == (RESOURCE_EXHAUSTED, "MEMORY_WATERMARK")
        assert "--memory-watermark" in caught.value.text
        assert "remove messages or queues" in caught.value.text
        assert 2 <= added <= 48
        stats = rpc.server_stats()
        assert stats.memory_bytes <= stats.memory_watermark_bytes
        results = rpc.add_batch(queue, [payload, payload])
        assert {result.error.reason for result in results} == {"MEMORY_WATERMARK"}
        ended = outcome(rpc.start("Add", add_request(queue, payload, wait=True)), pb.AddResponse)
        assert isinstance(ended, Refused)
        assert ended.reason == "MEMORY_WATERMARK"
        assert rpc.get_queue(queue).messages.ready == added
        assert [message.payload for message in rpc.browse_all(queue)] == [payload] * added
        assert rpc.pop(queue).payload == payload
        rpc.add(queue, payload)
        for _ in range(3):
            assert len(rpc.pop_all(queue)) > 1
            assert rpc.server_stats().memory_bytes < baseline + 8 * MIB, "what was popped is given back"
            for _ in range(added):
                rpc.add(queue, payload)
        rpc.delete_queue(queue)
        again = rpc.new_queue().meta.id
        for _ in range(added):
            rpc.add(again, payload)


def test_messages_that_wait_for_room_count_to_the_watermark(rpc: Rpc, full: str) -> None:
    before = rpc.server_stats().memory_bytes
    call = rpc.start("Add", add_request(full, bytes(3 * MIB), wait=True), timeout=600)
    waiting(rpc, full, 1)
    eventually(lambda: rpc.server_stats().memory_bytes > before + 2 * MIB, "they are accounted")
    call.cancel()
    waiting(rpc, full, 0)


def test_a_burst_of_calls_is_served_to_the_last(server: ServerProcess, queue: pb.Queue) -> None:
    """4,000 at once on five connections: none is dropped, which the client would see as CANCELLED."""
    with ExitStack() as opened:
        clients = [opened.enter_context(closing(Rpc(server.address))) for _ in range(5)]
        calls = [client.start("Add", add_request(queue.meta.id), timeout=60) for client in clients for _ in range(800)]
        ends = [outcome(call, pb.AddResponse, 60) for call in calls]
        assert [end for end in ends if isinstance(end, Refused)] == []
        assert clients[0].stats(queue.meta.id).enqueued == 4_000


class Rush:
    """Clients that add to one queue in all ways at the same time, while others pop and browse."""

    def __init__(self, address: str, queue: str) -> None:
        """Use the server and the queue."""
        self._address = address
        self._queue = queue
        self._added = threading.Event()
        self.acknowledged = 0
        self.taken: list[bytes] = []
        self.depths: list[int] = []

    def run(self) -> None:
        """Add 10,000 messages and return once all have their responses."""
        ways = [self._singles, self._singles, self._singles, self._singles, self._batches, self._batches, self._waiting]
        with ThreadPoolExecutor(len(ways) + 2) as pool:
            others = [pool.submit(self._take), pool.submit(self._look)]
            adders = [pool.submit(way, number) for number, way in enumerate(ways)]
            try:
                self.acknowledged = sum(adder.result() for adder in adders)
            finally:
                self._added.set()
            for other in others:
                other.result()

    def _singles(self, number: int) -> int:
        with closing(Rpc(self._address)) as rpc:
            requests = [add_request(self._queue, b"%d-%d" % (number, count)) for count in range(500)]
            calls = [rpc.start("Add", request) for request in requests]
            return sum(isinstance(outcome(call, pb.AddResponse), pb.AddResponse) for call in calls)

    def _batches(self, number: int) -> int:
        with closing(Rpc(self._address)) as rpc:
            batches = [[b"%d-%d-%d" % (number, count, place) for place in range(50)] for count in range(60)]
            return sum(bool(result.id) for batch in batches for result in rpc.add_batch(self._queue, batch))

    def _waiting(self, number: int) -> int:
        with closing(Rpc(self._address)) as rpc:
            batches = [[b"%d-%d-%d" % (number, count, place) for place in range(25)] for count in range(80)]
            results = [rpc.add_batch(self._queue, batch, wait=True) for batch in batches]
            return sum(bool(result.id) for batch in results for result in batch)

    def _take(self) -> None:
        request = pb.PopBatchRequest(queue_id=self._queue, max=30)
        request.wait.FromMilliseconds(50)
        with closing(Rpc(self._address)) as rpc:
            while not self._added.is_set():
                self.taken += [m.payload for m in rpc.call("PopBatch", request, pb.PopBatchResponse).messages]

    def _look(self) -> None:
        with closing(Rpc(self._address)) as rpc:
            while not self._added.is_set():
                self.depths += [rpc.get_queue(self._queue).messages.ready, len(rpc.browse_all(self._queue))]


def test_the_limit_is_never_exceeded_by_10000_adds_at_the_same_time(server: ServerProcess, rpc: Rpc) -> None:
    """Single adds, batches and waiting adds over many connections, while others pop, browse and read the counts."""
    queue = rpc.new_queue(limit=100).meta.id
    rush = Rush(server.address, queue)
    rush.run()
    left = [message.payload for message in rpc.pop_all(queue)]
    assert max(rush.depths) <= 100
    assert len(left) <= 100
    everything = [*rush.taken, *left]
    assert len(everything) == rush.acknowledged, "every message that was acknowledged came out, once"
    assert len(set(everything)) == len(everything)
    assert rpc.stats(queue).enqueued == rush.acknowledged >= 2_000, "those who wait get in, all of them"
