"""RPCs independent of the transport: bytes in, bytes out.

A handler is a plain function from request bytes to response bytes. If a call has to wait, the handler returns an
awaitable instead, so that only calls that wait cost a task. A stream is an async function that sends. A handler refuses
a call by raising a `QueueletError`. If it raises `NotLoaded`, it is called again once its store has loaded what it
reads. Any other exception is a bug: it is logged, the call ends with INTERNAL, and the server goes on.

`Endpoint` adds status, log and latency to a handler. A transport calls endpoints and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import structlog
from google.protobuf.message import DecodeError

from queuelet.core.storage import NotLoaded
from queuelet.errors import InvalidArgument, QueueEmpty, QueueletError, ServerDraining, ShardMoved
from queuelet.server.latency import Latencies
from queuelet.server.lifecycle import Lifecycle
from queuelet.server.loading import until_loaded
from queuelet.wire.errors import NEGZ_SERVICE, Status, negz_status_of, status_of

log = structlog.get_logger()

CANCELLED = "CANCELLED"
"""The status code that metrics show for a call whose client disconnected."""

EXPECTED = (QueueEmpty, ServerDraining, ShardMoved)
"""Refusals that are not logged as errors: an idle consumer polls all the time, and drains and hand-overs end calls."""


class ClientGone(Exception):
    """The client of a stream has disconnected."""


class RefusedElsewhere(Exception):
    """Another server has refused a call that was forwarded to it, and has logged that."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.text)
        self.status = status


class Call(Protocol):
    """What a handler can see of the call besides the request."""

    @property
    def service(self) -> str:
        """The name of the service in the call's path."""

    @property
    def peer(self) -> str:
        """The client's address and port, as the transport writes them."""

    @property
    def peer_host(self) -> str:
        """The client's IP address."""

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the deadline, None if there is none."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata whose values are text."""

    owner: str
    """The address of the server that served the call, if it is another one: a hint for the client. Usually empty."""


Send = Callable[[bytes], Awaitable[None]]
"""Sends one response of a stream; returns once the transport can accept another. Raises `ClientGone`."""

Guard = Callable[[Call], None]
"""Raises an error if a call must be refused."""

