"""Calls that look at messages get no payloads, and no way to find out about them."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from queuelet.rest.calls import RestCall, Send
from queuelet.rest.hidden_payloads import HiddenPayloads
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import NEGZ_SERVICE, SERVICE, Code, Status

CALL = RestCall(service=SERVICE, peer_host="", peer_port=0, metadata={}, deadline=None)


@dataclass
class Recorded:
    """A caller that records what it is asked."""

    requests: list[bytes] = field(default_factory=list)
    refusal: Status | None = None

    def admit(self, method: str, call: RestCall) -> Status | None:
        return self.refusal

    def unary(self, method: str, request: bytes, call: RestCall) -> bytes:
        self.requests.append(request)
        return b""

    async def stream(self, method: str, request: bytes, send: Send, call: RestCall) -> Status | None:
        self.requests.append(request)
        return None


def test_browse_asks_for_no_payloads_whatever_the_client_wants() -> None:
    caller = Recorded()
    request = pb.BrowseRequest(queue_id="q", payload_bytes=1_000, selector="a=b")
    HiddenPayloads(caller).unary(f"{SERVICE}/Browse", request.SerializeToString(), CALL)
    (made,) = caller.requests
    assert pb.BrowseRequest.FromString(made) == pb.BrowseRequest(queue_id="q", payload_bytes=0, selector="a=b")


async def test_tail_asks_for_no_payloads_even_if_the_client_leaves_it_open() -> None:
    caller = Recorded()

    async def send(_: bytes) -> None:
        raise AssertionError

    request = pb.TailRequest(queue_id="q").SerializeToString()
    await HiddenPayloads(caller).stream(f"{SERVICE}/Tail", request, send, CALL)
    (made,) = caller.requests
    assert pb.TailRequest.FromString(made).HasField("payload_bytes")
    assert pb.TailRequest.FromString(made).payload_bytes == 0


def test_payloads_cannot_be_searched() -> None:
    caller = Recorded()
    request = pb.BrowseRequest(queue_id="q", contains="secret").SerializeToString()
    status = HiddenPayloads(caller).unary(f"{SERVICE}/Browse", request, CALL)
    assert isinstance(status, Status)
    assert (status.code, status.text.partition(":")[0]) == (Code.PERMISSION_DENIED, "contains")
    assert not caller.requests


@pytest.mark.parametrize("method", [f"{SERVICE}/Peek", f"{SERVICE}/PeekBatch", f"{NEGZ_SERVICE}/Peek"])
def test_a_peek_is_refused_because_it_has_no_place_for_a_size(method: str) -> None:
    status = HiddenPayloads(Recorded()).admit(method, CALL)
    assert status is not None
    assert status.code == Code.PERMISSION_DENIED
    refusal = Status(Code.UNAUTHENTICATED, "token")
    assert HiddenPayloads(Recorded(refusal=refusal)).admit(method, CALL) == refusal


def test_consumers_still_get_payloads() -> None:
    caller = Recorded()
    request = pb.PopRequest(queue_id="q").SerializeToString()
    assert HiddenPayloads(caller).admit(f"{SERVICE}/Pop", CALL) is None
    HiddenPayloads(caller).unary(f"{SERVICE}/Pop", request, CALL)
    assert caller.requests == [request]
