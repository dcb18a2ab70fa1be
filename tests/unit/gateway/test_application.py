"""The gateway's port with a caller that does what a test needs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import ClientPayloadError, ClientSession, ClientTimeout, web

from queuelet.bounds import Bounds
from queuelet.gateway.application import GatewayPort
from queuelet.rest import events
from queuelet.rest.calls import RestCall, Send
from queuelet.v1 import queue_pb2 as pb
from queuelet.web.connections import HttpConnections
from queuelet.wire.errors import Code, Status
from support.patience import patient

MIB = 1 << 20


@dataclass
class FakeCaller:
    """Makes no calls; a test sets what it does instead."""

    on_unary: Callable[[bytes, RestCall], Awaitable[bytes | Status]] | None = None
    on_stream: Callable[[Send], Awaitable[Status | None]] | None = None
    refusal: Status | None = None
    made: list[str] = field(default_factory=list)

    def admit(self, method: str, call: RestCall) -> Status | None:
        """Refuse all calls if the test wants that."""
        return self.refusal

    async def unary(self, method: str, request: bytes, call: RestCall) -> bytes | Status:
        """Do what the test wants."""
        self.made.append(method)
        return await self.on_unary(request, call) if self.on_unary else b""

    async def stream(self, method: str, request: bytes, send: Send, call: RestCall) -> Status | None:
        """Do what the test wants."""
        self.made.append(method)
        return await self.on_stream(send) if self.on_stream else None


@asynccontextmanager
async def serving(
    caller: FakeCaller, seconds: float = 60.0, more: Iterable[web.AbstractRouteDef] = (), **bounds: float
) -> AsyncIterator[str]:
    """Serve on a free port, maybe with more routes; yield its base URL."""
    port = GatewayPort(
        caller=caller,
        connections=HttpConnections(seconds, 100),
        bounds=Bounds(**bounds),  # type: ignore[arg-type]  # any of its fields
        more=more,
    )
    number = await port.listen("127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{number}"
    finally:
        await port.stop()


async def ask(
    url: str, method: str = "GET", *, data: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, object]]:
    """Send a request; return the status and the JSON of its response."""
    async with (
        ClientSession(timeout=ClientTimeout(patient(60))) as session,
        session.request(method, url, data=data, headers=headers) as response,
    ):
        return response.status, json.loads(await response.read())


async def forever(*_: object) -> bytes:
    await asyncio.Event().wait()
    return b""


async def test_a_call_that_takes_too_long_is_504_and_on_negz_q_s_routes_408() -> None:
    async with serving(FakeCaller(on_unary=forever)) as url:
        soon = {"Grpc-Timeout": "50m"}
        status, body = await ask(f"{url}/v1/stats", headers=soon)
        assert (status, body["code"], body["reason"]) == (504, 4, "DEADLINE_EXCEEDED")
        status, body = await ask(f"{url}/v1/queues", headers=soon)
        assert (status, body["code"]) == (408, 4)


async def test_a_call_has_a_minute_unless_its_header_says_otherwise() -> None:
    left: list[float | None] = []

    async def note(_: bytes, call: RestCall) -> bytes:
        left.append(call.seconds_left)
        return b""

    async with serving(FakeCaller(on_unary=note)) as url:
        await ask(f"{url}/v1/stats")
        await ask(f"{url}/v1/stats", headers={"Grpc-Timeout": "2M"})
    usual, longer = left
    assert usual is not None
    assert longer is not None
    assert 0 < usual <= 60 < longer <= 120


async def test_the_call_has_the_client_s_address_and_token_and_nothing_else_of_its_headers() -> None:
    calls: list[RestCall] = []

    async def note(_: bytes, call: RestCall) -> bytes:
        calls.append(call)
        return b""

    async with serving(FakeCaller(on_unary=note)) as url:
        await ask(f"{url}/v1/stats", headers={"Authorization": "Bearer x", "X-Forwarded-User": "root"})
        await ask(f"{url}/v1/queues")
    ours, negz = calls
    assert ours.metadata == {"authorization": "Bearer x"}
    assert ours.peer_host == "127.0.0.1"
    assert ours.peer == f"ipv4:127.0.0.1:{ours.peer_port}"
    assert (ours.service, negz.service) == ("queuelet.v1.QueueService", "proto.Q")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_call_that_is_not_admitted_is_refused_before_its_body_is_read(method: str) -> None:
    caller = FakeCaller(refusal=Status(Code.PERMISSION_DENIED, "no"))
    async with serving(caller) as url:
        status, body = await ask(f"{url}/v1/queues", method, data=b"{" if method == "POST" else None)
    assert (status, body["code"], body["error"]) == (403, 7, "no")
    assert not caller.made


async def test_a_defect_is_500_without_its_text() -> None:
    async def fail(*_: object) -> bytes:
        raise RuntimeError("a secret")

    async with serving(FakeCaller(on_unary=fail)) as url:
        status, body = await ask(f"{url}/v1/stats")
    assert (status, body["code"]) == (500, 13)
    assert "secret" not in str(body)


# Streams


@pytest.mark.need(52)
async def test_a_silent_stream_sends_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SILENCE", 0.01)
    may_end = asyncio.Event()

    async def silent(send: Send) -> None:
        await send(pb.TailResponse().SerializeToString())
        await may_end.wait()

    async with (
        serving(FakeCaller(on_stream=silent)) as url,
        ClientSession() as session,
        session.get(f"{url}/v1/queues/q/messages:tail") as response,
    ):
        assert await response.content.readuntil(b"\n\n") == b"event: change\nid: 1\ndata: {}\n\n"
        for _ in range(3):
            assert await response.content.readuntil(b"\n\n") == b": still here\n\n"
        may_end.set()
        assert (await response.content.read()).endswith(b"event: end\nid: 2\ndata: {}\n\n")


async def test_a_stream_without_responses_has_an_end() -> None:
    async with (
        serving(FakeCaller()) as url,
        ClientSession() as session,
        session.get(f"{url}/v1/queues:watch") as response,
    ):
        assert await response.text() == "event: end\nid: 1\ndata: {}\n\n"


async def test_a_stream_is_cancelled_when_its_client_leaves() -> None:
    ended = asyncio.Event()

    async def endless(send: Send) -> None:
        try:
            await send(b"")
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving(FakeCaller(on_stream=endless)) as url:
        async with ClientSession() as session, session.get(f"{url}/v1/queues:watch") as response:
            await response.content.readuntil(b"\n\n")
        async with asyncio.timeout(patient(30)):
            await ended.wait()


async def test_a_client_that_reads_slowly_delays_the_stream_and_fills_no_buffer() -> None:
    sent = 0

    async def fast(send: Send) -> None:
        nonlocal sent
        one = pb.TailResponse(events=[pb.TailEvent(message=pb.Message(payload=b"x" * MIB))]).SerializeToString()
        while True:
            await send(one)
            sent += 1

    async with (
        serving(FakeCaller(on_stream=fast)) as url,
        ClientSession() as session,
        session.get(f"{url}/v1/queues/q/messages:tail") as response,
    ):
        await response.content.readuntil(b"\n")
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.1)
        # What fits the kernel's buffers and the client's.
        assert sent < 20


async def test_a_client_that_does_not_read_at_all_loses_its_connection() -> None:
    ended = asyncio.Event()

    async def fast(send: Send) -> None:
        try:
            while True:
                await send(
                    pb.TailResponse(events=[pb.TailEvent(message=pb.Message(payload=b"x" * MIB))]).SerializeToString()
                )
        finally:
            ended.set()

    async with serving(FakeCaller(on_stream=fast), seconds=0.3) as url:
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]), limit=1)
        writer.write(b"GET /v1/queues/q/messages:tail HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(patient(30)):
            await ended.wait()
        writer.close()


async def test_a_long_poll_is_not_a_connection_that_stands_still() -> None:
    async def late(*_: object) -> bytes:
        await asyncio.sleep(1.2)
        return b""

    async with serving(FakeCaller(on_unary=late), seconds=0.2) as url:
        assert (await ask(f"{url}/v1/queues/q/messages:pop", "POST"))[0] == 200


async def test_a_client_that_leaves_while_a_response_is_written_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    """Between the end of a connection and the cancellation of its handler, a write fails."""

    async def leave(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        assert request.transport
        request.transport.close()  # as if the client had closed it
        await response.write(b"more")
        return response

    async with serving(FakeCaller(), more=[web.get("/leave", leave)]) as url, ClientSession() as session:
        with pytest.raises(ClientPayloadError):
            async with session.get(f"{url}/leave") as response:
                await response.read()
    assert not [record for record in caplog.records if record.name == "aiohttp.server"]
