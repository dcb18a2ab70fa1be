"""No bad request takes the server down, stays without a response, or leaks memory or tasks.

The table of bad requests, with the expected status and text of each, is support/bad_requests.py.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuelet.v1 import queue_pb2 as pb
from support.bad_requests import CASES, DECLARATIONS, REMOVALS, STREAMS, Case, Item, Place, make_place
from support.patience import patient
from support.rpc import (
    NEGZ_SERVICE,
    SERVICE,
    Refused,
    Rpc,
    add_request,
    eventually,
    outcome,
    pop_request,
    refusal,
    unique_name,
)
from support.server_process import OBSERVED, ServerProcess
from support.wire import fixed64, integer, text

SOAK = os.environ.get("QUEUELET_SOAK") == "1"
MIB = 1024 * 1024
DEFAULT_LIMIT = 4 * MIB
"""The default message limit of a client."""


@pytest.fixture(scope="module")
def place(rpc: Rpc) -> Place:
    """The queues that requests refer to."""
    return make_place(rpc)


def send(rpc: Rpc, service: str, method: str, request: bytes) -> bytes:
    """Send a request and return the first response, empty if a stream ends without one. Raises Refused."""
    if method not in STREAMS:
        return rpc.raw(f"{service}/{method}", request)
    stream = rpc.stream(f"{service}/{method}", request)
    try:
        return next(stream, b"")
    except grpc.RpcError as error:
        raise refusal(error) from None
    finally:
        stream.cancel()


def assert_serves(rpc: Rpc, queue: str) -> None:
    """Pass a message through an empty queue."""
    rpc.add(queue, b"good")
    assert rpc.pop(queue).payload == b"good"


# The table


BY_SERVICE = [
    pytest.param(case, service, id=f"{'' if service == SERVICE else 'proto.Q '}{case.method} {case.what}")
    for case in CASES
    for service in case.services
]


def test_the_table_is_large_and_names_each_case_once() -> None:
    names = [(case.method, case.what) for case in CASES]
    assert len(names) == len(set(names)) >= 60


@pytest.mark.parametrize(("case", "service"), BY_SERVICE)
def test_bad_input_is_refused_with_what_to_do(rpc: Rpc, place: Place, case: Case, service: str) -> None:
    code, says = case.expected(service)
    with pytest.raises(Refused) as caught:
        send(rpc, service, case.method, case.request(place))
    assert caught.value.code is code
    assert re.match(says, caught.value.text), caught.value.text
    assert len(caught.value.text) < 1_000
    if service == SERVICE and "larger than max" not in says:
        assert caught.value.reason, "a refusal carries an ErrorInfo"
    else:
        assert not caught.value.reason
    assert_serves(rpc, place.queue)


@pytest.mark.parametrize("item", DECLARATIONS, ids=lambda item: item.what)
def test_a_bad_declaration_is_refused_and_the_others_go_on(rpc: Rpc, place: Place, item: Item) -> None:
    good = pb.QueueDeclaration(name=unique_name(), store=pb.Queue.MEMORY, limit=3)
    request = pb.DeclareQueuesRequest(queues=[good, cast("pb.QueueDeclaration", item.item(place)), good])
    first, bad, last = rpc.call("DeclareQueues", request, pb.DeclareQueuesResponse).results
    assert first.outcome == pb.DeclareResult.OUTCOME_CREATED
    assert last.outcome == pb.DeclareResult.OUTCOME_UNCHANGED
    assert bad.outcome == pb.DeclareResult.OUTCOME_REFUSED
    assert bad.error.code == cast("Any", item.code.value)[0]
    assert bad.error.reason
    assert re.match(item.says, bad.error.message), bad.error.message
    assert_serves(rpc, place.queue)


@pytest.mark.parametrize("item", REMOVALS, ids=lambda item: item.what)
def test_a_bad_removal_is_refused_and_the_others_go_on(rpc: Rpc, place: Place, item: Item) -> None:
    doomed = pb.QueueRemoval(queue_id=rpc.new_queue().meta.id)
    request = pb.RemoveQueuesRequest(queues=[doomed, cast("pb.QueueRemoval", item.item(place)), doomed])
    first, bad, last = rpc.call("RemoveQueues", request, pb.RemoveQueuesResponse).results
    assert first.outcome == pb.RemoveResult.OUTCOME_REMOVED
    assert last.outcome == pb.RemoveResult.OUTCOME_ABSENT
    assert bad.outcome == pb.RemoveResult.OUTCOME_REFUSED
    assert bad.error.code == cast("Any", item.code.value)[0]
    assert re.match(item.says, bad.error.message), bad.error.message
    assert_serves(rpc, place.queue)


# Valid encodings that are unusual


@pytest.mark.parametrize("service", [SERVICE, NEGZ_SERVICE])
def test_unknown_fields_are_accepted(rpc: Rpc, queue: pb.Queue, service: str) -> None:
    unknown = integer(99, 7) + text(1000, "new") + fixed64(500)
    message = text(1, text(1, "k") + unknown) + text(2, "payload") + unknown
    rpc.raw(f"{service}/Add", text(1, queue.meta.id) + text(2, message) + unknown)
    popped = pb.PopResponse.FromString(rpc.raw(f"{service}/Pop", text(1, queue.meta.id) + unknown)).message
    assert popped.payload == b"payload"
    assert [tag.key for tag in popped.meta.tags] == ["k"]
    rpc.raw(f"{service}/GetQueue", unknown + text(1, queue.meta.id))
    rpc.raw(f"{service}/ListQueues", unknown)


@pytest.mark.parametrize("service", [SERVICE, NEGZ_SERVICE])
def test_of_a_field_sent_twice_the_last_counts_and_messages_are_merged(rpc: Rpc, queue: pb.Queue, service: str) -> None:
    first = text(2, text(2, "first") + text(1, text(1, "a")))
    second = text(2, text(2, "second") + text(1, text(1, "b")))
    rpc.raw(f"{service}/Add", text(1, "somebody-else") + first + text(1, queue.meta.id) + second)
    popped = rpc.pop(queue.meta.id)
    assert popped.payload == b"second"
    assert [tag.key for tag in popped.meta.tags] == ["a", "b"]


@pytest.mark.parametrize("service", [SERVICE, NEGZ_SERVICE])
def test_fields_in_any_order_are_accepted(rpc: Rpc, queue: pb.Queue, service: str) -> None:
    message = text(2, "payload") + text(1, text(2, "v") + text(1, "k"))
    rpc.raw(f"{service}/Add", text(2, message) + text(1, queue.meta.id))
    popped = rpc.pop(queue.meta.id)
    assert popped.payload == b"payload"
    assert [(tag.key, tag.value) for tag in popped.meta.tags] == [("k", "v")]


def test_a_message_of_another_wire_type_is_as_unknown_as_any_field(rpc: Rpc, queue: pb.Queue) -> None:
    rpc.raw("Add", text(1, queue.meta.id) + integer(2, 5))
    assert rpc.pop(queue.meta.id).payload == b""


def test_compressed_requests_are_read(server: ServerProcess, queue: pb.Queue) -> None:
    with grpc.insecure_channel(server.address, compression=grpc.Compression.Gzip) as channel:
        call = cast("Any", channel.unary_unary)(f"/{SERVICE}/Add")
        call(add_request(queue.meta.id, b"z" * 100_000).SerializeToString(), timeout=30)
        response = cast("Any", channel.unary_unary)(f"/{SERVICE}/Pop")(text(1, queue.meta.id), timeout=30)
    assert pb.PopResponse.FromString(response).message.payload == b"z" * 100_000


# Unknown methods, missing requests, unusual clients


@pytest.mark.parametrize(
    "path",
    [f"{SERVICE}/Nothing", f"{NEGZ_SERVICE}/Browse", "no.such.Service/Add", f"{SERVICE}/", "x/y/z", f"{SERVICE}/add"],
)
def test_an_unknown_method_is_unimplemented(rpc: Rpc, place: Place, path: str) -> None:
    with pytest.raises(Refused) as caught:
        rpc.raw(path, b"")
    assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED
    assert_serves(rpc, place.queue)


def test_a_watch_without_a_request_is_invalid_argument(rpc: Rpc, place: Place) -> None:
    call = cast("Any", rpc.channel.stream_stream)(f"/{SERVICE}/WatchQueues")(iter(()), timeout=30)
    with pytest.raises(grpc.RpcError) as caught:
        next(call)
    refused = refusal(caught.value)
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "request" in refused.text
    assert_serves(rpc, place.queue)


def test_a_call_without_a_request_does_no_harm(rpc: Rpc, place: Place) -> None:
    """The transport waits for a request until the call's deadline; the test checks that nothing stays behind."""
    calls = [cast("Any", rpc.channel.stream_unary)(f"/{SERVICE}/Add") for _ in range(10)]
    for call in calls:
        with pytest.raises(grpc.RpcError):
            call(iter(()), timeout=0.2)
    assert_serves(rpc, place.queue)


