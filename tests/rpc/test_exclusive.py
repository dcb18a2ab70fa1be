"""Exclusive consumption: one holder per queue, the next waiter after it, and tokens for fencing."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import grpc
import pytest

from queuelet.v1 import queue_pb2 as pb
from support.rpc import Consumer, Refused, Rpc, eventually, outcome, pop_request
from support.server_process import ServerProcess


@pytest.fixture
def orders(rpc: Rpc) -> Iterator[str]:
    """A queue of ten messages."""
    queue = rpc.new_queue().meta.id
    rpc.add_batch(queue, [b"%d" % number for number in range(10)])
    yield queue
    rpc.delete_queue(queue)


def holding(rpc: Rpc, queue: str, credit: int = 0) -> Consumer:
    """Return a consumer that holds a queue."""
    holder = rpc.consume(queue, credit=credit, exclusive=True, lease={"seconds": 3600})
    holder.until(lambda so_far: so_far.holder_token)
    return holder


def waiting(rpc: Rpc, queue: str, count: int) -> None:
    """Return once this many calls wait on a queue."""
    eventually(lambda: rpc.stats(queue).waiting_calls == count, f"{count} calls wait")


def test_the_holder_takes_messages_and_acknowledges_them(rpc: Rpc, orders: str) -> None:
    holder = holding(rpc, orders, credit=10)
    holder.take(10)
    holder.say(ack=holder.tokens)
    holder.until(lambda so_far: len(so_far.settled) == 10)
    assert holder.payloads == [b"%d" % number for number in range(10)]
    holder.cancel()


def test_the_holder_token_is_sent_once_and_before_any_message(rpc: Rpc, orders: str) -> None:
    holder = holding(rpc, orders)
    token = holder.holder_token
    assert holder.deliveries == []
    holder.holder_token = 0
    for count in range(1, 4):
        holder.say(credit=1)
        holder.take(count)
    assert token < holder.tokens[0]
    assert holder.holder_token == 0
    holder.cancel()


def test_a_consumer_that_is_not_exclusive_gets_no_holder_token(rpc: Rpc, orders: str) -> None:
    consumer = rpc.consume(orders, credit=1)
    consumer.take(1)
    assert consumer.holder_token == 0
    consumer.cancel()


CALLS: dict[str, Callable[[Rpc, str], object]] = {
    "Pop": lambda rpc, queue: rpc.pop(queue),
    "Pop that would wait": lambda rpc, queue: rpc.call("Pop", pop_request(queue, 600), pb.PopResponse),
    "PopBatch": lambda rpc, queue: rpc.pop_all(queue),
    "Receive": lambda rpc, queue: rpc.receive(queue),
    "Receive that would wait": lambda rpc, queue: rpc.receive(queue, wait=600),
}


@pytest.mark.parametrize("is_empty", [True, False], ids=["empty", "with messages"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_while_there_is_a_holder_no_other_consumer_takes_messages(
    rpc: Rpc, orders: str, call: Callable[[Rpc, str], object], *, is_empty: bool
) -> None:
    if is_empty:
        rpc.pop_all(orders)
    holder = holding(rpc, orders)
    with pytest.raises(Refused) as caught:
        call(rpc, orders)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "QUEUE_HELD")
    assert "to wait for your turn" in caught.value.text
    holder.cancel()
    waiting(rpc, orders, 0)


def test_a_consumer_that_does_not_ask_for_it_is_refused_while_there_is_a_holder(rpc: Rpc, orders: str) -> None:
    holder = holding(rpc, orders)
    refused = rpc.consume(orders, credit=1).end()
    assert refused
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "QUEUE_HELD")
    holder.cancel()


def test_adding_looking_and_purging_go_on_while_there_is_a_holder(rpc: Rpc, orders: str) -> None:
    holder = holding(rpc, orders)
    rpc.add(orders, b"10")
    assert rpc.call("Peek", pb.PeekRequest(queue_id=orders), pb.PeekResponse).message.payload == b"0"
    assert len(rpc.browse_all(orders)) == 11
    assert rpc.call("Purge", pb.PurgeRequest(queue_id=orders, all=True), pb.PurgeResponse).purged == 11
    holder.cancel()


def test_who_consumed_before_gives_way_to_a_holder_with_its_leases(rpc: Rpc, orders: str) -> None:
    """The holder begins with the oldest unacknowledged message."""
    before = [rpc.consume(orders, credit=credit, lease={"seconds": 3600}) for credit in (3, 0)]
    before[0].take(3)
    holder = rpc.consume(orders, exclusive=True)
    for consumer in before:
        refused = consumer.end()
        assert refused
        assert refused.reason == "QUEUE_HELD"
    holder.say(credit=10)
    holder.take(10)
    assert sorted(holder.payloads, key=int) == [b"%d" % number for number in range(10)]
    holder.cancel()


def test_calls_that_wait_for_a_message_are_refused_when_an_exclusive_consumer_comes(rpc: Rpc, queue: pb.Queue) -> None:
    """And the next message goes to the holder and is not lost on one of them."""
    calls = [rpc.start("Pop", pop_request(queue.meta.id, 600), timeout=600) for _ in range(3)]
    waiting(rpc, queue.meta.id, 3)
    holder = holding(rpc, queue.meta.id, credit=1)
    for call in calls:
        ended = outcome(call, pb.PopResponse)
        assert isinstance(ended, Refused)
        assert ended.reason == "QUEUE_HELD"
    rpc.add(queue.meta.id, b"news")
    assert [delivery.message.payload for delivery in holder.take(1)] == [b"news"]
    holder.cancel()


def test_the_next_in_line_takes_over_when_the_holder_goes(rpc: Rpc, orders: str) -> None:
    """In the order of arrival, each with a larger token, and each begins with the oldest unacknowledged message."""
    line = [holding(rpc, orders, credit=3)]
    for number in range(1, 4):
        line.append(rpc.consume(orders, credit=3, exclusive=True, lease={"seconds": 3600}))
        waiting(rpc, orders, number)
    tokens = []
    for number, holder in enumerate(line):
        holder.take(3)
        assert holder.payloads == [b"%d" % (number + place) for place in range(3)]
        holder.say(ack=holder.tokens[:1])
        holder.until(lambda so_far: so_far.settled)
        tokens.append(holder.holder_token)
        assert not any(later.holder_token for later in line[number + 1 :])
        holder.cancel()
    assert tokens == sorted(set(tokens))
    waiting(rpc, orders, 0)
    eventually(lambda: rpc.get_queue(orders).messages.ready == 6, "the last has gone")
    assert rpc.pop(orders).payload == b"4", "everybody may take again"


def test_who_leaves_the_line_is_passed_over(rpc: Rpc, orders: str) -> None:
    holder = holding(rpc, orders)
    impatient = rpc.consume(orders, credit=1, exclusive=True)
    waiting(rpc, orders, 1)
    patient = rpc.consume(orders, credit=1, exclusive=True)
    waiting(rpc, orders, 2)
    impatient.cancel()
    waiting(rpc, orders, 1)
    holder.cancel()
    patient.take(1)
    assert patient.holder_token > holder.holder_token
    patient.cancel()


def test_who_stands_in_line_can_acknowledge_and_be_refused(rpc: Rpc, orders: str) -> None:
    holder = holding(rpc, orders, credit=1)
    holder.take(1)
    second = rpc.consume(orders, exclusive=True)
    second.say(ack=[holder.tokens[0], 1])
    second.until(lambda so_far: so_far.settled and so_far.refused)
    second.say(credit=-1)
    refused = second.end()
    assert refused
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    waiting(rpc, orders, 0)
    holder.cancel()


def test_leases_from_before_the_holder_end_with_it_and_their_tokens_are_refused(rpc: Rpc, orders: str) -> None:
    rpc.add_batch(orders, [b"%d" % number for number in range(2_500)])
    waiting(rpc, orders, 0)
    before = [delivery for _ in range(3) for delivery in rpc.receive(orders, 1_000, lease=600)]
    total = rpc.get_queue(orders).messages
    assert (total.leased, total.ready) == (len(before), 0)
    rpc.add(orders, b"newest")
    holder = rpc.consume(orders, exclusive=True, credit=len(before) + 1, lease={"seconds": 600})
    holder.take(len(before) + 1)
    assert holder.payloads == [*(delivery.message.payload for delivery in before), b"newest"]
    assert all(delivery.count == 2 for delivery in holder.deliveries[:-1])
    assert rpc.extend(orders, before[0].token) == ["LEASE_LOST"]
    assert rpc.ack(orders, before[0].token, before[-1].token) == ["LEASE_LOST", "LEASE_LOST"]
    assert rpc.ack(orders, *holder.tokens[:2]) == ["", ""]
    holder.cancel()


def test_a_queue_that_is_deleted_ends_the_holder_and_the_line(rpc: Rpc, orders: str) -> None:
    line = [holding(rpc, orders), rpc.consume(orders, exclusive=True)]
    waiting(rpc, orders, 1)
    rpc.delete_queue(orders)
    for consumer in line:
        refused = consumer.end()
        assert refused
        assert refused.reason == "QUEUE_NOT_FOUND"


HOLDER = """
import sys, time
import grpc
from queuelet.v1 import queue_pb2 as pb
channel = grpc.insecure_channel(sys.argv[1])
start = pb.ConsumeStart(queue_id=sys.argv[2], lease={"seconds": 3600}, exclusive=True)
def requests():
    yield pb.ConsumeRequest(start=start, credit=5).SerializeToString()
    time.sleep(600)
for response in channel.stream_stream("/queuelet.v1.QueueService/Consume")(requests()):
    if pb.ConsumeResponse.FromString(response).deliveries:
        print("has it", flush=True)
"""


def test_a_holder_that_is_killed_is_followed_by_the_next_at_once(server: ServerProcess, rpc: Rpc, orders: str) -> None:
    command = [sys.executable, "-c", HOLDER, server.address, orders]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout
        assert client.stdout.readline() == "has it\n"
        heir = rpc.consume(orders, credit=10, exclusive=True)
        waiting(rpc, orders, 1)
        client.send_signal(signal.SIGKILL)
        client.wait()
    heir.take(10)
    assert heir.payloads == [b"%d" % number for number in range(10)]
    assert [delivery.count for delivery in heir.deliveries] == [2] * 5 + [1] * 5
    heir.cancel()
