"""The Tail RPC: a sample of what happens to the messages of a queue.

The queue puts events into a bounded buffer and never waits for it (`core/tailing.py`). The stream empties the buffer at
once, so that messages are read before they are gone, and sends what it found a few times a second. A selector needs the
tags of messages, so the stream applies it, and limits the rate again afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from queuelet.clock import CLOCK, now_ns
from queuelet.core.manager import Manager
from queuelet.core.queue import Queue
from queuelet.core.stored_form import cut_payload, decode, tags_of
from queuelet.core.tailing import Event, Tail
from queuelet.errors import InvalidArgument, TooMany
from queuelet.fairness import TimeSlice
from queuelet.selector import Selector, parse_selector
from queuelet.server.endpoint import Call, Send
from queuelet.token_bucket import TokenBucket
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.values import event_kind_to_pb

MAX_TAILS, MAX_TAILS_OF_QUEUE = 100, 10
"""The most streams in the server, and on one queue."""

ALL_PER_SECOND = 5_000
"""The most events a second that all streams of the server sample together: about a twentieth of a core."""

USUAL_RATE, MAX_RATE = 20, 1_000
"""Events a second, if the client sets nothing, and at most."""

USUAL_PAYLOAD, MAX_PAYLOAD_BYTES = 256, 65_536
"""The most bytes of each payload, if the client sets nothing, and at most."""

_LOOKED_AT = 1_000
"""The most events a second that one stream compares with its selector."""

_EVERY = 0.1
"""Seconds between two responses with events."""

_SKIPS_EVERY = 1.0
"""Seconds after which skipped events are reported, if no other event is."""

_SILENCE = 15.0
"""The most seconds without a response."""

_STEP = 50
"""The most events that are taken from the buffer at a time."""

_ENVELOPE = 32
"""The most bytes of a response besides its events, and around each of them."""

_FULL = 256 * 1024
"""A response of this many bytes is sent without waiting for more."""


class TailRpcs:
    """The handler."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._shared = TokenBucket(ALL_PER_SECOND, ALL_PER_SECOND, now_ns())
        self._open = 0

    async def tail(self, requests: AsyncIterator[bytes], send: Send, call: Call) -> None:
        """Send sampled events of a queue until the client ends the stream, or the queue or the server ends."""
        request = pb.TailRequest.FromString(await anext(requests, b""))
        queue = self._manager.get(request.queue_id)
        rate, payload_bytes = _rate(request), _payload_bytes(request)
        selects = parse_selector(request.selector) if request.selector.strip() else None
        if self._open >= MAX_TAILS:
            raise TooMany(f"the server has {self._open} Tail streams, the maximum; end one of them", streams=self._open)
        if queue.tails >= MAX_TAILS_OF_QUEUE:
            raise TooMany(
                f"queue {queue.label} has {queue.tails} Tail streams, the maximum; end one of them", queue=queue.id
            )
        stream = _Stream(queue, send, call.peer_host, selects, rate, payload_bytes, self._manager.bounds.message_bytes)
        self._open += 1
        try:
            await stream.run(self._shared)
        finally:
            self._open -= 1


def _rate(request: pb.TailRequest) -> int:
    if not 0 <= request.per_second <= MAX_RATE:
        raise InvalidArgument(
            f"per_second: {request.per_second:,} is out of range; use 1 to {MAX_RATE:,}, or 0 for {USUAL_RATE}",
            field="per_second",
        )
    return request.per_second or USUAL_RATE


def _payload_bytes(request: pb.TailRequest) -> int:
    if not request.HasField("payload_bytes"):
        return USUAL_PAYLOAD
    if not 0 <= request.payload_bytes <= MAX_PAYLOAD_BYTES:
        raise InvalidArgument(
            f"payload_bytes: {request.payload_bytes:,} is out of range; use 0 to {MAX_PAYLOAD_BYTES:,}, "
            f"or leave it out for {USUAL_PAYLOAD}",
            field="payload_bytes",
        )
    return request.payload_bytes


