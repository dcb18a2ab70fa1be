"""Retries of calls that take messages: with the same request ID they get the same response, and no second message."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from queuelet.errors import TooManyResponses
from queuelet.v1 import queue_pb2 as pb
from support.queues import make_queue
from support.rpc import Refused, Rpc, eventually, outcome

Ask = Callable[[Rpc, str, str], bytes]


def ask(method: str, **fields: object) -> Ask:
    """Return a call with a request ID; its response is bytes."""
    request_type = getattr(pb, f"{method}Request")

    def call(rpc: Rpc, queue: str, request_id: str) -> bytes:
        request = request_type(queue_id=queue, request_id=request_id, **fields)
        return rpc.raw(method, request.SerializeToString())

    return call


WAYS = {"Pop": ask("Pop"), "PopBatch": ask("PopBatch", max=2), "Receive": ask("Receive", max=2)}


def payloads(response: bytes, way: str) -> list[bytes]:
    """Return the payloads of the messages in a response."""
    match way:
        case "Pop":
            return [pb.PopResponse.FromString(response).message.payload]
        case "PopBatch":
            return [message.payload for message in pb.PopBatchResponse.FromString(response).messages]
        case _:
            return [each.message.payload for each in pb.ReceiveResponse.FromString(response).deliveries]


@pytest.mark.parametrize("way", WAYS)
def test_a_call_repeated_with_the_same_id_gets_the_same_response(rpc: Rpc, queue: pb.Queue, way: str) -> None:
    rpc.add_batch(queue.meta.id, [b"0", b"1", b"2", b"3"])
    first = WAYS[way](rpc, queue.meta.id, "mine")
    assert payloads(first, way) == ([b"0"] if way == "Pop" else [b"0", b"1"])
    for _ in range(3):
        assert WAYS[way](rpc, queue.meta.id, "mine") == first
    other = WAYS[way](rpc, queue.meta.id, "another")
    assert payloads(other, way) == ([b"1"] if way == "Pop" else [b"2", b"3"])
    assert rpc.get_queue(queue.meta.id).messages.ready == (2 if way == "Pop" else 0)


def test_the_leases_of_a_repeated_receive_are_those_of_the_first(rpc: Rpc, queue: pb.Queue) -> None:
    rpc.add_batch(queue.meta.id, [b"0", b"1"])
    (first,) = rpc.receive(queue.meta.id, 1, request_id="mine")
    (again,) = rpc.receive(queue.meta.id, 1, request_id="mine")
    assert again == first
    assert rpc.ack(queue.meta.id, first.token) == [""]
    assert rpc.receive(queue.meta.id, 1, request_id="mine") == [first], "the response stays what it was"
    assert rpc.ack(queue.meta.id, first.token) == ["MESSAGE_NOT_FOUND"]


def test_ids_of_other_methods_and_other_queues_are_other_ids(rpc: Rpc, queue: pb.Queue) -> None:
    other = rpc.new_queue().meta.id
    for queue_id in (queue.meta.id, other):
        rpc.add_batch(queue_id, [b"0", b"1", b"2", b"3", b"4"])
        assert payloads(WAYS["Pop"](rpc, queue_id, "mine"), "Pop") == [b"0"]
        assert payloads(WAYS["PopBatch"](rpc, queue_id, "mine"), "PopBatch") == [b"1", b"2"]
        assert payloads(WAYS["Receive"](rpc, queue_id, "mine"), "Receive") == [b"3", b"4"]
    rpc.delete_queue(other)


@pytest.mark.parametrize("way", WAYS)
def test_a_response_without_a_message_is_not_stored(rpc: Rpc, queue: pb.Queue, way: str) -> None:
    """A retry may find a message."""
    if way == "Pop":
        with pytest.raises(Refused) as caught:
            WAYS[way](rpc, queue.meta.id, "mine")
        assert caught.value.reason == "QUEUE_EMPTY"
    else:
        assert payloads(WAYS[way](rpc, queue.meta.id, "mine"), way) == []
    rpc.add(queue.meta.id, b"news")
    assert payloads(WAYS[way](rpc, queue.meta.id, "mine"), way) == [b"news"]


def test_a_call_repeated_while_the_first_still_waits_takes_no_second_message(rpc: Rpc, queue: pb.Queue) -> None:
    """As after a lost connection: the first call may still be waiting."""
    request = pb.PopRequest(queue_id=queue.meta.id, request_id="mine", wait=Duration(seconds=600))
    calls = [rpc.start("Pop", request, timeout=600) for _ in range(3)]
    eventually(lambda: rpc.stats(queue.meta.id).waiting_calls == 3, "all wait")
    rpc.add_batch(queue.meta.id, [b"0", b"1", b"2"])
    responses = [outcome(call, pb.PopResponse) for call in calls]
    assert responses[0] == responses[1] == responses[2]
    assert rpc.get_queue(queue.meta.id).messages.ready == 2


def test_a_queue_stores_1000_responses_and_takes_no_message_past_them(rpc: Rpc, queue: pb.Queue) -> None:
    rpc.add_batch(queue.meta.id, [b"%d" % number for number in range(1_010)])
    calls = [rpc.start("Pop", pb.PopRequest(queue_id=queue.meta.id, request_id=str(number))) for number in range(1_000)]
    responses = [outcome(call, pb.PopResponse) for call in calls]
    for way in WAYS.values():
        with pytest.raises(Refused) as caught:
            way(rpc, queue.meta.id, "one more")
        assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
        assert caught.value.reason == "TOO_MANY_ANSWERS"
        assert "1,000 responses" in caught.value.text
    assert rpc.get_queue(queue.meta.id).messages.ready == 10
    again = pb.PopRequest(queue_id=queue.meta.id, request_id="7")
    assert rpc.call("Pop", again, pb.PopResponse) == responses[7], "those that are stored are still sent"
    assert rpc.pop(queue.meta.id).payload == b"1000", "calls without an id go on"
    other = rpc.new_queue().meta.id
    rpc.add(other, b"x")
    assert payloads(WAYS["Pop"](rpc, other, "one more"), "Pop") == [b"x"], "other queues have room of their own"
    rpc.delete_queue(other)


def test_a_response_is_stored_for_a_minute() -> None:
    """With a clock that the test sets."""
    responses = make_queue().responses
    second = 10**9
    for number in range(1_000):
        responses.store(b"%d" % number, b"response", number)
    assert responses.lookup_or_admit(b"999", 60 * second - 1) == b"response"
    with pytest.raises(TooManyResponses):
        responses.lookup_or_admit(b"one more", 60 * second - 1)
    assert responses.lookup_or_admit(b"one more", 60 * second) is None, "one made room"
    assert responses.lookup_or_admit(b"0", 60 * second) is None
    assert responses.lookup_or_admit(b"1", 60 * second) == b"response"
    assert responses.lookup_or_admit(b"999", 61 * second) is None


def test_stored_responses_go_with_their_queue(rpc: Rpc) -> None:
    before = rpc.server_stats().memory_bytes
    queue = rpc.new_queue().meta.id
    for number in range(10):
        rpc.add(queue, bytes(100_000))
        WAYS["Pop"](rpc, queue, str(number))
    assert rpc.server_stats().memory_bytes - before > 1_000_000, "they are accounted"
    rpc.delete_queue(queue)
    eventually(lambda: rpc.server_stats().memory_bytes - before < 100_000, "they are gone")


# Waiting calls


def test_a_repeated_call_that_waits_gets_the_response_of_the_first_and_leaves_the_next_message(
    rpc: Rpc, queue: pb.Queue
) -> None:
    """Although two messages would wake three callers."""
    name = queue.meta.id
    asked = pb.PopRequest(queue_id=name, request_id="mine", wait=Duration(seconds=30))
    calls = [rpc.start("Pop", asked), rpc.start("Pop", asked)]
    eventually(lambda: rpc.stats(name).waiting_calls == 2, "both wait")
    other = rpc.start("Pop", pb.PopRequest(queue_id=name, wait=Duration(seconds=30)))
    eventually(lambda: rpc.stats(name).waiting_calls == 3, "all wait")
    rpc.add(name, b"0")
    rpc.add(name, b"1")
    responses = [outcome(call, pb.PopResponse, 10) for call in (*calls, other)]
    popped = [each.message.payload for each in responses if isinstance(each, pb.PopResponse)]
    assert popped == [b"0", b"0", b"1"]


def test_a_caller_that_is_refused_when_it_is_woken_leaves_the_message_to_the_next(rpc: Rpc, queue: pb.Queue) -> None:
    """There is no space left to cache its response."""
    name = queue.meta.id
    rpc.add_batch(name, [b"x"] * 999)
    for number in range(999):
        WAYS["Pop"](rpc, name, f"call {number}")
    waiting = Duration(seconds=30)
    calls = [rpc.start("Pop", pb.PopRequest(queue_id=name, request_id=each, wait=waiting)) for each in ("one", "two")]
    eventually(lambda: rpc.stats(name).waiting_calls == 2, "both wait")
    other = rpc.start("Pop", pb.PopRequest(queue_id=name, wait=waiting))
    eventually(lambda: rpc.stats(name).waiting_calls == 3, "all wait")
    rpc.add_batch(name, [b"0", b"1"])
    responses = [outcome(call, pb.PopResponse, 10) for call in (*calls, other)]
    assert sum(isinstance(response, Refused) for response in responses) == 1
    assert isinstance(responses[2], pb.PopResponse)


# Adding


def batch(queue: str, *payloads: bytes, request_id: str = "mine", **fields: object) -> bytes:
    """Return a call that adds, as the bytes of a retry."""
    messages = [pb.NewMessage(payload=payload) for payload in payloads]
    return pb.AddBatchRequest(
        queue_id=queue,
        messages=messages,
        request_id=request_id,
        **fields,  # type: ignore[arg-type]  # fields by name
    ).SerializeToString()


def depth(rpc: Rpc, queue: str) -> int:
    """Return how many messages are ready."""
    return rpc.get_queue(queue).messages.ready


@pytest.mark.parametrize("wait", [False, True])
def test_a_batch_that_is_repeated_is_added_once(rpc: Rpc, queue: pb.Queue, wait: bool) -> None:  # noqa: FBT001
    """Although its messages have left the queue by then."""
    request = batch(queue.meta.id, b"0", b"1", wait=wait)
    first = rpc.raw("AddBatch", request)
    assert rpc.raw("AddBatch", request) == first
    assert [message.payload for message in rpc.pop_all(queue.meta.id)] == [b"0", b"1"]
    assert rpc.raw("AddBatch", request) == first
    assert depth(rpc, queue.meta.id) == 0


def test_a_response_that_is_settled_is_stored_no_longer(rpc: Rpc, queue: pb.Queue) -> None:
    """A producer that sends one batch after the other has one cached response, and never reaches the limit."""
    for number in range(1_100):
        rpc.raw(
            "AddBatch",
            batch(queue.meta.id, b"x", request_id=f"call {number}", settled_request_id=f"call {number - 1}"),
        )
    assert depth(rpc, queue.meta.id) == 1_100
    rpc.raw("AddBatch", batch(queue.meta.id, b"x", request_id="call 0"))
    assert depth(rpc, queue.meta.id) == 1_101, "a settled call is not known any more"


def test_a_batch_that_found_no_room_may_find_some_when_repeated(rpc: Rpc) -> None:
    queue = rpc.new_queue(limit=1).meta.id
    rpc.add(queue, b"in the way")
    request = batch(queue, b"x")
    (refused,) = pb.AddBatchResponse.FromString(rpc.raw("AddBatch", request)).results
    assert refused.error.reason == "QUEUE_FULL"
    rpc.pop(queue)
    (added,) = pb.AddBatchResponse.FromString(rpc.raw("AddBatch", request)).results
    assert added.id
    rpc.delete_queue(queue)


def test_a_batch_that_waits_for_room_and_is_repeated_reports_what_it_has_added(rpc: Rpc) -> None:
    """The server may still serve the first caller, which is gone. The retry ends its call and gets the response."""
    queue = rpc.new_queue(limit=1).meta.id
    request = batch(queue, b"0", b"1", wait=True)
    first = rpc.start("AddBatch", request)
    eventually(lambda: rpc.stats(queue).waiting_calls == 1, "it waits")
    response = rpc.raw("AddBatch", request)
    added, refused = pb.AddBatchResponse.FromString(response).results
    assert (bool(added.id), refused.error.reason) == (True, "QUEUE_FULL")
    assert rpc.stats(queue).waiting_calls == 0
    rpc.pop(queue)
    assert depth(rpc, queue) == 0, "the second is not added later"
    first.cancel()
    rpc.delete_queue(queue)


def test_a_batch_whose_caller_went_away_reports_to_the_next_call_what_it_has_added(rpc: Rpc) -> None:
    queue = rpc.new_queue(limit=1).meta.id
    request = batch(queue, b"0", b"1", wait=True)
    first = rpc.start("AddBatch", request)
    eventually(lambda: rpc.stats(queue).waiting_calls == 1, "it waits")
    first.cancel()
    eventually(lambda: rpc.stats(queue).waiting_calls == 0, "it is gone")
    rpc.pop(queue)
    added, refused = pb.AddBatchResponse.FromString(rpc.raw("AddBatch", request)).results
    assert (bool(added.id), refused.error.reason) == (True, "QUEUE_FULL")
    rpc.delete_queue(queue)


def test_ids_of_adds_and_pops_do_not_meet(rpc: Rpc, queue: pb.Queue) -> None:
    rpc.raw("AddBatch", batch(queue.meta.id, b"0"))
    assert payloads(WAYS["PopBatch"](rpc, queue.meta.id, "mine"), "PopBatch") == [b"0"]


def test_a_wait_for_room_ends_when_the_caller_wants_a_response(rpc: Rpc) -> None:
    """Long before the deadline of the call."""
    queue = rpc.new_queue(limit=1).meta.id
    request = batch(queue, b"0", b"1", wait=True, wait_at_most=Duration(nanos=100_000_000))
    added, refused = pb.AddBatchResponse.FromString(rpc.raw("AddBatch", request, timeout=600)).results
    assert (bool(added.id), refused.error.reason) == (True, "QUEUE_FULL")
    rpc.delete_queue(queue)
