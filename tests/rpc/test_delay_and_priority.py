"""Delayed messages and priorities."""

from __future__ import annotations

import time

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from queuelet.v1 import queue_pb2 as pb
from support.rpc import Refused, Rpc, eventually, outcome, pop_request


def add(rpc: Rpc, queue: str, payload: bytes, **terms: object) -> pb.Message:
    """Add a message with these fields."""
    message = pb.NewMessage(payload=payload, **terms)  # type: ignore[arg-type]  # the fields of NewMessage
    return rpc.call("Add", pb.AddRequest(queue_id=queue, message=message), pb.AddResponse).message


def counts(rpc: Rpc, queue: str) -> tuple[int, int, int, int]:
    """Return ready, delayed, leased, dead."""
    messages = rpc.get_queue(queue).messages
    return messages.ready, messages.delayed, messages.leased, messages.dead


def in_milliseconds(number: int) -> Duration:
    """Return a duration in milliseconds."""
    return Duration(nanos=number * 1_000_000)


def in_a_while() -> Timestamp:
    """Return a time ten minutes from now."""
    return Timestamp(seconds=int(time.time()) + 600)


def payloads(rpc: Rpc, queue: str) -> list[bytes]:
    """Pop all messages."""
    return [message.payload for message in rpc.pop_all(queue)]


# Delay


def test_a_delayed_message_is_not_delivered_before_its_time(rpc: Rpc, queue: pb.Queue) -> None:
    added = add(rpc, queue.meta.id, b"later", delay=Duration(seconds=600))
    at = in_a_while()
    assert add(rpc, queue.meta.id, b"at a time", not_before=at).not_before == at
    assert added.not_before.ToNanoseconds() - added.meta.created.ToNanoseconds() == 600 * 10**9
    assert counts(rpc, queue.meta.id) == (0, 2, 0, 0)
    for method in ("Pop", "Peek"):
        with pytest.raises(Refused) as caught:
            rpc.raw(method, pb.PopRequest(queue_id=queue.meta.id).SerializeToString())
        assert caught.value.reason == "QUEUE_EMPTY"
    assert rpc.receive(queue.meta.id) == []
    assert [(each.state, each.until) for each in rpc.browse(queue.meta.id, pb.MESSAGE_STATE_DELAYED)] == [
        (pb.MESSAGE_STATE_DELAYED, added.not_before),
        (pb.MESSAGE_STATE_DELAYED, at),
    ]
    rpc.add(queue.meta.id, b"now")
    assert payloads(rpc, queue.meta.id) == [b"now"]


def test_a_delay_ends_by_itself_and_wakes_who_waits(rpc: Rpc, queue: pb.Queue) -> None:
    added = add(rpc, queue.meta.id, b"later", delay=in_milliseconds(300))
    call = rpc.start("Pop", pop_request(queue.meta.id, 600), timeout=600)
    consumed = rpc.new_queue().meta.id
    consumer = rpc.consume(consumed, credit=1)
    add(rpc, consumed, b"pushed", delay=in_milliseconds(300))
    response = outcome(call, pb.PopResponse)
    assert isinstance(response, pb.PopResponse)
    assert response.message == added
    assert time.time_ns() >= added.not_before.ToNanoseconds()
    assert consumer.take(1)[0].message.payload == b"pushed"
    consumer.cancel()