def test_metadata_of_any_kind_does_no_harm(rpc: Rpc, place: Place) -> None:
    metadata: Any = (
        ("authorization", "Bearer x"),
        ("x-bin", b"\x00\xff"),
        ("grpc-previous-rpc-attempts", "9"),
        ("a", ""),
    )
    rpc.raw("GetQueue", text(1, place.queue), metadata=metadata)
    with pytest.raises(Refused) as caught:
        rpc.raw("GetQueue", text(1, place.queue), metadata=(("large", "x" * 100_000),))
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert_serves(rpc, place.queue)


# The port


@contextmanager
def connection(server: ServerProcess, data: bytes = b"") -> Iterator[socket.socket]:
    """Open a connection to the gRPC port and send bytes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=patient(30)) as opened:
        opened.sendall(data)
        yield opened


def until_closed(opened: socket.socket) -> bytes:
    """Return the bytes received until the other side closes."""
    received = b""
    try:
        while piece := opened.recv(65_536):
            received += piece
    except ConnectionResetError:
        pass
    return received


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"

GARBAGE = {
    "noise": bytes(range(256)) * 64,
    "an HTTP/1.1 request": b"GET /metrics HTTP/1.1\r\nHost: queuelet\r\n\r\n",
    "a TLS handshake": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "a cut preface": PREFACE[:10] + b"\r\n\r\n" * 10,
    "a frame of an unknown stream": PREFACE + SETTINGS + b"\x00\x00\x04\x00\x00\x00\x00\x00\x07abcd",
    "a frame too large": PREFACE + SETTINGS + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + bytes(1000),
    "headers that cannot be read": PREFACE + SETTINGS + b"\x00\x00\x05\x01\x04\x00\x00\x00\x01\xff\xff\xff\xff\xff",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_on_the_port_ends_its_own_connection_only(
    server: ServerProcess, rpc: Rpc, place: Place, data: bytes
) -> None:
    with connection(server, data) as opened:
        with suppress(OSError):  # the server may have closed it already
            opened.shutdown(socket.SHUT_WR)
        until_closed(opened)
    assert_serves(rpc, place.queue)


def test_connections_that_end_at_once_do_no_harm(server: ServerProcess, rpc: Rpc, place: Place) -> None:
    for number in range(300):
        with connection(server, (b"", PREFACE, PREFACE + SETTINGS)[number % 3]):
            pass
    assert_serves(rpc, place.queue)


@contextmanager
def open_files(wanted: int) -> Iterator[None]:
    """Raise the limit of open files for this process and its children; skip if that is not allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"needs {wanted:,} open files, and this system allows {hard:,}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_idle_connections_do_not_keep_calls_from_being_served() -> None:
    """1,000 of them, and 10,000 in a soak."""
    count = 10_000 if SOAK else 1_000
    with open_files(count + 500), ServerProcess() as server, closing(Rpc(server.address)) as rpc:
        queue = rpc.new_queue().meta.id
        opened = []
        try:
            for _ in range(count):
                idle = socket.create_connection(("127.0.0.1", server.port), timeout=patient(60))
                opened.append(idle)
                idle.sendall(PREFACE + SETTINGS)
            for idle in opened:
                assert idle.recv(9)[3:4] == b"\x04", "the server sends its settings"
            for _ in range(20):
                assert_serves(rpc, queue)
        finally:
            for idle in opened:
                idle.close()
        assert_serves(rpc, queue)
        assert server.stop() == 0


