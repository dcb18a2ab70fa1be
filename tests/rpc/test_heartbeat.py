"""The heartbeat of a Consume stream, the leases of a silent client, and limits of what a client is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FileDescriptor

from queuelet.v1 import queue_pb2 as pb
from support.rpc import Consumer, Refused, Rpc, eventually

MIB = 1024 * 1024
FAST = {"nanos": 100_000_000}
"""The fastest heartbeat that the server accepts."""


@pytest.fixture
def orders(rpc: Rpc) -> Iterator[str]:
    """A queue of ten messages that die after two deliveries."""
    queue = rpc.new_queue(delivery=pb.DeliverySettings(max_deliveries=2)).meta.id
    rpc.add_batch(queue, [b"%d" % number for number in range(10)])
    yield queue
    rpc.delete_queue(queue)


def counts(rpc: Rpc, queue: str) -> tuple[int, int, int]:
    """Return ready, leased, dead."""
    messages = rpc.get_queue(queue).messages
    return messages.ready, messages.leased, messages.dead


def has_beaten(count: int, consumer: Consumer) -> bool:
    """Return whether this many empty responses have arrived."""
    return consumer.empty >= count


def silence(consumer: Consumer) -> Refused:
    """Send nothing until the server ends the stream."""
    with pytest.raises(Refused) as refused:
        consumer.until(lambda _: False)
    consumer.close()
    return refused.value


# Beats


def test_a_client_that_asks_for_a_heartbeat_gets_empty_responses_on_an_idle_stream(rpc: Rpc, queue: pb.Queue) -> None:
    consumer = rpc.consume(queue.meta.id, credit=1, heartbeat={"nanos": 300_000_000})
    consumer.until(lambda so_far: so_far.heartbeat)
    assert consumer.heartbeat == pytest.approx(0.3)
    for number in range(5):
        consumer.say()
        consumer.until(partial(has_beaten, number + 1))
    assert not consumer.deliveries
    consumer.cancel()


def test_a_client_that_asks_for_none_gets_none_and_may_be_silent(rpc: Rpc, queue: pb.Queue) -> None:
    quiet = rpc.consume(queue.meta.id, credit=1)
    refused = silence(rpc.consume(queue.meta.id, heartbeat=FAST))
    assert refused.reason == "CLIENT_SILENT", "that long it was silent"
    rpc.add(queue.meta.id, b"x")
    quiet.take(1)
    assert (quiet.empty, quiet.heartbeat) == (0, 0)
    quiet.cancel()


@pytest.mark.parametrize(("lease", "beat"), [(1, 0.2), (5, 1), (600, 5)])
def test_a_heartbeat_is_at_most_a_fifth_of_a_lease(rpc: Rpc, queue: pb.Queue, lease: int, beat: float) -> None:
    consumer = rpc.consume(queue.meta.id, heartbeat={"seconds": 5}, lease={"seconds": lease})
    consumer.until(lambda so_far: so_far.heartbeat)
    assert consumer.heartbeat == pytest.approx(beat)
    consumer.cancel()


def test_a_client_that_has_said_all_is_not_silent(rpc: Rpc, queue: pb.Queue) -> None:
    consumer = rpc.consume(queue.meta.id, heartbeat=FAST)
    consumer.close()
    assert consumer.end() is None


# Silence


def test_a_silent_client_loses_its_stream_and_its_messages_go_back(rpc: Rpc, orders: str) -> None:
    consumer = rpc.consume(orders, credit=5, heartbeat=FAST)
    refused = silence(consumer)
    assert (refused.code.name, refused.reason) == ("UNAVAILABLE", "CLIENT_SILENT")
    assert "silent for 0.3 s" in refused.text
    assert len(consumer.deliveries) == 5
    assert counts(rpc, orders) == (10, 0, 0)


def test_a_silent_client_that_does_not_even_read_loses_its_messages(rpc: Rpc, queue: pb.Queue) -> None:
    rpc.add_batch(queue.meta.id, [bytes(MIB)] * 3)
    for _ in range(9):
        rpc.add_batch(queue.meta.id, [bytes(MIB)] * 3)
    consumer = rpc.consume(queue.meta.id, credit=100, heartbeat=FAST)
    eventually(lambda: rpc.stats(queue.meta.id).leased > 0, "it was sent some")
    eventually(lambda: counts(rpc, queue.meta.id) == (30, 0, 0), "they are back")
    consumer.cancel()


def test_deliveries_that_a_silent_client_never_confirmed_do_not_count(rpc: Rpc, orders: str) -> None:
    for _ in range(3):
        consumer = rpc.consume(orders, credit=5, heartbeat=FAST)
        assert silence(consumer).reason == "CLIENT_SILENT"
        assert [each.count for each in consumer.deliveries] == [1] * 5
    assert counts(rpc, orders) == (10, 0, 0), "none is dead, though two deliveries are allowed"


def test_of_the_confirmed_deliveries_of_a_silent_client_those_in_work_count(rpc: Rpc, orders: str) -> None:
    for _ in range(2):
        consumer = rpc.consume(orders, credit=5, concurrency=2, heartbeat=FAST)
        consumer.take(5)
        consumer.say(received=consumer.tokens[2])
        silence(consumer)
    assert counts(rpc, orders) == (8, 0, 2)
    assert [each.message.payload for each in rpc.browse(orders, pb.MESSAGE_STATE_DEAD)] == [b"0", b"1"]


def test_a_confirmed_delivery_counts_and_one_that_came_later_does_not(rpc: Rpc, orders: str) -> None:
    for _ in range(2):
        consumer = rpc.consume(orders, credit=1, heartbeat=FAST)
        consumer.take(1)
        consumer.say(received=consumer.tokens[0], credit=3)
        consumer.take(4)
        silence(consumer)
    assert counts(rpc, orders) == (9, 0, 1)


def test_a_stream_whose_lease_expired_gets_nothing_more_until_its_client_says_something(rpc: Rpc) -> None:
    queue = rpc.new_queue(delivery=pb.DeliverySettings(max_deliveries=3)).meta.id
    rpc.add(queue, b"x")
    frozen = rpc.consume(queue, credit=10, lease={"seconds": 1})
    frozen.take(1)
    eventually(lambda: counts(rpc, queue) == (1, 0, 0), "its lease expired")
    other = rpc.consume(queue, credit=1)
    other.take(1)
    assert other.deliveries[0].count == 2, "the frozen one did not get it a second time"
    other.say(nack=[pb.ConsumeNack(token=other.tokens[0], unused=True)])
    eventually(lambda: counts(rpc, queue) == (1, 0, 0), "it was given back")
    frozen.say()
    frozen.take(2)
    assert [each.count for each in frozen.deliveries] == [1, 2]
    for consumer in (frozen, other):
        consumer.cancel()
    rpc.delete_queue(queue)


def test_a_client_that_settles_by_calls_and_says_nothing_on_its_stream_is_served(rpc: Rpc, orders: str) -> None:
    consumer = rpc.consume(orders, credit=10, max=1, lease={"seconds": 1})
    for number in range(1, 11):
        consumer.take(number)
        assert rpc.ack(orders, consumer.tokens[-1]) == [""]
    consumer.cancel()


# Bytes


def test_a_client_holds_no_more_bytes_than_it_asked_for(rpc: Rpc, queue: pb.Queue) -> None:
    for _ in range(12):
        rpc.add(queue.meta.id, bytes(MIB))
    consumer = rpc.consume(queue.meta.id, credit=100, concurrency=1, max_bytes=3 * MIB)
    consumer.take(3)
    rpc.stats(queue.meta.id)
    leased = rpc.get_queue(queue.meta.id).messages.leased
    assert leased in {3, 4}, "one message may go past the bound"
    consumer.take(leased)
    consumer.say(ack=consumer.tokens[:2])
    consumer.take(leased + 2)
    assert rpc.get_queue(queue.meta.id).messages.leased == leased
    consumer.cancel()


def test_a_client_gets_as_many_messages_as_it_works_on_whatever_their_size(rpc: Rpc, queue: pb.Queue) -> None:
    for _ in range(8):
        rpc.add(queue.meta.id, bytes(MIB))
    consumer = rpc.consume(queue.meta.id, credit=100, concurrency=5, max_bytes=1)
    consumer.take(5)
    assert counts(rpc, queue.meta.id) == (3, 5, 0)
    consumer.say(nack=[pb.ConsumeNack(token=consumer.tokens[0], unused=True)])
    consumer.take(6)
    assert counts(rpc, queue.meta.id) == (3, 5, 0)
    consumer.cancel()


def test_messages_that_were_settled_elsewhere_make_room_at_the_next_beat(rpc: Rpc, queue: pb.Queue) -> None:
    for _ in range(4):
        rpc.add(queue.meta.id, bytes(1_000))
    consumer = rpc.consume(queue.meta.id, credit=100, concurrency=1, max_bytes=1, heartbeat={"nanos": 300_000_000})
    for number in range(1, 5):
        consumer.take(number)
        consumer.say()
        assert rpc.ack(queue.meta.id, consumer.tokens[-1]) == [""]
    consumer.cancel()


# Older programs

NEW_FIELDS = {
    "ConsumeRequest": {"received"},
    "ConsumeStart": {"heartbeat", "max_bytes"},
    "ConsumeResponse": {"heartbeat"},
}
"""Fields that older programs do not know."""


def older_messages() -> Any:  # noqa: ANN401  # generated classes by name
    """Return a function for the generated classes of the protocol as it was before heartbeats."""
    file = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(file)
    for message in file.message_type:
        kept = [field for field in message.field if field.name not in NEW_FIELDS.get(message.name, ())]
        assert len(message.field) - len(kept) == len(NEW_FIELDS.get(message.name, ()))
        del message.field[:]
        message.field.extend(kept)
    pool = descriptor_pool.DescriptorPool()
    for dependency in _with_dependencies(pb.DESCRIPTOR.dependencies):
        copied = descriptor_pb2.FileDescriptorProto()
        dependency.CopyToProto(copied)
        pool.Add(copied)
    pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"queuelet.v1.{name}"))


def _with_dependencies(files: Iterable[FileDescriptor]) -> list[FileDescriptor]:
    """Return files and all that they import, each after its imports and once."""
    found: dict[str, FileDescriptor] = {}
    for file in files:
        found |= {each.name: each for each in _with_dependencies(file.dependencies)}
        found[file.name] = file
    return list(found.values())


def test_programs_of_before_understand_what_new_ones_say_and_the_other_way_round() -> None:
    older = older_messages()
    start = pb.ConsumeStart(queue_id="orders", concurrency=2, heartbeat=FAST, max_bytes=MIB)
    read = older("ConsumeRequest").FromString(pb.ConsumeRequest(start=start, credit=7, received=9).SerializeToString())
    assert (read.start.queue_id, read.start.concurrency, read.credit) == ("orders", 2, 7)
    empty = older("ConsumeResponse").FromString(pb.ConsumeResponse(heartbeat=FAST).SerializeToString())
    assert not any((empty.deliveries, empty.settled, empty.refused, empty.holder_token))
    said = older("ConsumeRequest")(start=older("ConsumeStart")(queue_id="orders"), credit=7, revoke=True)
    new = pb.ConsumeRequest.FromString(said.SerializeToString())
    assert new == pb.ConsumeRequest(start=pb.ConsumeStart(queue_id="orders"), credit=7, revoke=True)
    assert not new.start.HasField("heartbeat")
