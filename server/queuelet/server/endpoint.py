"""What an RPC is here: bytes in, bytes out, whatever carries them.

A handler is a plain function from request bytes to answer bytes. Where a call has to wait it returns an awaitable of
them instead, so that only calls that wait cost a task. A stream is an async function that sends. All errors a handler
raises are of one type, and what is not of that type is a defect: it is logged and answered INTERNAL, and the server
goes on.

`Endpoint` is a handler with its accounts: status, log and latency. A transport calls endpoints and knows nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import structlog
from google.protobuf.message import DecodeError

from queuelet.errors import InvalidArgument, QueueEmpty, QueueletError, ServerDraining
from queuelet.server.latency import Latencies
from queuelet.server.lifecycle import Lifecycle
from queuelet.wire.errors import NEGZ_SERVICE, Status, negz_status_of, status_of

log = structlog.get_logger()

CANCELLED = "CANCELLED"
"""The code under which calls are counted whose clients went away."""

EXPECTED = (QueueEmpty, ServerDraining)
"""Refusals that are no errors in the log: an idle consumer asks all the time, and every drain ends calls."""


class ClientGone(Exception):
    """The client of a stream is not there any more."""


class Call(Protocol):
    """What a handler may know of the call it serves."""

    @property
    def service(self) -> str:
        """The service it was called by."""

    @property
    def peer(self) -> str:
        """Where it comes from."""

    @property
    def peer_host(self) -> str:
        """The address of the machine it comes from."""

    @property
    def seconds_left(self) -> float | None:
        """How long until its deadline, None without one."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Its metadata, as far as it is text."""


Send = Callable[[bytes], Awaitable[None]]
"""Sends one answer of a stream, and returns when there is room for another. Raises `ClientGone`."""

Guard = Callable[[Call], None]
"""Raises an error for a call that is not to be served."""

UnaryHandler = Callable[[bytes, Call], bytes | Awaitable[bytes]]
StreamHandler = Callable[[AsyncIterator[bytes], Send, Call], Awaitable[None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """One row of a service's table."""

    name: str
    event: str
    """What the log calls it: negz/q's words where it has them (Q33)."""
    unary: UnaryHandler | None = None
    stream: StreamHandler | None = None


class Endpoint:
    """A method of one service as a transport calls it."""

    def __init__(
        self, service: str, method: Method, *, running: Lifecycle, latencies: Latencies, guard: Guard | None = None
    ) -> None:
        """Take the method, the service under which it is called, and what all endpoints share.

        While the server is stopping every call is refused; `guard` raises for a call that is not to be served.
        """
        self.service = service
        self._running = running
        self._guard = guard
        self.method = method
        self._handler = method.unary
        self._latency = latencies.of(service, method.name)

    def admit(self, call: Call) -> Status | None:
        """Refuse a call that is not to be served, before its request is read; None for one that is."""
        if self._guard is None and not self._running.stopped:
            return None
        start = perf_counter()
        try:
            self._running.check()
            if self._guard:
                self._guard(call)
        except Exception as error:  # noqa: BLE001  # whatever a guard raises, the server goes on
            return self._refused(error, call, start)
        return None

    def unary(self, request: bytes, call: Call) -> bytes | Status | Awaitable[bytes | Status]:
        """Serve a call that was admitted: return the response or a status, or an awaitable of them if it waits."""
        start = perf_counter()
        try:
            if self._running.stopped:
                self._running.check()
            answer = self._handler(request, call)  # type: ignore[misc]  # a transport asks only for what is there
        except Exception as error:  # noqa: BLE001  # whatever a handler raises, the server goes on
            return self._refused(error, call, start)
        if isinstance(answer, bytes):
            self._latency.observe(perf_counter() - start)
            return answer
        return self._wait(answer, call, start)

    async def stream(self, requests: AsyncIterator[bytes], send: Send, call: Call) -> Status | None:
        """Serve a stream that was admitted to its end: None if all went well."""
        start = perf_counter()
        try:
            self._running.check()
            await self._until_stop(requests, send, call)
        except (ClientGone, asyncio.CancelledError) as end:
            self._latency.observe_refused(perf_counter() - start, CANCELLED)
            if isinstance(end, ClientGone):
                return None
            raise
        except Exception as error:  # noqa: BLE001  # as above
            return self._refused(error, call, start)
        self._latency.observe(perf_counter() - start)
        return None

    async def _until_stop(self, requests: AsyncIterator[bytes], send: Send, call: Call) -> None:
        """Serve a stream until it ends, or the server stops, whatever the stream waits for.

        Sending is not cancelled, because gRPC cannot send a status where the first answer is still on its way.
        """
        is_sending = False

        async def send_whole(answer: bytes) -> None:
            nonlocal is_sending
            is_sending = True
            await send(answer)
            is_sending = False
            if self._running.stopped:
                self._running.check()

        def stop() -> None:
            if not is_sending:
                serving.cancel()

        serving = asyncio.ensure_future(self.method.stream(requests, send_whole, call))  # type: ignore[misc]  # as above
        forget = self._running.on_stop(stop)
        try:
            await serving
        except asyncio.CancelledError:
            self._running.check()
            raise
        finally:
            forget()

    async def _wait(self, answer: Awaitable[bytes], call: Call, start: float) -> bytes | Status:
        try:
            waited = await answer
        except asyncio.CancelledError:
            self._latency.observe_refused(perf_counter() - start, CANCELLED)
            raise
        except Exception as error:  # noqa: BLE001  # as above
            return self._refused(error, call, start)
        self._latency.observe(perf_counter() - start)
        return waited

    def _refused(self, error: Exception, call: Call, start: float) -> Status:
        if isinstance(error, DecodeError):
            error = InvalidArgument(f"request: {error}; send what queue.proto says", field="request")
        if not isinstance(error, QueueletError):
            log.error(self.method.event, method=self.method.name, peer=call.peer, exc_info=error)
            error = QueueletError("the server failed; its log says how")
        elif not isinstance(error, EXPECTED):
            log.error(self.method.event, error=error.message, reason=error.reason, **_keys(error))
        status = negz_status_of(error, self.method.name) if self.service == NEGZ_SERVICE else status_of(error)
        self._latency.observe_refused(perf_counter() - start, status.code.name)
        return status


def _keys(error: QueueletError) -> dict[str, str | int]:
    """Return which queue an error is about, for the log."""
    return {"queue": error.facts["queue"]} if "queue" in error.facts else {}
