"""Leases: Receive, Ack, Nack, Extend, and expiry."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing

import grpc
import pytest

from queuelet.v1 import queue_pb2 as pb
from support.rpc import Refused, Rpc, eventually, outcome
from support.server_process import ServerProcess

LEASE = 1.0
"""The shortest lease, in seconds."""

MIB = 1024 * 1024


@pytest.fixture
def orders(rpc: Rpc) -> Iterator[str]:
    """A queue of three messages."""
    queue = rpc.new_queue().meta.id
    rpc.add_batch(queue, [b"0", b"1", b"2"])
    yield queue
    rpc.delete_queue(queue)


def payloads(deliveries: list[pb.Delivery]) -> list[bytes]:
    return [delivery.message.payload for delivery in deliveries]


def tokens(deliveries: list[pb.Delivery]) -> list[int]:
    return [delivery.token for delivery in deliveries]


def counts(rpc: Rpc, queue: str) -> tuple[int, int, int, int]:
    """Return ready, delayed, leased, dead."""
    messages = rpc.get_queue(queue).messages
    return messages.ready, messages.delayed, messages.leased, messages.dead


# Receive


def test_received_messages_stay_in_the_queue_and_are_given_to_no_other_consumer(rpc: Rpc, orders: str) -> None:
    first = rpc.receive(orders, 2)
    assert payloads(first) == [b"0", b"1"]
    assert [delivery.count for delivery in first] == [1, 1]
    assert counts(rpc, orders) == (1, 0, 2, 0)
    assert rpc.pop(orders).payload == b"2"
    assert rpc.receive(orders) == []
    assert counts(rpc, orders) == (0, 0, 2, 0), "the limit counts them"


def test_a_lease_lasts_as_long_as_the_queue_says_or_the_call(rpc: Rpc) -> None:
    queue = rpc.new_queue(delivery=pb.DeliverySettings(lease_seconds=100)).meta.id
    rpc.add_batch(queue, [b"", b""])
    for asked, expected in ((0.0, 100), (1_000.0, 1_000)):
        before = time.time()
        (delivery,) = rpc.receive(queue, 1, lease=asked)
        left = delivery.deadline.ToNanoseconds() / 1e9 - before
        assert expected <= left < expected + 5


def test_a_receive_that_waits_wakes_when_a_message_is_added(rpc: Rpc, queue: pb.Queue) -> None:
    request = pb.ReceiveRequest(queue_id=queue.meta.id)
    request.wait.FromSeconds(600)
    call = rpc.start("Receive", request, timeout=600)
    eventually(lambda: rpc.stats(queue.meta.id).waiting_calls == 1, "the call waits")
    rpc.add(queue.meta.id, b"news")
    response = outcome(call, pb.ReceiveResponse)
    assert isinstance(response, pb.ReceiveResponse)
    assert payloads(list(response.deliveries)) == [b"news"]


def test_a_receive_that_waits_in_vain_returns_none(rpc: Rpc, queue: pb.Queue) -> None:
    assert rpc.receive(queue.meta.id, wait=0.1) == []
    assert rpc.stats(queue.meta.id).waiting_calls == 0


def test_a_response_of_many_small_messages_fits_what_a_client_receives(rpc: Rpc, queue: pb.Queue) -> None:
    """The lease fields around each message count too."""
    for _ in range(4):
        assert not any(result.error.code for result in rpc.add_batch(queue.meta.id, [bytes(350)] * 10_000))
    taken = 0
    while batch := rpc.receive(queue.meta.id):
        taken += len(batch)
    assert taken == 40_000


def test_the_largest_message_can_be_received(rpc: Rpc, queue: pb.Queue) -> None:
    size = 4 * MIB
    while True:
        try:
            rpc.add(queue.meta.id, bytes(size))
        except Refused as refused:
            assert refused.reason == "MESSAGE_TOO_LARGE"  # noqa: PT017  # the other way is no error
            size -= int(refused.facts["size"]) - 4 * MIB
        else:
            break
    (delivery,) = rpc.receive(queue.meta.id)
    assert len(delivery.message.payload) == size


# Ack


def test_an_acknowledged_message_is_gone(rpc: Rpc, orders: str) -> None:
    taken = rpc.receive(orders)
    assert rpc.ack(orders, *tokens(taken)[:2]) == ["", ""]
    assert counts(rpc, orders) == (0, 0, 1, 0)
    assert [message.payload for message in rpc.browse_all(orders)] == [b"2"]
    assert rpc.stats(orders).acked == 2


def test_an_ack_reports_what_the_removal_survives(rpc: Rpc, orders: str) -> None:
    (token,) = tokens(rpc.receive(orders, 1))
    response = rpc.call("Ack", pb.AckRequest(queue_id=orders, tokens=[token]), pb.AckResponse)
    assert response.durability == pb.DURABILITY_MEMORY


def test_each_lease_of_a_batch_has_its_own_result(rpc: Rpc, orders: str) -> None:
    one, two, _ = tokens(rpc.receive(orders))
    request = pb.AckRequest(queue_id=orders, tokens=[one, 12345, two, one])
    results = rpc.call("Ack", request, pb.AckResponse).results
    assert [result.error.code for result in results] == [0, 5, 0, 5]
    assert [result.error.reason for result in results] == ["", "MESSAGE_NOT_FOUND", "", "MESSAGE_NOT_FOUND"]
    assert results[1].error.message
    assert not results[3].error.message, "a sentence that was sent is not repeated"


def test_room_comes_from_an_ack(rpc: Rpc) -> None:
    queue = rpc.new_queue(limit=1).meta.id
    rpc.add(queue, b"first")
    (token,) = tokens(rpc.receive(queue))
    with pytest.raises(Refused) as caught:
        rpc.add(queue, b"second")
    assert caught.value.reason == "QUEUE_FULL"
    assert "1 leased" in caught.value.text
    rpc.ack(queue, token)
    rpc.add(queue, b"second")


# Nack


def test_a_message_given_back_takes_its_old_place(rpc: Rpc, orders: str) -> None:
    taken = rpc.receive(orders, 2)
    assert rpc.nack(orders, *reversed(tokens(taken))) == ["", ""]
    again = rpc.receive(orders)
    assert payloads(again) == [b"0", b"1", b"2"]
    assert [delivery.count for delivery in again] == [2, 2, 1]
    assert min(tokens(again)) > max(tokens(taken)), "tokens only grow"


def test_a_message_given_back_with_a_delay_stays_away_and_then_takes_its_old_place(rpc: Rpc, orders: str) -> None:
    (first,) = rpc.receive(orders, 1)
    assert rpc.nack(orders, first.token, delay=1, reason="the printer is out of paper") == [""]
    assert counts(rpc, orders) == (2, 1, 0, 0)
    assert payloads(rpc.receive(orders, 1)) == [b"1"]
    eventually(lambda: counts(rpc, orders) == (2, 0, 1, 0), "it is ready by itself")
    (browsed, *_) = rpc.browse(orders, pb.MESSAGE_STATE_READY)
    assert browsed.message.payload == b"0"
    assert [(each.outcome, each.reason) for each in browsed.tries] == [
        (pb.Try.OUTCOME_NACKED, "the printer is out of paper")
    ]
    assert payloads(rpc.receive(orders)) == [b"0", b"2"]


def test_a_message_given_back_wakes_who_waits(rpc: Rpc, queue: pb.Queue) -> None:
    rpc.add(queue.meta.id, b"x")
    (token,) = tokens(rpc.receive(queue.meta.id))
    request = pb.ReceiveRequest(queue_id=queue.meta.id)
    request.wait.FromSeconds(600)
    call = rpc.start("Receive", request, timeout=600)
    eventually(lambda: rpc.stats(queue.meta.id).waiting_calls == 1, "the call waits")
    rpc.nack(queue.meta.id, token)
    response = outcome(call, pb.ReceiveResponse)
    assert isinstance(response, pb.ReceiveResponse)
    assert response.deliveries[0].count == 2


# Fencing


def test_an_older_token_settles_nothing(rpc: Rpc, orders: str) -> None:
    (old,) = rpc.receive(orders, 1, lease=60)
    rpc.nack(orders, old.token)
    (new,) = rpc.receive(orders, 1, lease=60)
    assert new.message == old.message
    assert rpc.ack(orders, old.token) == ["LEASE_LOST"]
    assert rpc.nack(orders, old.token) == ["LEASE_LOST"]
    assert rpc.extend(orders, old.token) == ["LEASE_LOST"]
    assert counts(rpc, orders) == (2, 0, 1, 0), "who has it now still has it"
    assert rpc.ack(orders, new.token) == [""]
    assert rpc.ack(orders, old.token) == ["MESSAGE_NOT_FOUND"]


def test_a_token_of_another_queue_settles_nothing(rpc: Rpc, orders: str, queue: pb.Queue) -> None:
    (delivery,) = rpc.receive(orders, 1)
    assert rpc.ack(queue.meta.id, delivery.token) == ["MESSAGE_NOT_FOUND"]
    assert counts(rpc, orders) == (2, 0, 1, 0)


def test_tokens_grow_over_queues_and_over_a_restart(rpc: Rpc, orders: str, queue: pb.Queue) -> None:
    rpc.add(queue.meta.id)
    given = [rpc.receive(queue_id, 1)[0].token for queue_id in (orders, queue.meta.id, orders)]
    assert given == sorted(set(given))
    with ServerProcess() as later, closing(Rpc(later.address)) as other:
        another = other.new_queue().meta.id
        other.add(another)
        assert other.receive(another)[0].token > given[-1]


# Time


def test_a_lease_that_runs_out_gives_its_message_back_to_its_old_place(rpc: Rpc, orders: str) -> None:
    """By itself, and a waiter gets it. The old token still acks until the message is redelivered."""
    first, second = rpc.receive(orders, 2, lease=LEASE, consumer="sleepy")
    rpc.pop(orders)
    (again,) = rpc.receive(orders, 1, wait=20)
    assert (again.message, again.count) == (first.message, 2)
    assert rpc.ack(orders, first.token) == ["LEASE_LOST"]
    assert rpc.extend(orders, second.token) == ["LEASE_LOST"], "the lease has expired"
    assert rpc.ack(orders, second.token) == [""], "no other consumer has it, and the work is done"
    (browsed,) = rpc.browse(orders)
    (failed,) = browsed.tries
    assert (failed.outcome, failed.consumer, failed.token) == (pb.Try.OUTCOME_LEASE_EXPIRED, "sleepy", first.token)
    assert failed.ended.ToNanoseconds() - failed.began.ToNanoseconds() >= LEASE * 1e9
    assert rpc.stats(orders).expired == 2


def test_an_extended_lease_goes_on_and_a_shortened_one_ends(rpc: Rpc, orders: str) -> None:
    short, long, _ = rpc.receive(orders, lease=60)
    request = pb.ExtendRequest(queue_id=orders, tokens=[long.token])
    request.lease.FromSeconds(600)
    deadline = rpc.call("Extend", request, pb.ExtendResponse).deadline.ToNanoseconds() / 1e9
    assert 590 < deadline - time.time() <= 600
    assert rpc.extend(orders, short.token, lease=LEASE) == [""]
    (again,) = rpc.receive(orders, wait=20)
    assert again.message == short.message
    assert counts(rpc, orders) == (0, 0, 3, 0)


def test_an_extended_lease_outlives_its_first_deadline(rpc: Rpc, orders: str) -> None:
    kept, lost, _ = rpc.receive(orders, lease=LEASE)
    assert rpc.extend(orders, kept.token, lease=60) == [""]
    eventually(lambda: rpc.stats(orders).expired == 2, "the others run out")
    assert counts(rpc, orders) == (2, 0, 1, 0)
    assert payloads(rpc.receive(orders)) == [lost.message.payload, b"2"]
    assert rpc.ack(orders, kept.token) == [""]


def test_a_server_with_leases_and_delays_that_lie_ahead_does_nothing() -> None:
    """While nothing is due, the server uses no CPU."""
    with ServerProcess() as server, closing(Rpc(server.address)) as rpc:
        for _ in range(20):
            queue = rpc.new_queue().meta.id
            rpc.add_batch(queue, [b""] * 1_000)
            rpc.receive(queue, 500, lease=3_600)
        consumers = [rpc.consume(rpc.new_queue().meta.id, credit=10) for _ in range(20)]
        eventually(lambda: rpc.server_stats().queues == 40, "all is there")
        before = processor_seconds(server.pid)
        time.sleep(1)
        assert processor_seconds(server.pid) - before < 0.05
        for consumer in consumers:
            consumer.cancel()


def processor_seconds(pid: int) -> float:
    """Return the CPU time of a process."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:  # noqa: PTH123  # a file of the kernel's
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_purge_and_delete_end_leases(rpc: Rpc, orders: str) -> None:
    first, second, _ = rpc.receive(orders)
    purge = pb.PurgeRequest(queue_id=orders, ids=[first.message.meta.id])
    assert rpc.call("Purge", purge, pb.PurgeResponse).purged == 1
    assert rpc.ack(orders, first.token) == ["MESSAGE_NOT_FOUND"]
    other = rpc.new_queue().meta.id
    rpc.add(other)
    (delivery,) = rpc.receive(other)
    rpc.delete_queue(other)
    with pytest.raises(Refused) as caught:
        rpc.ack(other, delivery.token)
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
    assert rpc.ack(orders, second.token) == [""]


def test_leases_show_in_browse_and_stats(rpc: Rpc, orders: str) -> None:
    (delivery,) = rpc.receive(orders, 1, lease=60, consumer="worker 7")
    (browsed,) = rpc.browse(orders, pb.MESSAGE_STATE_LEASED)
    assert browsed.message == delivery.message
    assert (browsed.count, browsed.consumer, browsed.until) == (1, "worker 7", delivery.deadline)
    rpc.nack(orders, delivery.token)
    rpc.receive(orders)
    stats = rpc.stats(orders)
    assert (stats.leased, stats.redelivered, stats.nacked, stats.acked, stats.consumed) == (4, 1, 1, 0, 0)
