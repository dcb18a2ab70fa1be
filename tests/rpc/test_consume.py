"""The Consume stream: credit, pushed messages, acks on the same stream, and leases that end with it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from random import Random
from threading import Event
from typing import cast

import grpc
import pytest

from queuelet.bounds import Bounds
from queuelet.core.budget import MemoryBudget
from queuelet.core.manager import Manager
from queuelet.core.queue import Queue
from queuelet.core.stored_form import NewMessage
from queuelet.core.tokens import Tokens
from queuelet.core.waiting import Taker
from queuelet.definition import QueueDefinition, StoreKind
from queuelet.errors import StoreFailed
from queuelet.server.endpoint import Call
from queuelet.server.handlers.consume import ConsumeRpcs
from queuelet.server.handlers.long_poll import LongPoll
from queuelet.server.lifecycle import Lifecycle
from queuelet.v1 import queue_pb2 as pb
from support.patience import patient
from support.rpc import Consumer, Refused, Rpc, add_request, eventually, outcome, pop_request
from support.server_process import OBSERVED, ServerProcess
from support.slow_store import SlowStore

MIB = 1024 * 1024


@pytest.fixture
def orders(rpc: Rpc) -> Iterator[str]:
    """A queue of ten messages."""
    queue = rpc.new_queue().meta.id
    rpc.add_batch(queue, [b"%d" % number for number in range(10)])
    yield queue
    rpc.delete_queue(queue)


def counts(rpc: Rpc, queue: str) -> tuple[int, int, int, int]:
    """Return ready, delayed, leased, dead."""
    messages = rpc.get_queue(queue).messages
    return messages.ready, messages.delayed, messages.leased, messages.dead


def numbers(*of: int) -> list[bytes]:
    return [b"%d" % number for number in of]


def waiting(rpc: Rpc, queue: str, count: int) -> None:
    """Return once this many calls wait on a queue."""
    eventually(lambda: rpc.stats(queue).waiting_calls == count, f"{count} calls wait")


# Credit


def test_messages_come_as_far_as_credit_was_granted(rpc: Rpc, orders: str) -> None:
    consumer = rpc.consume(orders, credit=3, consumer="worker 7")
    consumer.take(3)
    assert consumer.payloads == numbers(0, 1, 2)
    assert counts(rpc, orders) == (7, 0, 3, 0), "no more are leased than that"
    consumer.say(credit=2)
    consumer.say(credit=1)
    consumer.take(6)
    assert consumer.payloads == numbers(0, 1, 2, 3, 4, 5)
    assert {each.consumer for each in rpc.browse(orders, pb.MESSAGE_STATE_LEASED)} == {"worker 7"}
    consumer.cancel()


def test_without_credit_nothing_comes_and_nothing_is_leased(rpc: Rpc, orders: str) -> None:
    consumer = rpc.consume(orders)
    consumer.say(ack=[1])
    consumer.until(lambda so_far: so_far.refused)
    assert counts(rpc, orders) == (10, 0, 0, 0)
    assert rpc.stats(orders).waiting_calls == 0
    consumer.cancel()


def test_credit_can_be_taken_back(rpc: Rpc, orders: str) -> None:
    consumer = rpc.consume(orders, credit=3)
    consumer.take(3)
    rpc.pop_all(orders)
    consumer.say(credit=5)
    waiting(rpc, orders, 1)
    consumer.say(revoke=True)
    waiting(rpc, orders, 0)
    rpc.add_batch(orders, numbers(10, 11))
    consumer.say(revoke=True, credit=1)
    consumer.take(4)
    assert consumer.payloads == numbers(0, 1, 2, 10)
    assert counts(rpc, orders) == (1, 0, 4, 0)
    consumer.cancel()


def test_a_message_is_pushed_when_it_is_added(rpc: Rpc, queue: pb.Queue) -> None:
    consumer = rpc.consume(queue.meta.id, credit=10)
    for number in range(3):
        waiting(rpc, queue.meta.id, 1)
        rpc.add(queue.meta.id, b"%d" % number)
        consumer.take(number + 1)
    assert consumer.payloads == numbers(0, 1, 2)
    assert consumer.batches == [1, 1, 1]
    consumer.cancel()


def test_what_there_is_comes_in_one_batch_or_as_many_as_asked_for(rpc: Rpc, orders: str) -> None:
    together = rpc.consume(orders, credit=10)
    together.take(10)
    assert together.batches == [10]
    together.cancel()
    eventually(lambda: counts(rpc, orders)[0] == 10, "they are back")
    in_fours = rpc.consume(orders, credit=9, max=4)
    in_fours.take(9)
    assert in_fours.batches == [4, 4, 1]
    in_fours.cancel()


def test_a_lease_lasts_as_long_as_the_stream_says(rpc: Rpc, orders: str) -> None:
    consumer = rpc.consume(orders, credit=1, lease={"seconds": 600})
    (delivery,) = consumer.take(1)
    assert 590 < delivery.deadline.ToNanoseconds() / 1e9 - time.time() <= 600
    consumer.cancel()


def test_large_messages_come_within_what_a_client_receives(rpc: Rpc, queue: pb.Queue) -> None:
    """Results that are sent together with the largest message do not make the response too large."""
    rpc.add_batch(queue.meta.id, [b"small"] * 100)
    sizes = [4 * MIB - 500, MIB, 2 * MIB, 3 * MIB]
    for size in sizes:
        rpc.add(queue.meta.id, bytes(size))
    consumer = rpc.consume(queue.meta.id, credit=100)
    consumer.take(100)
    consumer.say(ack=consumer.tokens, credit=100)
    consumer.until(lambda so_far: len(so_far.deliveries) == 104 and len(so_far.settled) == 100)
    assert [len(payload) for payload in consumer.payloads[100:]] == sizes
    consumer.cancel()


def test_streams_and_long_polls_on_one_queue_are_served_in_turn(rpc: Rpc, queue: pb.Queue) -> None:
    one = rpc.consume(queue.meta.id, credit=1)
    waiting(rpc, queue.meta.id, 1)
    call = rpc.start("Pop", pop_request(queue.meta.id, 600), timeout=600)
    waiting(rpc, queue.meta.id, 2)
    two = rpc.consume(queue.meta.id, credit=1)
    waiting(rpc, queue.meta.id, 3)
    rpc.add_batch(queue.meta.id, numbers(0, 1, 2))
    popped = outcome(call, pb.PopResponse)
    assert isinstance(popped, pb.PopResponse)
    one.take(1)
    two.take(1)
    assert sorted([*one.payloads, popped.message.payload, *two.payloads]) == numbers(0, 1, 2)
    for consumer in (one, two):
        consumer.cancel()


def test_a_stream_whose_turn_comes_as_it_ends_passes_it_on(rpc: Rpc, queue: pb.Queue) -> None:
    for number in range(20):
        leaving = rpc.consume(queue.meta.id, credit=1)
        waiting(rpc, queue.meta.id, 1)
        staying = rpc.consume(queue.meta.id, credit=1)
        waiting(rpc, queue.meta.id, 2)
        adding = rpc.start("Add", add_request(queue.meta.id, b"%d" % number))
        leaving.cancel()
        (delivery,) = staying.take(1)
        assert delivery.message.payload == b"%d" % number
        assert isinstance(outcome(adding, pb.AddResponse), pb.AddResponse)
        staying.say(ack=staying.tokens)
        staying.until(lambda so_far: so_far.settled)
        staying.cancel()
        waiting(rpc, queue.meta.id, 0)


# Settling


def test_acks_nacks_and_extends_travel_on_the_stream_and_each_has_its_result(rpc: Rpc, orders: str) -> None:
    consumer = rpc.consume(orders, credit=4)
    done, back, away, longer = (delivery.token for delivery in consumer.take(4))
    nacks = [
        pb.ConsumeNack(token=back, reason="busy"),
        pb.ConsumeNack(token=away, delay={"seconds": 600}, reason="later"),
    ]
    consumer.say(ack=[done, 12345], nack=nacks, extend=[longer, 54321])
    consumer.until(lambda so_far: len(so_far.settled) + len(so_far.refused) == 6)
    assert sorted(consumer.settled) == sorted([done, back, away, longer])
    assert {token: error.reason for token, error in consumer.refused.items()} == {
        12345: "MESSAGE_NOT_FOUND",
        54321: "MESSAGE_NOT_FOUND",
    }
    assert consumer.durability == pb.DURABILITY_MEMORY
    assert counts(rpc, orders) == (7, 1, 1, 0)
    tries = {each.message.payload: [(t.outcome, t.reason) for t in each.tries] for each in rpc.browse(orders)}
    assert (tries[b"1"], tries[b"2"]) == ([(pb.Try.OUTCOME_NACKED, "busy")], [(pb.Try.OUTCOME_NACKED, "later")])
    consumer.cancel()


def test_a_lease_can_be_settled_on_another_stream_or_by_a_call(rpc: Rpc, orders: str) -> None:
    one, two = rpc.consume(orders, credit=3), rpc.consume(orders)
    first, second, third = (delivery.token for delivery in one.take(3))
    two.say(ack=[first])
    two.until(lambda so_far: so_far.settled == [first])
    assert rpc.ack(orders, second) == [""]
    one.say(ack=[first, second, third])
    one.until(lambda so_far: so_far.settled == [third])
    assert {error.reason for error in one.refused.values()} == {"MESSAGE_NOT_FOUND"}
    for consumer in (one, two):
        consumer.cancel()


def test_ten_thousand_messages_come_and_are_acknowledged_in_groups(rpc: Rpc, queue: pb.Queue) -> None:
    rpc.add_batch(queue.meta.id, numbers(*range(10_000)))
    consumer = rpc.consume(queue.meta.id, credit=1_000)
    known = 0
    while len(consumer.deliveries) < 10_000:
        consumer.take(min(10_000, known + 1))
        fresh = consumer.tokens[known:]
        known += len(fresh)
        consumer.say(ack=fresh, credit=len(fresh))
    consumer.until(lambda so_far: len(so_far.settled) == 10_000)
    assert consumer.payloads == numbers(*range(10_000))
    assert consumer.tokens == sorted(set(consumer.tokens)) == sorted(consumer.settled)
    assert counts(rpc, queue.meta.id) == (0, 0, 0, 0)
    consumer.cancel()


# Ends of streams


def assert_back(rpc: Rpc, queue: str, count: int = 10) -> None:
    """Return once all messages are ready again without the expiry of any lease."""
    eventually(lambda: counts(rpc, queue) == (count, 0, 0, 0), "the leases are back")
    assert rpc.stats(queue).expired == 0
    assert [message.payload for message in rpc.browse_all(queue)] == numbers(*range(count)), "in their old places"


def test_a_stream_that_is_cancelled_gives_its_leases_back_at_once(rpc: Rpc, orders: str) -> None:
    consumer = rpc.consume(orders, credit=5, lease={"seconds": 3600})
    consumer.take(5)
    consumer.cancel()
    assert_back(rpc, orders)
    (first, *_) = rpc.browse(orders)
    assert [each.outcome for each in first.tries] == [pb.Try.OUTCOME_RELEASED]
    assert rpc.stats(orders).released == 5
    assert rpc.stats(orders).waiting_calls == 0


def test_only_what_a_consumer_may_have_begun_counts_as_delivered_when_its_stream_ends(rpc: Rpc, orders: str) -> None:
    consumer = rpc.consume(orders, credit=6, concurrency=2)
    first, *_ = (delivery.token for delivery in consumer.take(6))
    consumer.say(ack=[first])
    consumer.until(lambda so_far: so_far.settled)
    consumer.cancel()
    eventually(lambda: counts(rpc, orders) == (9, 0, 0, 0), "all are back")
    assert [each.count for each in rpc.browse(orders)] == [1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert [len(each.tries) for each in rpc.browse(orders)] == [1, 1, 0, 0, 0, 0, 0, 0, 0]


def test_a_message_that_was_not_begun_can_be_given_back_as_such(rpc: Rpc, orders: str) -> None:
    consumer = rpc.consume(orders, credit=1)
    (delivery,) = consumer.take(1)
    consumer.say(nack=[pb.ConsumeNack(token=delivery.token, unused=True)])
    consumer.until(lambda so_far: so_far.settled)
    consumer.cancel()
    assert [each.count for each in rpc.browse(orders)] == [0] * 10


def test_thousands_of_leases_come_back_to_their_old_places_before_the_next_holder_begins(
    rpc: Rpc, queue: pb.Queue
) -> None:
    """They are returned in steps, and the queue stays held until the last one."""
    count = 3_500
    for start in range(0, count, 500):
        rpc.add_batch(queue.meta.id, numbers(*range(start, start + 500)))
    holder = rpc.consume(queue.meta.id, credit=count, exclusive=True)
    holder.take(count)
    heir = rpc.consume(queue.meta.id, credit=count, exclusive=True)
    waiting(rpc, queue.meta.id, 1)
    holder.cancel()
    heir.take(count)
    assert heir.payloads == numbers(*range(count))
    heir.cancel()


def test_what_was_acknowledged_does_not_come_back_with_the_rest(rpc: Rpc, orders: str) -> None:
    consumer = rpc.consume(orders, credit=3)
    first, second, _ = (delivery.token for delivery in consumer.take(3))
    consumer.say(ack=[first], nack=[pb.ConsumeNack(token=second, delay={"seconds": 600})])
    consumer.until(lambda so_far: len(so_far.settled) == 2)
    consumer.cancel()
    eventually(lambda: counts(rpc, orders) == (8, 1, 0, 0), "one is done, one is away, one is back")
    assert rpc.stats(orders).released == 1


def test_leases_that_ended_otherwise_are_left_alone_when_the_stream_ends(rpc: Rpc, orders: str) -> None:
    """One lease expired and its message went to another consumer; another was acknowledged by a separate call."""
    consumer = rpc.consume(orders, credit=2, lease={"seconds": 1})
    overtaken, _ = consumer.take(2)
    eventually(lambda: rpc.stats(orders).expired == 2, "the leases run out")
    (delivery,) = rpc.receive(orders, 1, lease=600)
    assert delivery.message == overtaken.message
    consumer.say(credit=1)
    (*_, third) = consumer.take(3)
    assert rpc.ack(orders, third.token) == [""]
    consumer.cancel()
    consumer.end()
    eventually(lambda: not rpc.browse(orders, pb.MESSAGE_STATE_DELAYED), "the stream has ended")
    time.sleep(0.1)
    assert counts(rpc, orders) == (8, 0, 1, 0)
    assert rpc.stats(orders).released == 0
    assert rpc.ack(orders, delivery.token) == [""]


def test_a_client_that_half_closes_gets_its_results_and_the_stream_ends_well(rpc: Rpc, orders: str) -> None:
    consumer = rpc.consume(orders, credit=5, lease={"seconds": 3600})
    consumer.take(5)
    consumer.say(ack=consumer.tokens[:3])
    consumer.close()
    assert consumer.end() is None
    assert consumer.settled == consumer.tokens[:3]
    assert counts(rpc, orders) == (7, 0, 0, 0), "what was not settled is back"


CONSUMER = """
import sys, time
import grpc
from queuelet.v1 import queue_pb2 as pb
channel = grpc.insecure_channel(sys.argv[1])
start = pb.ConsumeRequest(start=pb.ConsumeStart(queue_id=sys.argv[2], lease={"seconds": 3600}), credit=5)
def requests():
    yield start.SerializeToString()
    time.sleep(600)
