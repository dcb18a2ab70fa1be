"""Plain requests to add or pop one message are parsed as the generated classes would parse them, or not at all.

They get the responses that the same requests get on the usual path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from queuelet.bounds import Bounds
from queuelet.core.queue import Queue
from queuelet.definition import QueueDefinition
from queuelet.server.endpoint import Call, Endpoint
from queuelet.server.handlers import adding, messages
from queuelet.server.handlers.service import Service
from queuelet.server.latency import Latencies
from queuelet.server.lifecycle import Lifecycle
from queuelet.server.plain_request import read_plain_add, read_plain_pop
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import NEGZ_SERVICE, SERVICE, Status
from queuelet.wire.varint import varint
from support.queues import PLENTY, make_manager

SIZES = (1, 121, 122, 123, 124, 125, 126, 127, 128, 129, 16_376, 16_380, 16_384, 2_097_140, 2_097_153)
"""Sizes of payloads around those where a length needs one more byte."""

LONGEST_PLAIN = 127
"""The most bytes of a queue's name or ID in a plain request."""

payloads = st.binary(min_size=1, max_size=300) | st.sampled_from(SIZES).map(bytes)
references = st.text(max_size=10) | st.sampled_from([LONGEST_PLAIN, LONGEST_PLAIN + 1, 300]).map("q".__mul__)
adds = st.builds(
    pb.AddRequest,
    queue_id=references,
    message=st.builds(
        pb.NewMessage,
        payload=st.just(b"") | payloads,
        priority=st.integers(0, 1),
        id=st.sampled_from(["", "6f9c0000-1111-4222-8333-444455556666"]),
        tags=st.lists(st.just(pb.Tag(key="team", value="a")), max_size=1),
    ),
    wait=st.booleans(),
).map(pb.AddRequest.SerializeToString)
pops = st.builds(pb.PopRequest, queue_id=references, request_id=st.text(max_size=5)).map(
    pb.PopRequest.SerializeToString
)
# Whole and cut fields, fields twice, of another wire type or unknown, lengths of too many bytes, bad UTF-8, and groups.
pieces = st.sampled_from([
    b"\x0a\x01q", b"\x0a\x00", b"\x0a\x81\x00q", b"\x0a\x02\xff\xfe", b"\x0a\x03\xed\xa0\x80", b"\x08\x05",
    b"\x12\x03\x12\x01x", b"\x12\x00", b"\x12\x02\x12\x00", b"\x12\x83\x00\x12\x01x", b"\x12\x04\x12\x81\x00x",
    b"\x12\x06\x12\x01x\x12\x01y", b"\x12\x02\x08\x05", b"\x12\x05\x12\x01x\x18\x01", b"\x12\x03\x12\x02x", b"\x12",
    b"\x18\x01", b"\x18\x00", b"\x22\x01u", b"\x9a\x06\x01u", b"\x15\x00\x00\x00\x00", b"\x13\x14", b"\x0c",
    b"\x02\x01x",
])  # fmt: skip