class _Stream:
    """One stream."""

    def __init__(  # noqa: PLR0913, PLR0917  # each is a fact of its own
        self,
        queue: Queue,
        send: Send,
        peer: str,
        selects: Selector | None,
        rate: int,
        payload_bytes: int,
        message_bytes: int,
    ) -> None:
        self._queue = queue
        self._send = send
        self._peer = peer
        self._selects = selects
        self._rate = rate
        self._selected = TokenBucket(rate, rate, now_ns())
        """The rate of the selected events, if there is a selector."""
        self._payload_bytes = payload_bytes
        self._message_bytes = message_bytes
        self._woken = asyncio.Event()
        self._response = pb.TailResponse()
        self._size = 0
        """The bytes of the events in the response."""
        self._skipped = 0
        """How many events were skipped here, in addition to those of the tail."""
        self._reported = 0
        """How many skipped events were reported."""

    async def run(self, shared: TokenBucket) -> None:
        """Send an empty response, then events."""
        rate = self._rate if self._selects is None else _LOOKED_AT
        tail = Tail(TokenBucket(rate, rate, now_ns()), shared, self._woken.set)
        loop = asyncio.get_running_loop()
        self._queue.tail(tail)
        try:
            await self._report(tail)
            sent = loop.time()
            while True:
                due = sent + self._pause(tail)
                if loop.time() < due:
                    with suppress(TimeoutError):
                        async with asyncio.timeout_at(due):
                            await self._woken.wait()
                self._queue.check_exists()
                if self._woken.is_set():
                    self._woken.clear()
                    await self._collect(tail)
                if loop.time() >= sent + self._pause(tail):
                    await self._report(tail)
                    sent = loop.time()
        finally:
            self._queue.end_tail(tail)

    def _pause(self, tail: Tail) -> float:
        """Return how many seconds after the last response the next one is due."""
        if self._response.events:
            return _EVERY
        return _SKIPS_EVERY if self._skipped + tail.skipped > self._reported else _SILENCE

    async def _collect(self, tail: Tail) -> None:
        """Move the buffered events that are selected into the response."""
        time_slice = TimeSlice(self._peer)
        await time_slice.begin()
        while events := self._queue.take_events(tail, _STEP):
            for event in events:
                self._add(event)
            if self._size >= min(_FULL, self._message_bytes):
                await self._report(tail)
                await time_slice.begin()
            await time_slice.give()
            self._queue.check_exists()

    def _add(self, event: Event) -> None:
        if event.body is None:
            self._skipped += 1  # it was removed before it could be read, so nothing but its number is known
            return
        if self._selects is not None:
            if not self._selects(tags_of(event.body)):
                return
            if not self._selected.available(now_ns()):
                self._skipped += 1
                return
            self._selected.take(1)
        body, payload_size = cut_payload(event.body, self._payload_bytes)
        message = pb.TailEvent(
            kind=event_kind_to_pb(event.kind), message=decode(body), payload_size=payload_size, consumer=event.consumer
        )
        message.time.FromNanoseconds(CLOCK.shown(event.time))
        if event.held is not None:
            message.held.FromNanoseconds(event.held)
        size = message.ByteSize() + _ENVELOPE
        if size > self._message_bytes:
            self._skipped += 1
            return
        self._response.events.append(message)
        self._size += size

    async def _report(self, tail: Tail) -> None:
        """Send the response in as many pieces as necessary."""
        events, self._response, self._size = list(self._response.events), pb.TailResponse(), 0
        skipped = self._skipped + tail.skipped
        piece = pb.TailResponse(skipped=skipped - self._reported)
        self._reported = skipped
        space = self._message_bytes - _ENVELOPE
        for event in events:
            size = event.ByteSize() + _ENVELOPE
            if size > space and piece.events:
                await self._send(piece.SerializeToString())
                piece, space = pb.TailResponse(), self._message_bytes - _ENVELOPE
            piece.events.append(event)
            space -= size
        await self._send(piece.SerializeToString())
