"""Streams of responses as server-sent events.

An event is `snapshot`, `change`, `end` or `error`. Its data is the response as JSON in one line, and its id is its
number in the stream. A client that reads slowly delays the stream instead of filling a buffer: a watch then sends fewer
changes, and a tail skips events and counts them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from aiohttp import web
from google.protobuf.message import Message

from queuelet.rest.held_bytes import Holder
from queuelet.rest.json_form import to_json
from queuelet.rest.refusals import Refusal
from queuelet.v1 import queue_pb2 as pb
from queuelet.web.connections import HttpConnections

SILENCE = 15.0
"""After this many seconds without an event, a comment is sent, so that proxies do not close the connection."""

_PIECE = 64 * 1024
"""The most bytes that are written at once, so that a slow client can be distinguished from one that does not read."""

_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    # Otherwise nginx would collect events instead of passing them on.
    "X-Accel-Buffering": "no",
}


class EventStream:
    """The response to one request. Its headers are sent with the first event."""

    def __init__(
        self, request: web.Request, response: type[Message], connections: HttpConnections, holder: Holder
    ) -> None:
        """Make a stream.

        Args:
            request: the request.
            response: the class of the responses.
            connections: notes when the client reads.
            holder: counts the bytes that wait for it.
        """
        self._request = request
        self._parse: Callable[[bytes], Message] = response.FromString
        self._connections = connections
        self._holder = holder
        self._http = web.StreamResponse(headers=_HEADERS)
        self._number = 0
        self._lock = asyncio.Lock()
        self._comments: asyncio.Task[None] | None = None
        self._in_snapshot = response is pb.WatchQueuesResponse
        self._last = "{}"

    @property
    def has_begun(self) -> bool:
        """Whether the headers were sent."""
        return self._http.prepared

    async def send(self, data: bytes) -> None:
        """Send a response of the call. Raises `ConnectionError` if the client has disconnected."""
        message = self._parse(data)
        name = "snapshot" if self._in_snapshot else "change"
        if isinstance(message, pb.WatchQueuesResponse) and message.snapshot_complete:
            self._in_snapshot = False
        self._last = to_json(message)
        await self._event(name, self._last)

    async def end(self, refusal: Refusal | None) -> web.StreamResponse:
        """Send the last event: `error` with a refusal, otherwise `end` with the last response."""
        with suppress(ConnectionError):
            await (self._event("error", refusal.to_json()) if refusal else self._event("end", self._last))
            await self._http.write_eof()
        return self._http

    def close(self) -> None:
        """Stop sending comments."""
        if self._comments:
            self._comments.cancel()

    async def _event(self, name: str, data: str) -> None:
        if not self._http.prepared:
            await self._http.prepare(self._request)
            self._comments = asyncio.ensure_future(self._send_comments())
        self._number += 1
        await self._write(f"event: {name}\nid: {self._number}\ndata: {data}\n\n".encode())

    async def _send_comments(self) -> None:
        with suppress(ConnectionError):
            while True:
                await asyncio.sleep(SILENCE)
                if not self._lock.locked():
                    await self._write(b": still here\n\n")

    async def _write(self, data: bytes) -> None:
        async with self._lock:
            self._holder.hold(len(data))
            for start in range(0, len(data), _PIECE):
                piece = data[start : start + _PIECE]
                with self._connections.writing(self._request):
                    await self._http.write(piece)
                self._holder.hold(-len(piece))
