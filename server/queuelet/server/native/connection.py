"""One connection: bytes between its socket and the core, and calls between the core and endpoints."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import ClassVar, cast

from grpc_sansio import (
    CALL,
    CLOSED,
    HALF_CLOSED,
    MESSAGE,
    PONG,
    REFUSED,
    RESET,
    SENT,
    UNARY,
    Event,
    ServerConnection,
)
from queuelet.server.incoming import Flow
from queuelet.server.native.call import NativeCall
from queuelet.server.native.open_call import OpenCall
from queuelet.server.native.port import Port
from queuelet.server.native.stream import Stream
from queuelet.server.transport import (
    ENDLESS,
    KEEPALIVE_TIMEOUT,
    NO_REQUEST,
    TOO_MANY_UNGUARDED,
    UNGUARDED_STREAMS,
    details_for,
)
from queuelet.wire.errors import Code, Status
from queuelet.wire.forwarding import OWNER

_EXPIRED = Status(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")

_BEGINNING = 33
"""The bytes with which each client begins: the preface of HTTP/2, and the header of its first SETTINGS frame."""

_PING_AT = 2
_ABORT_AT = 3
"""At the first number of ticks without a byte from the client it gets a ping, and at the second one it is gone.

A tick is `KEEPALIVE_TIMEOUT`, so a client that vanished is detected after 10 to 15 seconds.
"""


class Connection(asyncio.Protocol):
    """A connection to the port, from the moment when it is accepted."""

    def __init__(self, port: Port, accepted: socket.socket, peer: str) -> None:
        """Make it for an accepted socket, of which asyncio makes a transport; `peer` is as gRPC writes it."""
        self._port = port
        self._socket = accepted
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self.flow: Flow = port.incoming.flow(peer)
        """What it holds, as `IncomingLimit` sees it."""
        self._peer_host = self.flow.peer.host
        self._core = ServerConnection(port.settings)
        self._transport: asyncio.Transport | None = None
        self._open: dict[int, OpenCall] = {}
        """The calls that were not served at once, by number."""
        self._is_flush_due = False
        self._is_full = False
        """Whether the socket's buffer is full."""
        self._is_reading = True
        self._is_over = False
        self._beginning_left = _BEGINNING
        self._silent_ticks = 0
        self._ticks = self._loop.call_later(KEEPALIVE_TIMEOUT, self._tick)
        port.add(self)

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to serve."""
        self._transport = cast("asyncio.Transport", transport)
        if self._port.is_draining:
            self.drain()

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client, and answer them."""
        self._silent_ticks = 0
        if self._beginning_left > 0:
            self._beginning_left -= len(data)
        self._handle(self._core.receive(data))
        self._flush()

    def eof_received(self) -> None:
        """End the connection: a client that has closed its side gets no responses."""
        self._handle(self._core.receive(b""))
        self._flush()

    def connection_lost(self, _: Exception | None) -> None:
        """End the calls that are still open."""
        self._is_over = True
        self._ticks.cancel()
        self._handle(self._core.receive(b""))
        for opened in list(self._open.values()):
            self._forget(opened)
            opened.end()
        self.flow.calls = 0
        self._port.remove(self)

    def pause_writing(self) -> None:
        """Send nothing while the socket's buffer is full."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Go on."""
        self._is_full = False
        self._flush()

    # What the port and its drain call

    def measure(self) -> int:
        """Update its flow; return how many bytes to count as received for that.

        The core knows what it holds, so the flow needs no estimate: a connection that has received a call counts as
        used by one byte, which is handed over.
        """
        flow, core = self.flow, self._core
        flow.calls = core.open_calls
        flow.handed_over = min(core.last_call, 1)
        flow.overhead_correction = 0
        return flow.handed_over + core.held_bytes + core.unsent_bytes

    def abort(self) -> None:
        """End it at once."""
        if self._transport:
            self._transport.abort()
        else:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def failed(self) -> None:
        """Forget it, because its handshake failed."""
        self._ticks.cancel()
        self._port.remove(self)

    def drain(self) -> None:
        """Ask the client to start no new calls; the connection ends with the last open one."""
        self._core.drain()
        self._flush()

    @property
    def open_calls(self) -> int:
        """The number of open calls."""
        return self._core.open_calls

    def close(self, status: Status) -> Iterable[asyncio.Task[None]]:
        """End each open call with a status, and then the connection; return the handlers that are still ending."""
        tasks = [opened.task for opened in self._open.values() if opened.task]
        for opened in list(self._open.values()):
            self._refuse(opened.call, status)
            self._drop(opened)
        self._flush()
        self._core.close()
        self._handle(self._core.events())
        self._flush()
        return tasks

    # What streams call

    def consumed(self, number: int, size: int) -> None:
        """Let the client send as many bytes more on a call."""
        self._core.consumed(number, size)
        self._flush_soon()

    def send(self, number: int, message: bytes) -> None:
        """Send a response of a stream."""
        self._core.send(number, message)
        self._flush_soon()

    # Events of the core

    def _handle(self, events: Iterable[Event]) -> None:
        unary, served, core = self._port.unary, self._port.served, self._core
        for kind, number, index, value, data in events:
            if kind != UNARY:
                self._ON[kind](self, number, index, value, data)
                continue
            opened = self._open.get(number)
            if opened:
                self._port.overdue.done(opened)
                call = opened.call
            else:
                call = NativeCall(served[index].service, core, number, self._peer, self._peer_host, value)
            response = unary[index](data, call)
            if isinstance(response, bytes):
                core.reply(number, response)
            elif isinstance(response, Status):
                self._refuse(call, response)
            else:
                self._wait(opened or self._opened(call, value), response)
                continue
            if opened:
                self._forget(opened)

    def _on_call(self, number: int, index: int, timeout_ms: int, _: bytes) -> None:
        endpoint = self._port.served[index]
        call = NativeCall(endpoint.service, self._core, number, self._peer, self._peer_host, timeout_ms)
        status = endpoint.admit(call)
        is_unguarded = self._port.is_stream[index] and self._port.is_unguarded[index]
        if is_unguarded and self.flow.unguarded >= UNGUARDED_STREAMS:
            status = TOO_MANY_UNGUARDED
        if status is not None:
            self._refuse(call, status)
            return
        opened = self._opened(call, timeout_ms)
        self._port.overdue.start(opened, partial(self._end_early, opened, self._port.overdue_status))
        if is_unguarded:
            opened.is_unguarded = True
            self.flow.unguarded += 1
        self._core.admit(number)
        if self._port.is_stream[index]:
            opened.stream = Stream(self, number)
            opened.task = self._loop.create_task(self._serve_stream(opened, opened.stream, index))

    def _on_message(self, number: int, _: int, __: int, data: bytes) -> None:
        opened = self._open.get(number)
        if opened and opened.stream:
            self._port.overdue.done(opened)
            opened.stream.receive(data)

    def _on_half_closed(self, number: int, _: int, __: int, ___: bytes) -> None:
        opened = self._open.get(number)
        if not opened:
            # A unary call whose end arrived with its headers.
            self._core.finish(number, NO_REQUEST.code, NO_REQUEST.text)
            return
        self._port.overdue.done(opened)
        if opened.stream:
            opened.stream.half_close()
        else:
            self._end_early(opened, NO_REQUEST)

    def _on_end(self, number: int, _: int, __: int, ___: bytes) -> None:
        """Note that the client has cancelled a call, or that the core has refused it."""
        opened = self._open.get(number)
        if opened:
            self._drop(opened)

    def _on_sent(self, number: int, _: int, size: int, __: bytes) -> None:
        opened = self._open.get(number)
        if opened and opened.stream:
            opened.stream.sent(size)

    def _on_pong(self, _: int, __: int, ___: int, ____: bytes) -> None:
        """Note nothing: any byte from the client shows that it is there."""

    def _on_closed(self, _: int, __: int, ___: int, ____: bytes) -> None:
        self._is_over = True

    _ON: ClassVar[Mapping[int, Callable[[Connection, int, int, int, bytes], None]]] = {
        CALL: _on_call,
        MESSAGE: _on_message,
        HALF_CLOSED: _on_half_closed,
        RESET: _on_end,
        REFUSED: _on_end,
        SENT: _on_sent,
        PONG: _on_pong,
        CLOSED: _on_closed,
    }
    """What to do for each kind of event but UNARY."""

    # Calls that are not served at once

    def _opened(self, call: NativeCall, timeout_ms: int) -> OpenCall:
        opened = self._open[call.number] = OpenCall(call)
        seconds = timeout_ms / 1_000
        if 0 < seconds < ENDLESS:
            opened.timer = self._loop.call_later(seconds, self._end_early, opened, _EXPIRED)
        return opened

    def _wait(self, opened: OpenCall, response: Awaitable[bytes | Status]) -> None:
        opened.task = self._loop.create_task(self._respond(opened, response))

    async def _respond(self, opened: OpenCall, response: Awaitable[bytes | Status]) -> None:
        try:
            ready = await response
        except asyncio.CancelledError:
            return  # the call has ended
        call = opened.call
        if not isinstance(ready, bytes):
            self._refuse(call, ready)
        elif call.owner:
            self._core.send(call.number, ready)
            self._core.finish(call.number, metadata=_hint(call))
        else:
            self._core.reply(call.number, ready)
        self._forget(opened)
        self._flush_soon()

    async def _serve_stream(self, opened: OpenCall, stream: Stream, index: int) -> None:
        call = opened.call
        try:
            status = await self._port.served[index].stream(stream, stream.send, call)
        except asyncio.CancelledError:
            return  # the call has ended
        if status is None:
            self._core.finish(call.number, metadata=_hint(call))
        else:
            self._refuse(call, status)
        self._forget(opened)
        self._flush_soon()

    def _refuse(self, call: NativeCall, status: Status) -> None:
        self._core.finish(call.number, status.code, status.text, details_for(status, call), _hint(call))

    def _end_early(self, opened: OpenCall, status: Status) -> None:
        """End a call before its handler does."""
        self._refuse(opened.call, status)
        self._drop(opened)
        self._flush_soon()

    def _drop(self, opened: OpenCall) -> None:
        """Stop the handler of a call that has ended."""
        self._forget(opened)
        opened.end()

    def _forget(self, opened: OpenCall) -> None:
        if self._open.pop(opened.call.number, None) is None:
            return
        self._port.overdue.done(opened)
        if opened.timer:
            opened.timer.cancel()
        if opened.is_unguarded:
            self.flow.unguarded -= 1

    # The socket

    def _flush_soon(self) -> None:
        """Send what there is at the end of this turn of the event loop, in one piece."""
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        core, transport = self._core, self._transport
        if transport is None or transport.is_closing():
            return
        while not self._is_full:
            data = core.data_to_send()
            if data:
                transport.write(data)
            events = core.events()
            if events:
                self._handle(events)
            elif not core.more_to_send:
                break
        if self._is_over:
            transport.close()
        elif self._is_reading != core.reading:
            self._is_reading = core.reading
            if self._is_reading:
                transport.resume_reading()
            else:
                transport.pause_reading()

    def _tick(self) -> None:
        """Check that the client is there."""
        self._silent_ticks += 1
        if self._silent_ticks >= _ABORT_AT or (self._silent_ticks >= _PING_AT and self._beginning_left > 0):
            self.abort()
            return
        if self._silent_ticks == _PING_AT:
            self._core.ping()
            self._flush()
        self._ticks = self._loop.call_later(KEEPALIVE_TIMEOUT, self._tick)


def _hint(call: NativeCall) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata of a response: which server owns the queue, if it is not this one."""
    return ((OWNER, call.owner),) if call.owner else ()