call = channel.stream_stream("/queuelet.v1.QueueService/Consume")(requests())
next(call)
print("has it", flush=True)
time.sleep(600)
"""


def test_a_client_that_is_killed_gives_its_leases_back_at_once(server: ServerProcess, rpc: Rpc, orders: str) -> None:
    command = [sys.executable, "-c", CONSUMER, server.address, orders]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout
        assert client.stdout.readline() == "has it\n"
        assert counts(rpc, orders) == (5, 0, 5, 0)
        client.send_signal(signal.SIGKILL)
        client.wait()
    assert_back(rpc, orders)


def test_a_stream_past_its_deadline_gives_its_leases_back(rpc: Rpc, orders: str) -> None:
    consumer = rpc.consume(orders, credit=5, timeout=1, lease={"seconds": 3600})
    consumer.take(5)
    refused = consumer.end()
    assert refused
    assert refused.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert_back(rpc, orders)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        pytest.param(pb.ConsumeRequest(credit=-1, ack=[1]).SerializeToString(), "credit: -1 is negative", id="rule"),
        pytest.param(
            pb.ConsumeRequest(start=pb.ConsumeStart(queue_id="q")).SerializeToString(),
            "start: only allowed in the first request",
            id="start",
        ),
        pytest.param(b"\xde\xad\xbe\xef", "request: ", id="garbage"),
    ],
)
def test_a_bad_request_ends_the_stream_and_nothing_of_it_is_done(
    rpc: Rpc, orders: str, request_: bytes, says: str
) -> None:
    consumer = rpc.consume(orders, credit=5, lease={"seconds": 3600})
    consumer.take(5)
    consumer.say_bytes(request_)
    refused = consumer.end()
    assert refused
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert refused.text.startswith(says)
    assert_back(rpc, orders)


@pytest.mark.parametrize("credit", [0, 5, 100], ids=["without credit", "with messages", "while it waits"])
def test_a_stream_ends_when_its_queue_is_deleted(rpc: Rpc, orders: str, credit: int) -> None:
    consumer = rpc.consume(orders, credit=credit, max=100)
    consumer.take(min(credit, 10))
    consumer.say(ack=[1])
    consumer.until(lambda so_far: so_far.refused)
    rpc.delete_queue(orders)
    refused = consumer.end()
    assert refused
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "QUEUE_NOT_FOUND")
    assert "was deleted" in refused.text


def test_a_server_that_drains_ends_streams_unavailable() -> None:
    with ServerProcess() as server, closing(Rpc(server.address)) as rpc:
        queue = rpc.new_queue().meta.id
        rpc.add_batch(queue, numbers(*range(10)))
        consumers = [rpc.consume(queue), rpc.consume(queue, credit=5)]
        consumers[1].take(5)
        consumers.append(rpc.consume(queue, credit=100))
        consumers += [rpc.consume(rpc.new_queue().meta.id, exclusive=exclusive) for exclusive in (True, False)]
        for consumer in consumers:
            consumer.say(ack=[1])
            consumer.until(lambda so_far: so_far.refused)  # so it is in flight
        server.signal(signal.SIGTERM)
        for consumer in consumers:
            refused = consumer.end()
            assert refused
            assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING")
        assert server.wait() == 0
        assert not [line for line in server.log() if line["level"] == "error" or "exception" in line]


def test_a_stream_that_is_in_the_middle_of_a_response_ends_for_a_drain_after_it() -> None:
    with ServerProcess() as server, closing(Rpc(server.address)) as rpc, closing(Rpc(server.address)) as other:
        queue = rpc.new_queue().meta.id
        for _ in range(32):
            rpc.add_batch(queue, [bytes(MIB)] * 2)
        consumer = other.consume(queue, credit=1_000)
        eventually(lambda: counts(rpc, queue)[2] > 0, "something is on the way")
        leased = 0
        while leased != (leased := counts(rpc, queue)[2]):
            time.sleep(0.2)
        server.signal(signal.SIGTERM)
        server.wait_for_log("draining")
        refused = consumer.end()
        assert refused
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING")
        assert len(consumer.deliveries) == leased
        assert server.wait() == 0
        assert not [line for line in server.log() if line["level"] == "error" or "exception" in line]


def test_a_stream_that_waits_counts_to_the_calls_that_may() -> None:
    with ServerProcess("--max-waiting", "2") as server, closing(Rpc(server.address)) as rpc:
        queue = rpc.new_queue().meta.id
        consumers = [rpc.consume(queue, credit=1) for _ in range(2)]
        waiting(rpc, queue, 2)
        refused = rpc.consume(queue, credit=1).end()
        assert refused
        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY")
        for consumer in consumers:
            consumer.cancel()


# A client that does not read


def test_a_client_that_does_not_read_holds_no_more_than_is_on_the_way(rpc: Rpc, server: ServerProcess) -> None:
    """64 MiB are ready, and it has credit for all of it."""
    queue = rpc.new_queue().meta.id
    for _ in range(32):
        rpc.add_batch(queue, [bytes(MIB)] * 2)
    with closing(Rpc(server.address)) as other:
        consumer = other.consume(queue, credit=1_000)
        eventually(lambda: counts(rpc, queue)[2] > 0, "something is on the way")
        leased = 0
        while leased != (leased := counts(rpc, queue)[2]):
            time.sleep(0.2)
        assert leased <= 24
        consumer.take(64)
        assert counts(rpc, queue) == (0, 0, 64, 0), "what it reads, it gets"
        consumer.cancel()
    eventually(lambda: counts(rpc, queue) == (64, 0, 0, 0), "the leases are back")
    rpc.delete_queue(queue)


def test_a_client_that_asks_and_does_not_read_is_not_listened_to_for_ever(rpc: Rpc, server: ServerProcess) -> None:
    """Refusals of 2,000,000 tokens, which would take a hundred MiB if all were buffered."""
    queue = rpc.new_queue().meta.id
    before = server.resident_bytes()
    with closing(Rpc(server.address)) as other:
        consumer = other.consume(queue)
        request = pb.ConsumeRequest(ack=range(1, 10_001)).SerializeToString()
        for _ in range(200):
            consumer.say_bytes(request)
        size = 0
        while size != (size := server.resident_bytes() // MIB):
            time.sleep(0.2)
        assert server.resident_bytes() - before < 48 * MIB
        consumer.until(lambda so_far: len(so_far.refused) == 10_000)
        consumer.cancel()
    rpc.delete_queue(queue)


def test_a_client_that_does_not_read_keeps_no_message_from_others(rpc: Rpc, server: ServerProcess) -> None:
    """It has credit and waits, but responses cannot be sent to it."""
    queue = rpc.new_queue().meta.id
    with closing(Rpc(server.address)) as other:
        consumer = other.consume(queue, credit=5)
        waiting(rpc, queue, 1)
        request = pb.ConsumeRequest(ack=range(1, 10_001)).SerializeToString()
        for _ in range(200):
            consumer.say_bytes(request)
        used = [0, 1]
        while len(set(used[-5:])) > 1:
            time.sleep(0.2)
            used.append(server.resident_bytes() // MIB)
        popping = rpc.start("Pop", pop_request(queue, 30))
        eventually(lambda: rpc.stats(queue).waiting_calls >= 1, "it waits")
        rpc.add(queue, b"x")
        popped = outcome(popping, pb.PopResponse, 10)
        assert isinstance(popped, pb.PopResponse)
        assert popped.message.payload == b"x"
        consumer.cancel()
    rpc.delete_queue(queue)


# Leaks


def test_streams_that_end_in_whatever_way_leave_no_task_behind() -> None:
    with ServerProcess(program=OBSERVED) as server, closing(Rpc(server.address)) as rpc:
        queue = rpc.new_queue(delivery=pb.DeliverySettings(max_deliveries=1_000)).meta.id
        rpc.add_batch(queue, numbers(*range(10)))
        rpc.server_stats()
        before = tasks(server)
        used = rpc.server_stats().memory_bytes
        for _ in range(5):
            consumers = [rpc.consume(queue), rpc.consume(queue, credit=3)]
            consumers[1].take(3)
            consumers.append(rpc.consume(queue, credit=100))
            consumers[0].say(credit=-1)
            consumers[1].close()
            assert consumers[0].end()
            assert consumers[1].end() is None
            consumers[2].cancel()
            line = [rpc.consume(queue, credit=1, exclusive=True)]
            line[0].take(1)
            line += [rpc.consume(queue, credit=1, exclusive=True) for _ in range(2)]
            waiting(rpc, queue, 2)
            for consumer in line:
                consumer.cancel()
            eventually(lambda: counts(rpc, queue)[0] == 10 and rpc.stats(queue).waiting_calls == 0, "all are gone")
        eventually(lambda: tasks(server) <= before, "no more tasks than before")
        redelivery = 10 * 1_000
        assert rpc.server_stats().memory_bytes <= used + redelivery
        assert not [line for line in server.log() if "exception" in line]
        assert server.stop() == 0


def tasks(server: ServerProcess) -> int:
    """Make an observed server report its number of tasks."""
    seen = len(server.log("observed"))
    server.signal(signal.SIGUSR1)
    eventually(lambda: len(server.log("observed")) > seen, "the server counts its tasks")
    return int(server.log("observed")[-1]["tasks"])


# Durable stores


class Driven:
    """A stream over a slow store, without a transport."""

    def __init__(self) -> None:
        budget = MemoryBudget(1 << 40)
        self.store = SlowStore(budget)
        manager = Manager(
            {StoreKind.MEMORY: self.store}, bounds=Bounds(), budget=budget, tokens=Tokens(time.time_ns()), now=1
        )
        self.queue: Queue = manager.new(QueueDefinition(name="orders"), now=1)
        self.requests: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.response = pb.ConsumeResponse()
        self.serving = asyncio.ensure_future(
            ConsumeRpcs(manager).consume(self._asked(), self._send, cast("Call", Patient()))
        )

    async def say(self, request: pb.ConsumeRequest) -> None:
        """Send a request, and return once it has been handled completely."""
        await self.requests.put(request.SerializeToString())
        await self.rest()

    async def rest(self) -> None:
        """Let all tasks run until they wait."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def _asked(self) -> AsyncIterator[bytes]:
        while (request := await self.requests.get()) is not None:
            yield request

    async def _send(self, response: bytes) -> None:
        self.response.MergeFromString(response)