# Cancelled calls, and clients that vanish


def test_calls_cancelled_as_they_start_leave_whole_messages_or_none(rpc: Rpc, queue: pb.Queue) -> None:
    calls = [rpc.start("Add", add_request(queue.meta.id, b"x" * number)) for number in range(200)]
    for call in calls:
        call.cancel()
    ends = [outcome(call, pb.AddResponse) for call in calls]
    eventually(lambda: rpc.stats(queue.meta.id).waiting_calls == 0, "nothing waits")
    held = [message.payload for message in rpc.pop_all(queue.meta.id)]
    acknowledged = [end.message.payload for end in ends if isinstance(end, pb.AddResponse)]
    assert set(acknowledged) <= set(held)
    assert all(payload == b"x" * len(payload) for payload in held)
    assert_serves(rpc, queue.meta.id)


def test_an_add_cancelled_while_it_waits_adds_nothing(rpc: Rpc) -> None:
    queue = rpc.new_queue(limit=1).meta.id
    rpc.add(queue, b"first")
    call = rpc.start("Add", add_request(queue, b"cancelled", wait=True))
    eventually(lambda: rpc.stats(queue).waiting_calls == 1, "the call waits")
    call.cancel()
    eventually(lambda: rpc.stats(queue).waiting_calls == 0, "the call has gone")
    assert [message.payload for message in rpc.pop_all(queue)] == [b"first"]
    assert rpc.stats(queue).enqueued == 1
    assert_serves(rpc, queue)