def requests(whole: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return whole requests, those with a byte changed or cut off, and arbitrary bytes."""
    cut = st.tuples(whole, st.integers(0, 20)).map(lambda given: given[0][: len(given[0]) - given[1]])
    changed = st.tuples(whole, st.integers(0, 60), st.integers(0, 255)).map(
        lambda given: given[0][: given[1]] + bytes((given[2],)) + given[0][given[1] + 1 :]
    )
    joined = st.lists(pieces | whole, max_size=5).map(b"".join)
    return st.one_of(whole, joined, cut, changed, st.binary(max_size=40))


@given(requests(adds))
@example(b"\x0a\x01q")
@example(b"\x0a\x01q\x12\x03\x12\x01x")
@example(b"\x0a\x03\xed\xa0\x80\x12\x03\x12\x01x")
def test_our_parser_reads_an_add_as_the_generated_class_does(request: bytes) -> None:
    found = read_plain_add(request)
    if found is not None:
        queue, payload = found
        assert pb.AddRequest.FromString(request) == pb.AddRequest(
            queue_id=queue, message=pb.NewMessage(payload=payload)
        )


@given(requests(pops))
@example(b"\x0a\x01q")
@example(b"\x0a\x02\xff\xfe")
def test_our_parser_reads_a_pop_as_the_generated_class_does(request: bytes) -> None:
    queue = read_plain_pop(request)
    if queue is not None:
        assert pb.PopRequest.FromString(request) == pb.PopRequest(queue_id=queue)


@given(st.text(min_size=1, max_size=30) | st.just("q" * LONGEST_PLAIN), payloads)
def test_our_parser_reads_the_requests_of_our_client(queue: str, payload: bytes) -> None:
    add = pb.AddRequest(queue_id=queue, message=pb.NewMessage(payload=payload))
    assert read_plain_add(add.SerializeToString()) == (queue, payload)
    assert read_plain_pop(pb.PopRequest(queue_id=queue).SerializeToString()) == queue


@pytest.mark.parametrize("size", SIZES)
def test_a_plain_add_of_any_size_is_read(size: int) -> None:
    add = pb.AddRequest(queue_id="orders", message=pb.NewMessage(payload=bytes(size)))
    assert read_plain_add(add.SerializeToString()) == ("orders", bytes(size))


NOW = 1_700_000_000_123_456_789

QUEUE_ID = "6f9c0000-1111-4222-8333-444455556666"


class _Call:
    peer, peer_host, owner = "ipv4:127.0.0.1:1", "127.0.0.1", ""
    seconds_left = None
    metadata: Mapping[str, str] = MappingProxyType({})

    def __init__(self, service: str) -> None:
        self.service = service


class _Server:
    """The endpoints of one service, with a queue `orders`."""

    def __init__(self, service: str, *, limit: int = -1, watermark: int = PLENTY, draining: bool = False) -> None:
        manager = make_manager(bounds=Bounds(message_bytes=1_000), watermark=watermark)
        self.queue: Queue = manager.new(QueueDefinition(name="orders", limit=limit), now=1, queue_id=QUEUE_ID)
        if draining:
            self.queue.redefine(replace(self.queue.definition, draining=True), now=1)
        self.call: Call = _Call(service)
        lifecycle, latencies = Lifecycle(), Latencies()
        table = Service(manager, lifecycle, started=0).tables()[service]
        self._endpoints = {
            method.name: Endpoint(service, method, lifecycle=lifecycle, latencies=latencies) for method in table
        }

    def serve(self, method: str, request: bytes) -> bytes | Status:
        """Return the response, without what differs between two queues: IDs and times."""
        response = self._endpoints[method].unary(request, self.call)
        assert isinstance(response, bytes | Status)
        if isinstance(response, Status):
            return response
        parsed = pb.AddResponse.FromString(response)
        assert parsed.message.meta.id
        assert parsed.message.meta.created.seconds
        parsed.message.meta.Clear()
        return parsed.SerializeToString(deterministic=True)


UNKNOWN = b"\xfa\x06" + varint(1) + b"u"
"""A field that no request has, so that a request with it is not plain."""

SERVERS: dict[str, Callable[[str], _Server]] = {
    "usual": _Server,
    "limited": partial(_Server, limit=3),
    "draining": partial(_Server, draining=True),
    "of little memory": partial(_Server, watermark=5_000),
}


@pytest.mark.parametrize("service", [SERVICE, NEGZ_SERVICE])
@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
@given(steps=st.lists(st.sampled_from(["Pop", *(bytes(size) for size in (1, 5, 126, 128, 850, 1_000))]), max_size=12))
@example(steps=["Pop"])
@example(steps=[b"a", b"b", b"c", b"d", "Pop", b"e"])
@example(steps=[bytes(1_000)])
def test_a_plain_request_gets_the_response_of_the_usual_path(
    server: Callable[[str], _Server], service: str, steps: list[str | bytes]
) -> None:
    fast, usual = server(service), server(service)
    with pytest.MonkeyPatch.context() as patch:
        for module in (adding, messages):  # or else a time may take one byte more in one of the two
            patch.setattr(module, "now_ns", lambda: NOW)
        _compare(fast, usual, steps)


def _compare(fast: _Server, usual: _Server, steps: list[str | bytes]) -> None:
    """Have the two servers serve the same, one of them with requests that are not plain."""
    for step in steps:
        if isinstance(step, str):
            method, request = "Pop", pb.PopRequest(queue_id="orders").SerializeToString()
            assert read_plain_pop(request) is not None
            assert read_plain_pop(request + UNKNOWN) is None
        else:
            message = pb.NewMessage(payload=step)
            method, request = "Add", pb.AddRequest(queue_id="orders", message=message).SerializeToString()
            assert read_plain_add(request) is not None
            assert read_plain_add(request + UNKNOWN) is None
        assert fast.serve(method, request) == usual.serve(method, request + UNKNOWN)
        assert fast.queue.counts == usual.queue.counts
        assert fast.queue.stored_bytes == usual.queue.stored_bytes


@pytest.mark.parametrize("reference", ["", "missing", "ORDERS", "q" * 100, "6f9c0000-1111-4222-8333-444455557777"])
def test_a_plain_request_to_a_missing_queue_is_refused_as_on_the_usual_path(reference: str) -> None:
    server = _Server(SERVICE)
    add = pb.AddRequest(queue_id=reference, message=pb.NewMessage(payload=b"x")).SerializeToString()
    pop = pb.PopRequest(queue_id=reference).SerializeToString()
    for method, request in (("Add", add), ("Pop", pop)):
        refused = server.serve(method, request)
        assert isinstance(refused, Status)
        assert refused == server.serve(method, request + UNKNOWN)