async def test_an_ack_is_reported_once_it_is_committed_and_holds_nothing_up() -> None:
    """Acks that arrive during a commit form one group, the next."""
    stream = Driven()
    stream.queue.add_batch([NewMessage(b"%d" % number) for number in range(10)], 2)
    await stream.say(pb.ConsumeRequest(start=pb.ConsumeStart(queue_id="orders"), credit=3))
    one, two, three = (delivery.token for delivery in stream.response.deliveries)
    await stream.say(pb.ConsumeRequest(ack=[one], credit=1))
    assert stream.queue.depth == 9, "it is gone from the queue"
    assert list(stream.response.settled) == [], "and the client does not know yet"
    assert len(stream.response.deliveries) == 4, "messages go on coming"
    await stream.say(pb.ConsumeRequest(ack=[two, 99]))
    await stream.say(pb.ConsumeRequest(ack=[three], nack=[pb.ConsumeNack(token=stream.response.deliveries[3].token)]))
    assert [refused.token for refused in stream.response.refused] == [99], "a refusal waits for nothing"
    assert list(stream.response.settled) == [stream.response.deliveries[3].token], "nor does a nack"
    assert len(stream.store.commits) == 1
    stream.store.keep()
    await stream.rest()
    assert list(stream.response.settled)[1:] == [one]
    assert stream.response.durability == pb.DURABILITY_DISK
    stream.store.keep()
    await stream.rest()
    assert list(stream.response.settled)[2:] == [two, three]
    assert not stream.store.commits
    await stream.requests.put(None)
    await asyncio.wait_for(stream.serving, 10)