UnaryHandler = Callable[[bytes, Call], bytes | Awaitable[bytes]]
StreamHandler = Callable[[AsyncIterator[bytes], Send, Call], Awaitable[None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """One row of a service's table."""

    name: str
    event: str
    """The log message of its calls: negz/q's if it has one (docs/compatibility.md, Q33)."""
    unary: UnaryHandler | None = None
    stream: StreamHandler | None = None


class Endpoint:
    """A method of one service, ready for a transport to call."""

    def __init__(
        self, service: str, method: Method, *, lifecycle: Lifecycle, latencies: Latencies, guard: Guard | None = None
    ) -> None:
        """Make the endpoint of a method under a service's name.

        Args:
            lifecycle: every call is refused once this has stopped.
            latencies: where calls are counted.
            guard: checks each call before its request is read.
        """
        self.service = service
        self._lifecycle = lifecycle
        self._guard = guard
        self.method = method
        self._handler = method.unary
        self._latency = latencies.of(service, method.name)

    @property
    def is_guarded(self) -> bool:
        """Whether each call must be admitted before its request is read."""
        return self._guard is not None

    def admit(self, call: Call) -> Status | None:
        """Return the status to refuse a call with before its request is read, or None to serve it."""
        if self._guard is None and not self._lifecycle.stopped:
            return None
        start = perf_counter()
        try:
            self._lifecycle.check()
            if self._guard:
                self._guard(call)
        except Exception as error:  # noqa: BLE001  # whatever a guard raises, the server goes on
            return self._refused(error, call, start)
        return None

    def unary(self, request: bytes, call: Call) -> bytes | Status | Awaitable[bytes | Status]:
        """Serve an admitted call. Return the response or a status, or an awaitable of either if the call waits."""
        start = perf_counter()
        try:
            if self._lifecycle.stopped:
                self._lifecycle.check()
            response = self._handler(request, call)  # type: ignore[misc]  # a transport calls it only for unary methods
        except NotLoaded as missing:
            return self._wait(self._repeat(request, call, missing), call, start)
        except Exception as error:  # noqa: BLE001  # whatever a handler raises, the server goes on
            return self._refused(error, call, start)
        if isinstance(response, bytes):
            self._latency.observe(perf_counter() - start)
            return response
        return self._wait(response, call, start)

    async def stream(self, requests: AsyncIterator[bytes], send: Send, call: Call) -> Status | None:
        """Serve an admitted stream until it ends. Return None if it succeeded, otherwise its status."""
        start = perf_counter()
        try:
            self._lifecycle.check()
            await self._until_stop(requests, send, call)
        except (ClientGone, asyncio.CancelledError) as end:
            self._latency.observe_refused(perf_counter() - start, CANCELLED)
            if isinstance(end, ClientGone):
                return None
            raise
        except Exception as error:  # noqa: BLE001  # whatever a handler raises, the server goes on
            return self._refused(error, call, start)
        self._latency.observe(perf_counter() - start)
        return None

    async def _until_stop(self, requests: AsyncIterator[bytes], send: Send, call: Call) -> None:
        """Serve a stream until it ends or the server stops.

        A stop cancels the stream unless it is sending, because gRPC cannot send a status while the first response is
        in flight.
        """
        is_sending = False

        async def send_whole(response: bytes) -> None:
            nonlocal is_sending
            is_sending = True
            await send(response)
            is_sending = False
            if self._lifecycle.stopped:
                self._lifecycle.check()

        def stop() -> None:
            if not is_sending:
                serving.cancel()

        serving = asyncio.ensure_future(self.method.stream(requests, send_whole, call))  # type: ignore[misc]  # only for streams
        forget = self._lifecycle.on_stop(stop)
        try:
            await serving
        except asyncio.CancelledError:
            self._lifecycle.check()
            raise
        finally:
            forget()

    async def _repeat(self, request: bytes, call: Call, missing: NotLoaded) -> bytes:
        """Serve a call again once its store has loaded what it reads. It has changed nothing before."""
        while True:
            await until_loaded(missing)
            self._lifecycle.check()
            try:
                response = self._handler(request, call)  # type: ignore[misc]  # as in `unary`
            except NotLoaded as again:
                missing = again
                continue
            return response if isinstance(response, bytes) else await response

    async def _wait(self, response: Awaitable[bytes], call: Call, start: float) -> bytes | Status:
        try:
            waited = await response
        except asyncio.CancelledError:
            self._latency.observe_refused(perf_counter() - start, CANCELLED)
            raise
        except Exception as error:  # noqa: BLE001  # whatever a handler raises, the server goes on
            return self._refused(error, call, start)
        self._latency.observe(perf_counter() - start)
        return waited

    def _refused(self, error: Exception, call: Call, start: float) -> Status:
        if isinstance(error, RefusedElsewhere):
            self._latency.observe_refused(perf_counter() - start, error.status.code.name)
            return error.status
        if isinstance(error, DecodeError):
            error = InvalidArgument(f"request: {error}; send a message as defined in queue.proto", field="request")
        if not isinstance(error, QueueletError):
            log.error(self.method.event, method=self.method.name, peer=call.peer, exc_info=error)
            error = QueueletError("internal error of the server; see its log")
        elif not isinstance(error, EXPECTED):
            log.error(self.method.event, error=error.message, reason=error.reason, **_keys(error))
        status = negz_status_of(error, self.method.name) if self.service == NEGZ_SERVICE else status_of(error)
        self._latency.observe_refused(perf_counter() - start, status.code.name)
        return status


def _keys(error: QueueletError) -> dict[str, str | int]:
    """Return the log fields that identify the queue of an error."""
    return {"queue": error.facts["queue"]} if "queue" in error.facts else {}