def test_an_add_cancelled_while_it_waits_lets_the_next_move_up(rpc: Rpc) -> None:
    queue = rpc.new_queue(limit=1).meta.id
    rpc.add(queue, b"first")
    call = rpc.start("Add", add_request(queue, b"cancelled", wait=True))
    eventually(lambda: rpc.stats(queue).waiting_calls == 1, "the first call waits")
    behind = rpc.start("Add", add_request(queue, b"second", wait=True))
    eventually(lambda: rpc.stats(queue).waiting_calls == 2, "both wait")
    call.cancel()
    eventually(lambda: rpc.stats(queue).waiting_calls == 1, "one has gone")
    assert rpc.pop(queue).payload == b"first"
    assert isinstance(outcome(behind, pb.AddResponse), pb.AddResponse)
    assert rpc.pop(queue).payload == b"second"


@pytest.mark.parametrize("method", ["Pop", "PopBatch"])
def test_a_pop_cancelled_while_it_waits_takes_nothing(rpc: Rpc, queue: pb.Queue, method: str) -> None:
    call = rpc.start(method, pop_request(queue.meta.id, 60))
    eventually(lambda: rpc.stats(queue.meta.id).waiting_calls == 1, "the call waits")
    call.cancel()
    eventually(lambda: rpc.stats(queue.meta.id).waiting_calls == 0, "the call has gone")
    rpc.add(queue.meta.id, b"kept")
    assert rpc.pop(queue.meta.id).payload == b"kept"