async def test_messages_gather_until_the_client_says_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a client that reads slowly would have more and more small responses in flight."""
    monkeypatch.setattr("queuelet.server.handlers.consume._APART", 3_600)
    stream = Driven()
    await stream.say(pb.ConsumeRequest(start=pb.ConsumeStart(queue_id="orders"), credit=9))
    stream.queue.add(NewMessage(b"a"), 2)
    await stream.rest()
    assert [each.message.payload for each in stream.response.deliveries] == [b"a"], "the first goes at once"
    for payload in (b"b", b"c"):
        stream.queue.add(NewMessage(payload), 2)
        await stream.rest()
    assert len(stream.response.deliveries) == 1
    stream.response.Clear()
    await stream.say(pb.ConsumeRequest(credit=1))
    assert [each.message.payload for each in stream.response.deliveries] == [b"b", b"c"]
    await stream.requests.put(None)
    await asyncio.wait_for(stream.serving, 10)


async def test_messages_go_on_after_a_moment_though_the_client_says_nothing() -> None:
    stream = Driven()
    await stream.say(pb.ConsumeRequest(start=pb.ConsumeStart(queue_id="orders"), credit=9))
    for payload in (b"a", b"b", b"c"):
        stream.queue.add(NewMessage(payload), 2)
        await stream.rest()
    async with asyncio.timeout(patient(10)):
        while len(stream.response.deliveries) < 3:  # noqa: ASYNC110  # a message that arrives sets no event
            await asyncio.sleep(0.001)
    stream.serving.cancel()
    await asyncio.wait([stream.serving])


async def test_a_stream_that_lost_its_credit_before_its_turn_passes_it_on() -> None:
    """When its client ends, the message goes to the next waiter immediately."""
    stream = Driven()
    called: list[str] = []
    await stream.say(pb.ConsumeRequest(start=pb.ConsumeStart(queue_id="orders"), credit=1))
    stream.queue.waiters.wait_for_message(Taker(lambda: called.append("next")))
    stream.requests.put_nowait(pb.ConsumeRequest(revoke=True).SerializeToString())
    stream.queue.add(NewMessage(b"x"), 2)
    await stream.rest()
    assert not stream.response.deliveries
    assert called == ["next"]
    await stream.requests.put(None)
    await asyncio.wait_for(stream.serving, 10)


async def test_the_end_waits_for_acks_that_were_sent_before() -> None:
    stream = Driven()
    stream.queue.add(NewMessage(b"x"), 2)
    await stream.say(pb.ConsumeRequest(start=pb.ConsumeStart(queue_id="orders"), credit=1))
    await stream.say(pb.ConsumeRequest(ack=[stream.response.deliveries[0].token]))
    await stream.requests.put(None)
    await stream.rest()
    assert not stream.serving.done()
    stream.store.keep()
    await asyncio.wait_for(stream.serving, 10)
    assert len(stream.response.settled) == 1


async def test_a_store_that_fails_ends_the_stream_without_reporting_that_acks_are_settled() -> None:
    stream = Driven()
    stream.queue.add_batch([NewMessage(b"x"), NewMessage(b"y")], 2)
    await stream.say(pb.ConsumeRequest(start=pb.ConsumeStart(queue_id="orders"), credit=2))
    await stream.say(pb.ConsumeRequest(ack=[stream.response.deliveries[0].token]))
    stream.store.fail()
    with pytest.raises(StoreFailed):
        await asyncio.wait_for(stream.serving, 10)
    assert list(stream.response.settled) == []
    assert stream.queue.counts.leased == 0, "the other lease is back"


async def test_a_store_that_is_reopened_ends_its_streams_and_the_calls_that_wait() -> None:
    """Its state is outdated, even if the queue has messages."""
    stream = Driven()
    await stream.say(pb.ConsumeRequest(start=pb.ConsumeStart(queue_id="orders")))
    taken: list[bytes] = []

    def take() -> bytes:
        taken.append(b"x")
        return b"x"

    waits = LongPoll(Lifecycle()).take(stream.queue, 60, cast("Call", Patient()), b"p", "", take)
    assert not isinstance(waits, bytes)
    waiting = asyncio.ensure_future(waits)
    await stream.rest()
    assert len(stream.queue.waiters) == 1
    stream.queue.close(StoreFailed())
    for ended in (stream.serving, waiting):
        with pytest.raises(StoreFailed):
            await asyncio.wait_for(ended, 10)
    assert taken == []


class Patient:
    """A call without a deadline."""

    peer_host = "127.0.0.1"
    seconds_left = None


def test_consume_is_refused_where_there_is_no_queue(rpc: Rpc) -> None:
    refused = rpc.consume("absent").end()
    assert isinstance(refused, Refused)
    assert refused.reason == "QUEUE_NOT_FOUND"


class Rush:
    """Consumers that come and go in all ways while messages are added, until all are acknowledged."""

    def __init__(self, address: str, queue: str, count: int) -> None:
        """Use the server and the queue, with this many messages."""
        self._address = address
        self._queue = queue
        self._count = count
        self._acknowledged: list[bytes] = []
        self._is_added = Event()

    def run(self) -> list[bytes]:
        """Return the payloads whose acks were confirmed; a stream that breaks leaves some unconfirmed."""
        with ThreadPoolExecutor(6) as pool:
            workers = [pool.submit(self._consume, seed) for seed in range(4)]
            workers.append(pool.submit(self._pop))
            for start in range(0, self._count, 20):
                with closing(Rpc(self._address)) as rpc:
                    rpc.add_batch(self._queue, numbers(*range(start, start + 20)))
            self._is_added.set()
            for worker in workers:
                worker.result()
        return self._acknowledged

    def _is_done(self, rpc: Rpc) -> bool:
        return self._is_added.is_set() and not any(counts(rpc, self._queue))

    def _consume(self, seed: int) -> None:
        choose = Random(seed)
        with closing(Rpc(self._address)) as rpc:
            while not self._is_done(rpc):
                consumer = rpc.consume(
                    self._queue, credit=choose.randint(1, 30), exclusive=choose.random() < 0.2, timeout=0.5
                )
                with suppress(Refused, EOFError):
                    self._work(choose, consumer)
                consumer.cancel()

    def _work(self, choose: Random, consumer: Consumer) -> None:
        for _ in range(choose.randint(0, 5)):
            before = len(consumer.deliveries)
            consumer.take(before + 1)
            taken = {each.token: each.message.payload for each in consumer.deliveries[before:]}
            done = choose.sample(sorted(taken), choose.randint(len(taken) // 2, len(taken)))
            consumer.say(ack=done, credit=choose.randint(1, 20))
            consumer.until(partial(_has_reported, done))
            self._acknowledged += [taken[token] for token in done if token not in consumer.refused]

    def _pop(self) -> None:
        with closing(Rpc(self._address)) as rpc:
            while not self._is_done(rpc):
                response = outcome(rpc.start("Pop", pop_request(self._queue, 0.05)), pb.PopResponse)
                if isinstance(response, pb.PopResponse):
                    self._acknowledged.append(response.message.payload)


def _has_reported(tokens: Sequence[int], consumer: Consumer) -> bool:
    return set(tokens) <= {*consumer.settled, *consumer.refused}


def test_consumers_that_come_and_go_leave_no_message_behind_and_none_is_done_twice(
    server: ServerProcess, rpc: Rpc
) -> None:
    """Shared and exclusive consumers, cancelled at any point, and waiting calls: each message is acknowledged once."""
    queue = rpc.new_queue(delivery=pb.DeliverySettings(max_deliveries=1_000, lease_seconds=3_600)).meta.id
    done = Rush(server.address, queue, 300).run()
    assert len(done) == len(set(done)) > 150
    stats = rpc.stats(queue)
    assert stats.acked + stats.consumed == 300
    waiting(rpc, queue, 0)
    rpc.delete_queue(queue)
