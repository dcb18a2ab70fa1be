"""Dead letters: why a message died, its delivery history, and how it is redriven or removed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from queuelet.v1 import queue_pb2 as pb
from support.rpc import Refused, Rpc, add_request, eventually, outcome, tags_to_pb, unique_name

DEAD = pb.MESSAGE_STATE_DEAD


def counts(rpc: Rpc, queue: str) -> tuple[int, int, int, int]:
    """Return ready, delayed, leased, dead."""
    messages = rpc.get_queue(queue).messages
    return messages.ready, messages.delayed, messages.leased, messages.dead


def fail_all(rpc: Rpc, queue: str, *, reason: str = "", consumer: str = "") -> int:
    """Receive all ready messages and nack them; return how many there were."""
    deliveries = rpc.receive(queue, consumer=consumer)
    if deliveries:
        rpc.nack(queue, *(delivery.token for delivery in deliveries), reason=reason)
    return len(deliveries)


@pytest.fixture
def dead(rpc: Rpc) -> Iterator[str]:
    """A queue whose five messages are dead after two deliveries each; those with even numbers have a tag."""
    queue = rpc.new_queue(delivery=pb.DeliverySettings(max_deliveries=2)).meta.id
    for number in range(5):
        rpc.add(queue, b"%d" % number, tags=[("even", "yes")] if number % 2 == 0 else [])
    for reason in ("first", "second"):
        assert fail_all(rpc, queue, reason=reason, consumer="worker 7") == 5
    yield queue
    rpc.delete_queue(queue)


def test_a_message_given_as_often_as_the_queue_allows_is_dead(rpc: Rpc, dead: str) -> None:
    """It stays in its queue and is not delivered. Browsing shows the reason, the time and the delivery history."""
    assert counts(rpc, dead) == (0, 0, 0, 5)
    assert rpc.receive(dead) == []
    browsed = rpc.browse(dead, DEAD)
    assert [each.message.payload for each in browsed] == [b"%d" % number for number in range(5)]
    for each in browsed:
        assert (each.state, each.reason, each.count) == (DEAD, pb.DEATH_REASON_MAX_DELIVERIES, 2)
        assert abs(each.died.ToNanoseconds() / 1e9 - time.time()) < 60
        assert [(failed.outcome, failed.consumer, failed.reason) for failed in each.tries] == [
            (pb.Try.OUTCOME_NACKED, "worker 7", "first"),
            (pb.Try.OUTCOME_NACKED, "worker 7", "second"),
        ]
        assert each.tries[0].token < each.tries[1].token
        assert each.tries[0].ended.ToNanoseconds() <= each.tries[1].began.ToNanoseconds()
    assert rpc.browse(dead, pb.MESSAGE_STATE_READY) == []
    assert rpc.stats(dead).buried == 5


@pytest.mark.parametrize("way", ["call", "stream"])
def test_a_consumer_may_say_that_another_try_would_not_help(rpc: Rpc, way: str) -> None:
    queue = rpc.new_queue().meta.id
    rpc.add_batch(queue, [b"damaged", b"fine"])
    if way == "call":
        (delivery,) = rpc.receive(queue, 1)
        assert rpc.nack(queue, delivery.token, reason="not JSON", dead=True) == [""]
    else:
        consumer = rpc.consume(queue, credit=1)
        (delivery,) = consumer.take(1)
        consumer.say(nack=[pb.ConsumeNack(token=delivery.token, reason="not JSON", dead=True)])
        consumer.until(lambda so_far: so_far.settled)
        consumer.cancel()
    (browsed,) = rpc.browse(queue, DEAD)
    assert (browsed.message.payload, browsed.reason, browsed.count) == (b"damaged", pb.DEATH_REASON_REJECTED, 1)
    assert [failed.reason for failed in browsed.tries] == ["not JSON"]
    assert counts(rpc, queue) == (1, 0, 0, 1)


def test_what_is_dead_was_used(rpc: Rpc) -> None:
    queue = rpc.new_queue().meta.id
    rpc.add(queue, b"x")
    (delivery,) = rpc.receive(queue, 1)
    with pytest.raises(Refused, match="unused: not allowed together with dead, because an unused message"):
        rpc.nack(queue, delivery.token, dead=True, unused=True)


def test_what_is_dead_has_no_delay(rpc: Rpc) -> None:
    queue = rpc.new_queue().meta.id
    rpc.add(queue, b"x")
    (delivery,) = rpc.receive(queue, 1)
    with pytest.raises(Refused, match="delay: not allowed together with dead, because a dead message") as refused:
        rpc.nack(queue, delivery.token, delay=1, dead=True)
    assert refused.value.facts["field"] == "delay"
    assert counts(rpc, queue) == (0, 0, 1, 0)


def test_a_lease_that_runs_out_and_a_stream_that_ends_are_deliveries_too(rpc: Rpc) -> None:
    queue = rpc.new_queue(delivery=pb.DeliverySettings(max_deliveries=3, lease_seconds=1)).meta.id
    rpc.add(queue, b"x")
    rpc.receive(queue, consumer="sleepy")
    (delivery,) = rpc.receive(queue, wait=20, consumer="busy")
    rpc.nack(queue, delivery.token)
    consumer = rpc.consume(queue, credit=1, consumer="broken")
    consumer.take(1)
    consumer.cancel()
    eventually(lambda: counts(rpc, queue) == (0, 0, 0, 1), "it is dead")
    (browsed,) = rpc.browse(queue)
    assert [(failed.outcome, failed.consumer) for failed in browsed.tries] == [
        (pb.Try.OUTCOME_LEASE_EXPIRED, "sleepy"),
        (pb.Try.OUTCOME_NACKED, "busy"),
        (pb.Try.OUTCOME_RELEASED, "broken"),
    ]


def test_only_the_last_20_tries_are_kept(rpc: Rpc) -> None:
    queue = rpc.new_queue(delivery=pb.DeliverySettings(max_deliveries=25)).meta.id
    rpc.add(queue)
    for number in range(25):
        fail_all(rpc, queue, reason=str(number))
    (browsed,) = rpc.browse(queue, DEAD)
    assert [failed.reason for failed in browsed.tries] == [str(number) for number in range(5, 25)]


def test_the_limit_counts_dead_messages(rpc: Rpc) -> None:
    queue = rpc.new_queue(limit=1, delivery=pb.DeliverySettings(max_deliveries=1)).meta.id
    rpc.add(queue)
    fail_all(rpc, queue)
    with pytest.raises(Refused) as caught:
        rpc.add(queue)
    assert (caught.value.reason, caught.value.facts["dead"]) == ("QUEUE_FULL", "1")


def test_the_newest_token_of_a_dead_message_still_acknowledges_it(rpc: Rpc) -> None:
    """It was processed after all, before anyone looked at it."""
    queue = rpc.new_queue(delivery=pb.DeliverySettings(max_deliveries=1)).meta.id
    rpc.add(queue)
    (delivery,) = rpc.receive(queue, lease=600)
    rpc.nack(queue, delivery.token)
    assert counts(rpc, queue) == (0, 0, 0, 1)
    assert rpc.ack(queue, delivery.token) == [""]
    assert counts(rpc, queue) == (0, 0, 0, 0)


# Redrive


def test_redrive_makes_all_dead_messages_ready_again(rpc: Rpc, dead: str) -> None:
    """As if they had just been added, behind the messages that are there; they keep their history."""
    before = rpc.browse(dead, DEAD)
    rpc.add(dead, b"news")
    *_, last = rpc.redrive(dead, all=True)
    assert (last.redriven, last.remaining) == (5, 0)
    assert counts(rpc, dead) == (6, 0, 0, 0)
    again = rpc.receive(dead)
    assert [each.message.payload for each in again] == [b"news", b"0", b"1", b"2", b"3", b"4"]
    assert [each.count for each in again] == [1] * 6, "deliveries are counted from 1 again"
    assert rpc.ack(dead, before[0].tries[-1].token) == ["LEASE_LOST"], "old tokens are worth nothing"
    rpc.nack(dead, *(each.token for each in again), reason="third")
    browsed = {each.message.payload: each for each in rpc.browse(dead)}
    assert [failed.reason for failed in browsed[b"0"].tries] == ["first", "second", "third"]
    assert rpc.stats(dead).redriven == 5


@pytest.mark.need(28)
def test_redrive_by_id_and_by_tag(rpc: Rpc, dead: str) -> None:
    messages = [each.message for each in rpc.browse(dead)]
    *_, last = rpc.redrive(dead, ids=[messages[3].meta.id, "6f9c0000-1111-4222-8333-444455556666"])
    assert (last.redriven, last.remaining) == (1, 0)
    assert [message.payload for message in rpc.pop_all(dead)] == [b"3"]
    *_, last = rpc.redrive(dead, selector="even=yes")
    assert (last.redriven, last.remaining) == (3, 0)
    assert [message.payload for message in rpc.pop_all(dead)] == [b"0", b"2", b"4"]
    assert [each.message.payload for each in rpc.browse(dead, DEAD)] == [b"1"]


def test_a_dry_run_counts_and_changes_nothing(rpc: Rpc, dead: str) -> None:
    before = rpc.browse(dead)
    *_, last = rpc.redrive(dead, selector="even", dry_run=True, rate=1)
    assert (last.redriven, last.remaining) == (3, 0)
    assert rpc.browse(dead) == before
    assert rpc.stats(dead).redriven == 0


def test_an_id_given_twice_counts_once(rpc: Rpc, dead: str) -> None:
    """In any spelling, dry run or not."""
    message_id = rpc.browse(dead)[0].message.meta.id
    ids = [message_id, message_id.upper(), message_id]
    for dry_run in (True, False):
        *_, last = rpc.redrive(dead, ids=ids, dry_run=dry_run)
        assert (last.redriven, last.remaining) == (1, 0)


def test_redrive_of_a_queue_without_dead_messages_ends_at_once(rpc: Rpc, queue: pb.Queue) -> None:
    rpc.add(queue.meta.id)
    (only,) = rpc.redrive(queue.meta.id, all=True)
    assert (only.redriven, only.remaining) == (0, 0)


def many_dead(rpc: Rpc, count: int) -> str:
    """Return a queue with this many dead messages."""
    queue = rpc.new_queue(delivery=pb.DeliverySettings(max_deliveries=1)).meta.id
    rpc.add_batch(queue, [b"%d" % number for number in range(count)])
    while fail_all(rpc, queue):
        pass
    assert counts(rpc, queue) == (0, 0, 0, count)
    return queue


@pytest.mark.need(29)
def test_redrive_keeps_to_its_rate_and_reports_its_progress(rpc: Rpc) -> None:
    queue = many_dead(rpc, 60)
    began = time.monotonic()
    progress = rpc.redrive(queue, all=True, rate=50)
    took = time.monotonic() - began
    assert took + 0.05 >= 60 / 50
    assert len(progress) >= 2
    assert [response.redriven for response in progress] == sorted(response.redriven for response in progress)
    assert all(response.redriven + response.remaining == 60 for response in progress)
    assert progress[-1].redriven == 60
    rpc.delete_queue(queue)


@pytest.mark.need(31)
def test_redrive_stops_when_its_stream_does(rpc: Rpc) -> None:
    queue = many_dead(rpc, 1_000)
    request = pb.RedriveRequest(queue_id=queue, all=True, rate=20)
    stream = rpc.stream("Redrive", request.SerializeToString())
    next(stream)
    stream.cancel()
    time.sleep(0.1)
    redriven = rpc.stats(queue).redriven
    time.sleep(0.6)
    assert rpc.stats(queue).redriven == redriven < 100
    rpc.delete_queue(queue)


def test_redrive_ends_when_its_queue_is_deleted(rpc: Rpc) -> None:
    queue = many_dead(rpc, 100)
    stream = rpc.stream("Redrive", pb.RedriveRequest(queue_id=queue, all=True, rate=20).SerializeToString())
    next(stream)
    rpc.delete_queue(queue)
    with pytest.raises(grpc.RpcError) as caught:
        for _ in stream:
            pass
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_messages_that_die_during_a_redrive_wait_for_the_next(rpc: Rpc) -> None:
    """Otherwise, with a consumer that fails everything, a redrive would never end."""
    queue = many_dead(rpc, 30)
    stream = rpc.stream("Redrive", pb.RedriveRequest(queue_id=queue, all=True, rate=30).SerializeToString())
    failed = redriven = 0
    for response in stream:
        failed += fail_all(rpc, queue)
        redriven = pb.RedriveResponse.FromString(response).redriven
    assert redriven == 30
    assert counts(rpc, queue)[3] == failed > 0
    rpc.delete_queue(queue)


# Purge


def test_purge_of_the_dead_leaves_the_others(rpc: Rpc, dead: str) -> None:
    rpc.add(dead, b"news")
    request = pb.PurgeRequest(queue_id=dead, selector="even", states=[DEAD])
    assert rpc.call("Purge", request, pb.PurgeResponse).purged == 3
    request = pb.PurgeRequest(queue_id=dead, all=True, states=[DEAD])
    assert rpc.call("Purge", request, pb.PurgeResponse).purged == 2
    assert [message.payload for message in rpc.pop_all(dead)] == [b"news"]


# Time to live


def add_with_ttl(rpc: Rpc, queue: str, payload: bytes, seconds: float) -> pb.Message:
    """Add a message that expires after this many seconds."""
    request = add_request(queue, payload)
    request.message.ttl.FromNanoseconds(int(seconds * 1e9))
    return rpc.call("Add", request, pb.AddResponse).message


def test_a_message_past_its_own_time_to_live_is_dead_and_says_so(rpc: Rpc, queue: pb.Queue) -> None:
    """Ready or delayed messages expire without any call, and are never silently gone."""
    added = add_with_ttl(rpc, queue.meta.id, b"short", 0.2)
    assert added.ttl == Duration(nanos=200_000_000)
    rpc.add(queue.meta.id, b"lasting")
    delayed = add_request(queue.meta.id, b"away")
    delayed.message.ttl.FromMilliseconds(200)
    delayed.message.delay.FromSeconds(600)
    rpc.call("Add", delayed, pb.AddResponse)
    eventually(lambda: counts(rpc, queue.meta.id) == (1, 0, 0, 2), "two are dead")
    browsed = rpc.browse(queue.meta.id, DEAD)
    assert [(each.message.payload, each.reason, each.count) for each in browsed] == [
        (b"short", pb.DEATH_REASON_EXPIRED, 0),
        (b"away", pb.DEATH_REASON_EXPIRED, 0),
    ]
    assert [message.payload for message in rpc.pop_all(queue.meta.id)] == [b"lasting"]


def test_a_queue_may_have_a_time_to_live_for_all_and_a_message_a_shorter_one(rpc: Rpc) -> None:
    name = unique_name()
    rpc.new_queue(name, delivery=pb.DeliverySettings(message_ttl_seconds=2))
    rpc.add(name, b"by the queue's")
    add_with_ttl(rpc, name, b"by the queue's too", 600)
    add_with_ttl(rpc, name, b"by its own", 0.1)
    eventually(lambda: counts(rpc, name) == (2, 0, 0, 1), "its own is shorter")
    eventually(lambda: counts(rpc, name) == (0, 0, 0, 3), "the queue's TTL has expired")
    assert {each.reason for each in rpc.browse(name)} == {pb.DEATH_REASON_EXPIRED}


def test_a_leased_message_does_not_expire(rpc: Rpc, queue: pb.Queue) -> None:
    add_with_ttl(rpc, queue.meta.id, b"done in time", 1)
    add_with_ttl(rpc, queue.meta.id, b"given back late", 1)
    done, late = rpc.receive(queue.meta.id, lease=600)
    add_with_ttl(rpc, queue.meta.id, b"a sign that the time has passed", 1)
    eventually(lambda: counts(rpc, queue.meta.id) == (0, 0, 2, 1), "the sign")
    assert rpc.ack(queue.meta.id, done.token) == [""]
    assert rpc.nack(queue.meta.id, late.token) == [""]
    eventually(lambda: counts(rpc, queue.meta.id) == (0, 0, 0, 2), "it is dead once it is back")


def test_a_redriven_message_has_its_time_to_live_again(rpc: Rpc, queue: pb.Queue) -> None:
    add_with_ttl(rpc, queue.meta.id, b"x", 1)
    eventually(lambda: counts(rpc, queue.meta.id) == (0, 0, 0, 1), "it is dead")
    *_, last = rpc.redrive(queue.meta.id, all=True)
    assert last.redriven == 1
    assert counts(rpc, queue.meta.id) == (1, 0, 0, 0)
    eventually(lambda: counts(rpc, queue.meta.id) == (0, 0, 0, 1), "it is dead again")


def test_a_time_to_live_can_be_given_to_a_queue_later(rpc: Rpc) -> None:
    name = unique_name()
    rpc.new_queue(name)
    rpc.add(name, b"old")
    declared = pb.QueueDeclaration(
        name=name, store=pb.Queue.MEMORY, limit=-1, delivery=pb.DeliverySettings(message_ttl_seconds=1)
    )
    rpc.call("DeclareQueues", pb.DeclareQueuesRequest(queues=[declared]), pb.DeclareQueuesResponse)
    eventually(lambda: counts(rpc, name) == (0, 0, 0, 1), "it is dead")


def test_dead_letters_show_in_the_figures_of_the_queue(rpc: Rpc) -> None:
    stats = rpc.stats(many_dead(rpc, 3))
    assert (stats.buried, stats.nacked, stats.leased, stats.queue.messages.dead) == (3, 3, 3, 3)


def test_own_ids_hold_while_a_message_is_queued_in_whatever_state(rpc: Rpc) -> None:
    """Delayed, leased or dead: adding its ID again returns the first message."""
    queue = rpc.new_queue(delivery=pb.DeliverySettings(max_deliveries=1)).meta.id
    own_id = "6f9c0000-1111-4222-8333-444455556666"
    message = pb.NewMessage(id=own_id, payload=b"x", tags=tags_to_pb([("a", "b")]), delay=Duration(nanos=300_000_000))

    def again() -> pb.AddResponse:
        return rpc.call("Add", pb.AddRequest(queue_id=queue, message=message), pb.AddResponse)

    first = again()
    assert not first.duplicate
    assert again() == pb.AddResponse(message=first.message, duplicate=True, durability=first.durability)
    (delivery,) = rpc.receive(queue, wait=20)
    assert again().duplicate
    rpc.nack(queue, delivery.token)
    assert counts(rpc, queue) == (0, 0, 0, 1)
    assert again().duplicate
    message.payload = b"another"
    with pytest.raises(Refused) as caught:
        again()
    assert caught.value.reason == "MESSAGE_EXISTS"
    assert rpc.ack(queue, delivery.token) == [""]
    assert not again().duplicate


def test_a_call_that_waits_waits_though_messages_expire_as_it_comes(rpc: Rpc) -> None:
    queue = rpc.new_queue(unique_name()).name
    for _ in range(20):
        rpc.add_batch(queue, [b"old"] * 1_000)
    popping = rpc.start("Pop", pb.PopRequest(queue_id=queue, wait=Duration(seconds=30)))
    assert outcome(popping, pb.PopResponse, 10).message.payload == b"old"  # type: ignore[union-attr]  # it is one
    short = pb.DeliverySettings(message_ttl_seconds=1)
    declared = pb.QueueDeclaration(name=queue, store=pb.Queue.MEMORY, limit=-1, delivery=short)
    rpc.call("DeclareQueues", pb.DeclareQueuesRequest(queues=[declared]), pb.DeclareQueuesResponse)
    time.sleep(1)
    popping = rpc.start("Pop", pb.PopRequest(queue_id=queue, wait=Duration(seconds=30)))
    eventually(lambda: rpc.stats(queue).waiting_calls == 1, "it waits")
    rpc.add(queue, b"new")
    assert outcome(popping, pb.PopResponse, 10).message.payload == b"new"  # type: ignore[union-attr]  # it is one
    rpc.delete_queue(queue)