def test_pops_cancelled_while_messages_arrive_lose_none(rpc: Rpc, queue: pb.Queue) -> None:
    """Other waiters are woken for the messages that a cancelled call did not take."""
    queue_id = queue.meta.id
    calls = [rpc.start("Pop", pop_request(queue_id, 60)) for _ in range(20)]
    eventually(lambda: rpc.stats(queue_id).waiting_calls == 20, "all wait")
    for call in calls[::2]:
        call.cancel()
    rpc.add_batch(queue_id, [str(number).encode() for number in range(10)])
    for call in calls[1::2]:
        ended = outcome(call, pb.PopResponse)
        if isinstance(ended, Refused):  # the cancelled calls may have been given one before the server noticed
            assert rpc.stats(queue_id).consumed == 10
    assert rpc.stats(queue_id).enqueued == 10
    eventually(
        lambda: rpc.stats(queue_id).waiting_calls == 0 or rpc.get_queue(queue_id).messages.ready == 0, "no idle one"
    )
    for call in calls:
        call.cancel()


VANISHING = """
import sys, grpc
from queuelet.v1 import queue_pb2 as pb
address, queue = sys.argv[1:]
channel = grpc.insecure_channel(address)
request = pb.PopRequest(queue_id=queue)
request.wait.FromSeconds(3600)
stubs = [channel.unary_unary(f"/queuelet.v1.QueueService/{method}") for method in ("Pop", "PopBatch")]
calls = [stub.future(request.SerializeToString()) for stub in stubs]
calls[0].result()
"""


def test_a_client_killed_in_a_long_poll_takes_no_message_with_it(
    server: ServerProcess, rpc: Rpc, queue: pb.Queue
) -> None:
    queue_id = queue.meta.id
    client = subprocess.Popen([sys.executable, "-c", VANISHING, server.address, queue_id])
    try:
        eventually(lambda: rpc.stats(queue_id).waiting_calls == 2, "the client waits")
    finally:
        client.send_signal(signal.SIGKILL)
        client.wait()
    eventually(lambda: rpc.stats(queue_id).waiting_calls == 0, "the server has seen it go")
    rpc.add(queue_id, b"kept")
    assert rpc.pop(queue_id).payload == b"kept"


# Every message that can be added can be consumed


def test_the_largest_message_that_is_accepted_can_be_taken_in_every_way(rpc: Rpc, queue: pb.Queue) -> None:
    """By a client with the limit of 4 MiB: popped, peeked and browsed, singly and in batches."""
    queue_id = queue.meta.id
    fits, refused = DEFAULT_LIMIT - 1_000, DEFAULT_LIMIT
    while refused - fits > 1:
        size = (fits + refused) // 2
        try:
            rpc.add(queue_id, bytes(size))
        except Refused as error:
            assert error.reason == "MESSAGE_TOO_LARGE"  # noqa: PT017  # the other way is no error
            refused = size
        else:
            fits = size
            rpc.pop(queue_id)
    assert fits > DEFAULT_LIMIT - 200, "what is kept free for metadata is small"
    largest = os.urandom(fits)
    assert rpc.add(queue_id, largest).payload == largest
    assert not rpc.add_batch(queue_id, [largest])[0].HasField("error")
    request = pb.PeekRequest(queue_id=queue_id)
    assert rpc.call("Peek", request, pb.PeekResponse).message.payload == largest
    peeked = rpc.call("PeekBatch", pb.PeekBatchRequest(queue_id=queue_id), pb.PeekBatchResponse)
    assert [message.payload for message in peeked.messages] == [largest]
    assert [message.payload for message in rpc.browse_all(queue_id)] == [largest, largest]
    assert rpc.pop(queue_id).payload == largest
    assert [message.payload for message in rpc.pop_all(queue_id)] == [largest]