def test_the_order_is_that_of_when_messages_first_became_due(rpc: Rpc, queue: pb.Queue) -> None:
    soon = time.time_ns() + 10**9
    for payload, at in ((b"second", soon + 10**8), (b"first", soon)):
        add(rpc, queue.meta.id, payload, not_before=Timestamp(seconds=at // 10**9, nanos=at % 10**9))
    rpc.add(queue.meta.id, b"at once")
    eventually(lambda: counts(rpc, queue.meta.id) == (3, 0, 0, 0), "all are due")
    rpc.add(queue.meta.id, b"last")
    assert payloads(rpc, queue.meta.id) == [b"at once", b"first", b"second", b"last"]


@pytest.mark.parametrize("terms", [{"not_before": Timestamp(seconds=1)}, {"delay": Duration()}], ids=["past", "none"])
def test_a_time_that_is_over_is_no_delay(rpc: Rpc, queue: pb.Queue, terms: dict[str, object]) -> None:
    rpc.add(queue.meta.id, b"0")
    add(rpc, queue.meta.id, b"1", **terms)
    rpc.add(queue.meta.id, b"2")
    assert payloads(rpc, queue.meta.id) == [b"0", b"1", b"2"]


def test_delayed_messages_count_to_the_limit_and_can_be_purged(rpc: Rpc) -> None:
    queue = rpc.new_queue(limit=1).meta.id
    add(rpc, queue, b"later", delay=Duration(seconds=600))
    with pytest.raises(Refused) as caught:
        rpc.add(queue)
    assert (caught.value.reason, caught.value.facts["delayed"]) == ("QUEUE_FULL", "1")
    purge = pb.PurgeRequest(queue_id=queue, all=True, states=[pb.MESSAGE_STATE_DELAYED])
    assert rpc.call("Purge", purge, pb.PurgeResponse).purged == 1
    rpc.add(queue)


# Priority


def test_smaller_numbers_go_first_and_equal_ones_in_the_order_they_came(rpc: Rpc, queue: pb.Queue) -> None:
    for place, priority in enumerate((5, 0, -5, 5, 0, -5, 2**31 - 1, -(2**31))):
        message = add(rpc, queue.meta.id, b"%d" % place, priority=priority)
        assert message.priority == priority
    peeked = rpc.call("PeekBatch", pb.PeekBatchRequest(queue_id=queue.meta.id), pb.PeekBatchResponse).messages
    assert [message.payload for message in peeked] == [b"7", b"2", b"5", b"1", b"4", b"0", b"3", b"6"]
    assert rpc.pop(queue.meta.id).payload == b"7"
    (received,) = rpc.receive(queue.meta.id, 1)
    assert received.message.payload == b"2"
    consumer = rpc.consume(queue.meta.id, credit=2)
    assert [delivery.message.payload for delivery in consumer.take(2)] == [b"5", b"1"]
    consumer.cancel()
    eventually(lambda: counts(rpc, queue.meta.id)[2] == 1, "the stream has ended")
    assert payloads(rpc, queue.meta.id) == [b"5", b"1", b"4", b"0", b"3", b"6"]


def test_a_message_keeps_its_priority_and_its_place_when_it_comes_back(rpc: Rpc, queue: pb.Queue) -> None:
    """After a nack, a nack with a delay, and the end of a stream."""
    for payload, priority in ((b"urgent 0", -1), (b"0", 0), (b"urgent 1", -1), (b"1", 0)):
        add(rpc, queue.meta.id, payload, priority=priority)
    urgent, other, *_ = rpc.receive(queue.meta.id)
    assert (urgent.message.payload, other.message.payload) == (b"urgent 0", b"urgent 1")
    rpc.nack(queue.meta.id, urgent.token, delay=0.2)
    consumer = rpc.consume(queue.meta.id, credit=1)
    rpc.nack(queue.meta.id, other.token)
    consumer.take(1)
    consumer.cancel()
    eventually(lambda: counts(rpc, queue.meta.id) == (2, 0, 2, 0), "both are back")
    assert payloads(rpc, queue.meta.id) == [b"urgent 0", b"urgent 1"]


def test_a_delayed_message_comes_back_to_the_place_it_had_when_it_became_due(rpc: Rpc, queue: pb.Queue) -> None:
    add(rpc, queue.meta.id, b"delayed", delay=in_milliseconds(500))
    rpc.add(queue.meta.id, b"before")
    eventually(lambda: counts(rpc, queue.meta.id) == (2, 0, 0, 0), "it is due")
    rpc.add(queue.meta.id, b"after")
    taken = rpc.receive(queue.meta.id)
    assert [delivery.message.payload for delivery in taken] == [b"before", b"delayed", b"after"]
    rpc.nack(queue.meta.id, *(delivery.token for delivery in reversed(taken)))
    assert payloads(rpc, queue.meta.id) == [b"before", b"delayed", b"after"]


def test_a_redriven_message_keeps_its_priority(rpc: Rpc) -> None:
    queue = rpc.new_queue(delivery=pb.DeliverySettings(max_deliveries=1)).meta.id
    add(rpc, queue, b"urgent", priority=-1)
    add(rpc, queue, b"idle", priority=1)
    taken = rpc.receive(queue)
    rpc.nack(queue, *(delivery.token for delivery in taken))
    rpc.add(queue, b"plain")
    rpc.redrive(queue, all=True)
    assert payloads(rpc, queue) == [b"urgent", b"plain", b"idle"]


def test_terms_hold_in_a_batch_and_for_an_add_that_waits(rpc: Rpc) -> None:
    queue = rpc.new_queue(limit=3).meta.id
    rpc.add(queue, b"0")
    messages = [
        pb.NewMessage(payload=b"1"),
        pb.NewMessage(payload=b"urgent", priority=-1),
        pb.NewMessage(payload=b"later", delay=Duration(seconds=600)),
    ]
    request = pb.AddBatchRequest(queue_id=queue, messages=messages, wait=True)
    call = rpc.start("AddBatch", request, timeout=600)
    eventually(lambda: rpc.stats(queue).waiting_calls == 1, "the batch waits")
    assert rpc.pop(queue).payload == b"urgent"
    assert isinstance(outcome(call, pb.AddBatchResponse), pb.AddBatchResponse)
    assert counts(rpc, queue) == (2, 1, 0, 0)
    assert payloads(rpc, queue) == [b"0", b"1"]
