"""ListConsumers: streams and waiting Receive calls of a queue, on both stores."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from queuelet.client import Client, ConsumerKind
from queuelet.v1 import queue_pb2 as pb
from support.both_stores import both, cli, client, name, new_queue, rpc, store
from support.commands import Cli, assert_failed
from support.rpc import Refused, Rpc, add_request, eventually

__all__ = ["both", "cli", "client", "name", "rpc", "store"]


def listed(rpc: Rpc, queue: str) -> pb.ListConsumersResponse:
    """Return the consumers of a queue."""
    return rpc.call("ListConsumers", pb.ListConsumersRequest(queue_id=queue), pb.ListConsumersResponse)


def test_an_unused_queue_has_no_consumers(rpc: Rpc, name: str) -> None:
    assert listed(rpc, name) == pb.ListConsumersResponse()


def test_a_stream_is_listed_with_its_leases_and_its_credit(rpc: Rpc, name: str) -> None:
    rpc.add_batch(name, [b"x"] * 5)
    before = datetime.now(UTC) - timedelta(seconds=1)
    stream = rpc.consume(name, credit=8, consumer="worker 3")
    stream.take(5)
    (consumer,) = listed(rpc, name).consumers
    assert (consumer.kind, consumer.name) == (pb.Consumer.KIND_STREAM, "worker 3")
    assert consumer.peer.startswith("127.0.0.1:")
    assert (consumer.leases, consumer.credit) == (5, 3)
    assert (consumer.exclusive, consumer.holds_queue) == (False, False)
    assert before < consumer.since.ToDatetime(UTC) <= datetime.now(UTC) + timedelta(seconds=1)
    assert not consumer.HasField("last_settled")
    assert consumer.next_deadline == min(
        (each.deadline for each in stream.deliveries), key=lambda at: at.ToNanoseconds()
    )

    stream.say(ack=stream.tokens[:2], nack=[pb.ConsumeNack(token=stream.tokens[2], dead=True)])
    stream.until(lambda so_far: len(so_far.settled) == 3)
    (consumer,) = listed(rpc, name).consumers
    assert consumer.leases == 2
    assert consumer.last_settled.ToNanoseconds() >= consumer.since.ToNanoseconds()
    stream.cancel()
    eventually(lambda: not listed(rpc, name).consumers, "the stream has ended")


def test_leases_that_ended_otherwise_do_not_count(rpc: Rpc, name: str) -> None:
    rpc.add_batch(name, [b"x"] * 3)
    stream = rpc.consume(name, credit=3)
    stream.take(3)
    rpc.call("Purge", pb.PurgeRequest(queue_id=name, ids=[stream.deliveries[0].message.meta.id]), pb.PurgeResponse)
    assert rpc.ack(name, stream.tokens[1]) == [""]
    assert [each.leases for each in listed(rpc, name).consumers] == [1]
    stream.cancel()


def test_leases_of_receive_calls_are_other_leases(rpc: Rpc, name: str) -> None:
    rpc.add_batch(name, [b"x"] * 5)
    assert len(rpc.receive(name, 2)) == 2
    stream = rpc.consume(name, credit=3)
    stream.take(3)
    answer = listed(rpc, name)
    assert ([each.leases for each in answer.consumers], answer.other_leases) == ([3], 2)
    stream.cancel()


def test_a_waiting_receive_is_listed_and_a_waiting_pop_only_counted(rpc: Rpc, name: str) -> None:
    request = pb.ReceiveRequest(queue_id=name, consumer="poller")
    request.wait.seconds = 60
    receive = rpc.start("Receive", request)
    eventually(lambda: bool(listed(rpc, name).consumers), "it waits")
    pop = pb.PopRequest(queue_id=name)
    pop.wait.seconds = 60
    popping = rpc.start("Pop", pop)
    eventually(lambda: listed(rpc, name).waiting_for_message == 2, "both wait")
    (consumer,) = listed(rpc, name).consumers
    assert (consumer.kind, consumer.name, consumer.leases) == (pb.Consumer.KIND_RECEIVE, "poller", 0)
    assert consumer.peer.startswith("127.0.0.1:")
    for call in (receive, popping):
        call.cancel()
    eventually(lambda: listed(rpc, name) == pb.ListConsumersResponse(), "no call waits any more")


def test_an_exclusive_consumer_is_listed_apart_from_those_that_wait_for_its_place(rpc: Rpc, name: str) -> None:
    streams = []
    for number in range(3):
        streams.append(rpc.consume(name, credit=1, consumer=str(number), exclusive=True))
        eventually(lambda: len(listed(rpc, name).consumers) == len(streams), "it is listed")
    consumers = listed(rpc, name).consumers
    assert [(each.name, each.exclusive, each.holds_queue) for each in consumers] == [
        ("0", True, True),
        ("1", True, False),
        ("2", True, False),
    ], "the oldest first"
    streams[0].cancel()
    eventually(lambda: [each.holds_queue for each in listed(rpc, name).consumers] == [True, False], "the next holds it")
    for stream in streams[1:]:
        stream.cancel()


def test_calls_that_wait_for_space_are_counted(rpc: Rpc, store: pb.Queue.Store) -> None:
    name = new_queue(rpc, store, limit=1)
    rpc.add(name)
    waiting = [rpc.start("Add", add_request(name, wait=True)) for _ in range(2)]
    eventually(lambda: listed(rpc, name).waiting_for_space == 2, "two wait")
    for call in waiting:
        call.cancel()
    eventually(lambda: not listed(rpc, name).waiting_for_space, "none waits")


def test_an_unknown_queue_is_not_found(rpc: Rpc) -> None:
    with pytest.raises(Refused, match="NOT_FOUND"):
        listed(rpc, "absent")


async def test_the_client_returns_consumers_as_values(client: Client, name: str) -> None:
    await client.add(name, b"x")
    async with client.consume(name, credit=2, consumer="me") as stream:
        await anext(aiter(stream))
        found = await client.list_consumers(name)
        (consumer,) = found.consumers
        assert (consumer.kind, consumer.name, consumer.leases, consumer.credit) == (ConsumerKind.STREAM, "me", 1, 1)
        assert consumer.last_settled is None
        assert consumer.next_deadline
        assert consumer.next_deadline > consumer.since
        assert (found.waiting_for_space, found.other_leases) == (0, 0)


@pytest.mark.need(10)
def test_the_command_prints_a_table_or_json(rpc: Rpc, cli: Cli, name: str) -> None:
    assert "There are no consumers" in cli("consumers", name, "-o", "table").out.decode()
    rpc.add(name)
    stream = rpc.consume(name, credit=2, consumer="evil \x1b[2J\u202e name")
    stream.take(1)
    table = cli("consumers", name, "-o", "table").out.decode()
    assert "evil \\x1b[2J\\u202e name" in table
    assert "\x1b" not in table
    (line,) = cli("consumers", name).json["consumers"]
    assert (line["name"], line["leases"]) == ("evil \x1b[2J\u202e name", "1")
    stream.cancel()
    assert_failed(cli("consumers", "absent"), 1, "cannot list consumers: there is no queue absent")