@pytest.mark.parametrize("count", [1, 64])
def test_the_largest_message_with_tags_and_an_own_id_can_be_taken(rpc: Rpc, queue: pb.Queue, count: int) -> None:
    tags = [(f"key {number}", "ä" * 500) for number in range(count)]
    size = DEFAULT_LIMIT - sum(len(key) + len(value.encode()) for key, value in tags)
    while True:
        request = add_request(queue.meta.id, bytes(size), tags=tags)
        request.message.id = "6F9C0000-1111-4222-8333-444455556666"
        try:
            added = rpc.call("Add", request, pb.AddResponse)
        except Refused as error:
            assert error.reason == "MESSAGE_TOO_LARGE"  # noqa: PT017  # the other way is no error
            size -= int(error.facts["size"]) - DEFAULT_LIMIT
        else:
            break
    assert size > DEFAULT_LIMIT - sum(len(key) + len(value.encode()) + 12 for key, value in tags) - 200
    assert rpc.call("Add", request, pb.AddResponse).duplicate, "this response has one more field"
    assert [message.meta.id for message in rpc.browse_all(queue.meta.id)] == [added.message.meta.id]
    assert rpc.pop(queue.meta.id) == added.message


def test_the_largest_message_can_be_browsed_far_down_a_queue_and_with_more_behind(rpc: Rpc, queue: pb.Queue) -> None:
    """The page has the message and a token, which is longer on a queue with many messages."""
    for _ in range(11):
        rpc.add_batch(queue.meta.id, [b""] * 10_000)
    request = pb.PurgeRequest(queue_id=queue.meta.id, all=True)
    assert rpc.call("Purge", request, pb.PurgeResponse).purged == 110_000
    try:
        rpc.add(queue.meta.id, bytes(DEFAULT_LIMIT))
    except Refused as error:
        largest = DEFAULT_LIMIT - int(error.facts["size"]) + DEFAULT_LIMIT
    rpc.add(queue.meta.id, bytes(largest))
    rpc.add(queue.meta.id, b"behind")
    assert [len(message.payload) for message in rpc.browse_all(queue.meta.id)] == [largest, 6]


def test_the_response_to_a_batch_refused_in_part_fits_what_a_client_receives(rpc: Rpc) -> None:
    """10,000 results, each with an error message about a queue with a long name."""
    name = unique_name("a" * 300)
    rpc.new_queue(name, limit=1)
    results = rpc.add_batch(name, [b""] * 10_000)
    assert len(results) == 10_000
    assert [bool(result.id) for result in results[:2]] == [True, False]
    assert results[-1].error.reason == "QUEUE_FULL"


def test_the_response_to_a_large_declaration_fits_what_a_client_receives(rpc: Rpc) -> None:
    prefix = unique_name("large")
    declarations = [
        pb.QueueDeclaration(
            name=f"{prefix}-{number}", store=pb.Queue.MEMORY, limit=-1, tags=[pb.Tag(key="k", value="v" * 3_800)]
        )
        for number in range(1_080)
    ]
    request = pb.DeclareQueuesRequest(queues=declarations)
    assert request.ByteSize() < DEFAULT_LIMIT
    try:
        results = rpc.call("DeclareQueues", request, pb.DeclareQueuesResponse).results
        assert len(results) == len(declarations)
    finally:
        removals = [pb.QueueRemoval(queue_id=declared.name) for declared in declarations]
        rpc.call("RemoveQueues", pb.RemoveQueuesRequest(queues=removals), pb.RemoveQueuesResponse)


# Arbitrary requests of producers

_texts = st.text(st.characters(codec="utf-8"), max_size=20)
_tags = st.builds(lambda key, value: text(1, key) + text(2, value), _texts, _texts)
_unknown = st.one_of(
    st.builds(integer, st.integers(4, 1 << 28), st.integers(0, (1 << 64) - 1)),
    st.builds(text, st.integers(4, 1 << 28), st.binary(max_size=10)),
    st.builds(fixed64, st.integers(4, 1 << 28), st.binary(min_size=8, max_size=8)),
)
_fields = st.one_of(
    st.builds(text, st.just(1), _tags),
    st.builds(text, st.just(1), st.binary(max_size=10)),
    st.builds(text, st.just(2), st.binary(max_size=300)),
    st.builds(text, st.just(3), st.uuids().map(str) | st.just("") | _texts),
    st.builds(integer, st.integers(1, 3), st.integers(0, 300)),
    _unknown,
)
_valid = st.builds(
    lambda tags, payload: pb.NewMessage(tags=tags, payload=payload).SerializeToString(),
    st.lists(st.builds(lambda key, value: pb.Tag(key=key, value=value), _texts, _texts), max_size=70),
    st.binary(max_size=200) | st.integers(0, 70_000).map(bytes),
)
_assembled = st.lists(_fields, max_size=6).map(b"".join)


def _mutated(data: bytes, edits: list[tuple[int, bytes, int]]) -> bytes:
    for place, insert, drop in edits:
        at = place % (len(data) + 1)
        data = data[:at] + insert + data[at + drop :]
    return data


_edits = st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3), st.integers(0, 3)), min_size=1, max_size=3)
_messages = st.one_of(_valid, _assembled, st.builds(_mutated, _valid | _assembled, _edits), st.binary(max_size=100))


@given(messages=st.lists(_messages, min_size=1, max_size=3), service=st.sampled_from([SERVICE, NEGZ_SERVICE]))
def test_nothing_a_producer_can_send_makes_a_later_pop_fail(rpc: Rpc, messages: list[bytes], service: str) -> None:
    """Accepted messages are returned with the payload and tags that the generated classes decode from the request."""
    queue = rpc.new_queue().meta.id
    expected = []
    for message in messages:
        request = text(1, queue) + text(2, message)
        try:
            rpc.raw(f"{service}/Add", request)
        except Refused as error:
            assert error.code is grpc.StatusCode.INVALID_ARGUMENT, error  # noqa: PT017  # the other way is no error
        else:
            read = pb.AddRequest.FromString(request).message
            expected.append((read.payload, list(dict.fromkeys((tag.key, tag.value) for tag in read.tags))))
    for payload, tags in expected:
        popped = pb.PopResponse.FromString(rpc.raw(f"{service}/Pop", text(1, queue))).message
        assert popped.payload == payload
        assert [(tag.key, tag.value) for tag in popped.meta.tags] == tags
    rpc.delete_queue(queue)


@given(messages=st.lists(_messages, max_size=5), rest=st.sampled_from([b"", integer(99, 1), text(2, b"")]))
def test_nothing_a_producer_can_send_in_a_batch_makes_a_later_pop_fail(
    rpc: Rpc, messages: list[bytes], rest: bytes
) -> None:
    queue = rpc.new_queue().meta.id
    request = text(1, queue) + b"".join(text(2, message) for message in messages) + rest
    try:
        results = pb.AddBatchResponse.FromString(rpc.raw("AddBatch", request)).results
    except Refused as error:
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT, error  # noqa: PT017  # the other way is no error
        assert rpc.stats(queue).enqueued == 0
    else:
        read = pb.AddBatchRequest.FromString(request).messages
        in_order = sorted(zip(read, results, strict=True), key=lambda each: each[0].priority)
        added = [
            (message.payload, list(dict.fromkeys((tag.key, tag.value) for tag in message.tags)))
            for message, result in in_order
            if result.id and not result.duplicate
        ]
        popped = [
            (message.payload, [(tag.key, tag.value) for tag in message.meta.tags]) for message in rpc.pop_all(queue)
        ]
        assert popped == added
    rpc.delete_queue(queue)


METHODS = [method.name for method in pb.DESCRIPTOR.services_by_name["QueueService"].methods]


@given(request=st.binary(max_size=200), method=st.sampled_from(METHODS))
def test_random_bytes_to_any_method_get_a_response(rpc: Rpc, place: Place, request: bytes, method: str) -> None:
    """Usually refused, but never with INTERNAL, which would be a bug."""
    try:
        send(rpc, SERVICE, method, request)
    except Refused as error:
        assert error.code in {  # noqa: PT017  # the other way is no error
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.NOT_FOUND,
            grpc.StatusCode.FAILED_PRECONDITION,
        }, error


# Leaks


def tasks(server: ServerProcess, seen: list[int]) -> int:
    """Make an observed server report its number of tasks."""
    server.signal(signal.SIGUSR1)
    seen.append(1)
    lines: list[dict[str, Any]] = []

    def has_counted() -> bool:
        lines[:] = server.log("observed")
        return len(lines) == len(seen)

    eventually(has_counted, "the server counts its tasks")
    return int(lines[-1]["tasks"])


def test_bad_calls_leave_no_task_and_no_memory_behind() -> None:
    """1,000 of them over all cases in rotation, 10,000 in a soak. A bare server gets the same requests too."""
    calls = 10_000 if SOAK else 1_000
    bare_program = (sys.executable, str(Path(__file__).parent.parent / "support" / "bare_server.py"))
    with ServerProcess(program=OBSERVED) as server, ServerProcess(program=bare_program, free_ports=False) as bare:
        ours, theirs = Rpc(server.address), Rpc(bare.address)
        place = make_place(ours)
        rotation = [(service, case.method, case.request(place)) for case in CASES for service in case.services]
        seen: list[int] = []

        def ask(rpc: Rpc, process: ServerProcess, count: int) -> int:
            """Return the least memory of the second half, because large requests add megabytes for a moment."""
            resident = []
            for number in range(count):
                with pytest.raises(Refused):
                    send(rpc, *rotation[number % len(rotation)])
                if number > count / 2 and number % 50 == 0:
                    resident.append(process.resident_bytes())
            return min(resident)

        growth = {}
        before = 0
        for name, process, rpc in (("ours", server, ours), ("bare", bare, theirs)):
            start = ask(rpc, process, len(rotation))
            if process is server:
                before = tasks(server, seen)
            growth[name] = ask(rpc, process, calls) - start
        eventually(lambda: tasks(server, seen) <= before, "no more tasks than before")
        assert growth["ours"] <= max(growth["bare"], 0) + 16 * MIB, growth
        assert ours.server_stats().memory_bytes > 0
        assert not [line for line in server.log() if line.get("exception")]
        ours.close()
        theirs.close()
        assert server.stop() == 0


def test_cancelled_calls_in_every_state_leave_no_task_behind() -> None:
    with ServerProcess(program=OBSERVED) as server, closing(Rpc(server.address)) as rpc:
        seen: list[int] = []
        queue, full = rpc.new_queue().meta.id, rpc.new_queue(limit=1).meta.id
        rpc.add(full)
        rpc.server_stats()
        before = tasks(server, seen)
        used = rpc.server_stats().memory_bytes

        def waiting() -> int:
            return int(rpc.stats(queue).waiting_calls + rpc.stats(full).waiting_calls)

        for _ in range(3):
            pending: list[Callable[[], object]] = []
            for _ in range(20):
                pending += [rpc.start("Pop", pop_request(queue, 60)).cancel]
                pending += [rpc.start("Add", add_request(full, b"x" * 1000, wait=True)).cancel]
                watch = rpc.watch()
                watch.snapshot()
                pending += [watch.cancel]
            eventually(lambda: waiting() == 40, "all wait")
            assert rpc.server_stats().memory_bytes > used, "what waits is accounted"
            for cancel in pending:
                cancel()
            eventually(lambda: waiting() == 0, "none waits")
        eventually(lambda: tasks(server, seen) <= before, "no more tasks than before")
        assert rpc.server_stats().memory_bytes == used
        assert not [line for line in server.log() if line["level"] == "error"]
        assert server.stop() == 0
