"""The RPCs that move messages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import time_ns

from queuelet.codec import NewMessage, added, browsed, id_of, next_page, same_content, tags_of
from queuelet.definition import State
from queuelet.errors import InvalidArgument, MessageExists, QueueletError, QueueNotFound, ServerDraining
from queuelet.manager import Manager
from queuelet.queue import AddResult, Duplicate, Queue
from queuelet.rpc import Call
from queuelet.running import Running
from queuelet.selector import parse_selector
from queuelet.service.turns import Turns
from queuelet.status import error_to_pb
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire import (
    check_batch,
    checked_uuid,
    message_from_pb,
    number_from_token,
    page_size_from_pb,
    seconds_from_pb,
    states_from_pb,
)

_DUPLICATE = b"\x10\x01"
"""The field `duplicate = 2` of `AddResponse`."""

_BESIDE = 32
"""Bytes of a page kept free for its token."""

_STEP = 100
"""How many messages are worked on before a look at the clock."""

_MARGIN = 0.1
"""A call that waits answers this long before its deadline, in seconds, or a tenth of its time if that is less."""


class MessageRpcs:
    """The handlers."""

    def __init__(self, manager: Manager, running: Running) -> None:
        """Take the queues, and whether the server runs."""
        self._manager = manager
        self._bounds = manager.bounds
        self._running = running

    # Adding

    def add(self, request: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Put one message at the end of a queue."""
        asked = pb.AddRequest.FromString(request)
        queue = self._manager.get(asked.queue_id)
        message = message_from_pb(asked.message, self._bounds)
        if asked.wait:
            return self._wait_to_add(queue, [message], call, _add_answer)
        return _added_or_raise(message, queue.add(message, time_ns()))

    def add_batch(self, request: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Put messages at the end of a queue, each with its own result."""
        asked = pb.AddBatchRequest.FromString(request)
        queue = self._manager.get(asked.queue_id)
        check_batch(asked.messages, "messages", self._bounds)
        turns = Turns()
        messages: list[NewMessage] = []
        for place, new in enumerate(asked.messages):
            messages.append(self._read(place, new))
            if place % _STEP == 0 and turns.is_over:
                return self._add_large_batch(queue, asked, messages, call)
        return self._add_batch(queue, messages, call, wait=asked.wait)

    async def _add_large_batch(
        self, queue: Queue, asked: pb.AddBatchRequest, messages: list[NewMessage], call: Call
    ) -> bytes:
        """Read on from where the turn was over, then add."""
        turns = Turns()
        for place in range(len(messages), len(asked.messages)):
            messages.append(self._read(place, asked.messages[place]))
            await turns.give()
        self._running.check()
        queue.check_exists()
        answer = self._add_batch(queue, messages, call, wait=asked.wait)
        return answer if isinstance(answer, bytes) else await answer

    def _add_batch(
        self, queue: Queue, messages: list[NewMessage], call: Call, *, wait: bool
    ) -> bytes | Awaitable[bytes]:
        if wait:
            return self._wait_to_add(queue, messages, call, _add_batch_answer)
        return _add_batch_answer(messages, queue.add_batch(messages, time_ns()))

    def _read(self, place: int, new: pb.NewMessage) -> NewMessage:
        """Return a message of a batch. Raises what `message_from_pb` does, naming the message by its place from 0."""
        try:
            return message_from_pb(new, self._bounds)
        except InvalidArgument:
            return message_from_pb(new, self._bounds, f"messages[{place}]")

    async def _wait_to_add(
        self,
        queue: Queue,
        messages: list[NewMessage],
        call: Call,
        answer: Callable[[Sequence[NewMessage], Sequence[AddResult]], bytes],
    ) -> bytes:
        done = asyncio.Event()
        waiting = queue.wait_to_add(messages, done.set, time_ns())
        try:
            async with asyncio.timeout(_patience(call)):
                await done.wait()
        except TimeoutError:
            pass
        finally:
            queue.give_up_adding(waiting, time_ns())
        return answer(messages, waiting.results)

    # Taking

    def pop(self, request: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Remove and answer the first ready message."""
        asked = pb.PopRequest.FromString(request)
        queue = self._manager.get(asked.queue_id)
        wait = seconds_from_pb(asked.wait, "wait") if asked.HasField("wait") else 0
        if wait and not queue.has_ready:
            return self._wait_to_pop(queue, wait, call, lambda: queue.pop(time_ns()))
        return queue.pop(time_ns())

    def pop_batch(self, request: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Remove and answer the first ready messages, as many as fit."""
        asked = pb.PopBatchRequest.FromString(request)
        queue = self._manager.get(asked.queue_id)
        most = page_size_from_pb(asked.max, "max") or self._bounds.batch
        wait = seconds_from_pb(asked.wait, "wait") if asked.HasField("wait") else 0

        def take() -> bytes:
            return b"".join(queue.pop_batch(most, self._bounds.message_bytes, time_ns()))

        if wait and not queue.has_ready:
            return self._wait_to_pop(queue, wait, call, take)
        return take()

    async def _wait_to_pop(self, queue: Queue, seconds: float, call: Call, take: Callable[[], bytes]) -> bytes:
        loop = asyncio.get_running_loop()
        patience = _patience(call)
        deadline = loop.time() + (seconds if patience is None else min(seconds, patience))
        came_too_late = False
        while not queue.has_ready and not queue.deleted and loop.time() < deadline:
            self._running.check()
            woken = asyncio.Event()
            queue.wait_for_message(woken.set, first=came_too_late)
            try:
                async with asyncio.timeout_at(deadline):
                    await woken.wait()
            except TimeoutError:
                queue.give_up_popping(woken.set)
            except asyncio.CancelledError:
                queue.give_up_popping(woken.set)
                raise
            came_too_late = True
        self._running.check()
        queue.check_exists()
        return take()

    def peek(self, request: bytes, call: Call) -> bytes:
        """Answer the first ready message."""
        return self._manager.get(pb.PeekRequest.FromString(request).queue_id).peek()

    def peek_batch(self, request: bytes, call: Call) -> bytes:
        """Answer the first ready messages, as many as fit."""
        asked = pb.PeekBatchRequest.FromString(request)
        queue = self._manager.get(asked.queue_id)
        most = page_size_from_pb(asked.max, "max") or self._bounds.batch
        return b"".join(queue.peek_batch(most, self._bounds.message_bytes))

    # Looking and removing

    async def browse(self, request: bytes, call: Call) -> bytes:
        """Answer a page of messages, by state and tags."""
        asked = pb.BrowseRequest.FromString(request)
        queue = self._manager.get(asked.queue_id)
        most = page_size_from_pb(asked.page_size) or self._bounds.batch
        after = number_from_token(asked.page_token)
        selects = parse_selector(asked.selector) if asked.selector else None
        states = states_from_pb(asked.states)
        if states and State.READY not in states:
            return b""
        turns = Turns()
        pieces: list[bytes] = []
        room = self._bounds.message_bytes - _BESIDE
        for _ in range(0, self._bounds.scan, _STEP):
            scanned = queue.browse(after, _STEP)
            for seq, body in scanned:
                if selects is None or selects(tags_of(body)):
                    piece = browsed(body, State.READY)
                    room -= len(piece)
                    if pieces and (len(pieces) == most or room < 0):
                        return b"".join([*pieces, next_page(str(after))])
                    pieces.append(piece)
                after = seq
            if len(scanned) < _STEP:
                return b"".join(pieces)
            await turns.give()
        return b"".join([*pieces, next_page(str(after))])

    def purge(self, request: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Remove messages by id, by selector, or all."""
        asked = pb.PurgeRequest.FromString(request)
        queue = self._manager.get(asked.queue_id)
        # A selector of spaces would select all, which has to be asked for by its name.
        if bool(asked.ids) + bool(asked.selector.strip()) + asked.all != 1:
            raise InvalidArgument("ids, selector, all: give one of them, and only one", field="ids")
        if asked.ids:
            check_batch(asked.ids, "ids", self._bounds)
            purged = queue.purge_ids([checked_uuid(message_id, "ids").encode() for message_id in asked.ids], time_ns())
            return pb.PurgeResponse(purged=purged).SerializeToString()
        return self._purge_in_slices(queue, asked.selector)

    async def _purge_in_slices(self, queue: Queue, selector: str) -> bytes:
        """Remove what is selected among the messages that are there now, and let other calls have their turn."""
        selects = parse_selector(selector) if selector else None
        turns = Turns()
        purged = after = 0
        last = queue.last_seq
        while after < last and (scanned := queue.browse(after, _STEP)):
            after = scanned[-1][0]
            chosen = [seq for seq, body in scanned if seq <= last and (selects is None or selects(tags_of(body)))]
            purged += queue.purge(chosen, time_ns())
            await turns.give()
        return pb.PurgeResponse(purged=purged).SerializeToString()


def _patience(call: Call) -> float | None:
    """Return how long a call may wait so that its answer still comes in time, in seconds; None for ever."""
    left = call.seconds_left
    return None if left is None else max(0.0, left - min(_MARGIN, left / 10))


def _added_or_raise(message: NewMessage, result: AddResult) -> bytes:
    if isinstance(result, bytes):
        return result
    if isinstance(result, QueueletError):
        raise result
    if not same_content(result.body, message):
        raise MessageExists(f"message {message.own_id.decode()} is queued already, with another payload or other tags")
    return result.body + _DUPLICATE


def _add_answer(messages: Sequence[NewMessage], results: Sequence[AddResult]) -> bytes:
    return _added_or_raise(messages[0], results[0])


def _add_batch_answer(messages: Sequence[NewMessage], results: Sequence[AddResult]) -> bytes:
    bodies = [result for result in results if isinstance(result, bytes)]
    if len(bodies) == len(results):
        return added(map(id_of, bodies))
    if not bodies:
        _raise_if_gone(results)
    answer = pb.AddBatchResponse()
    told: set[str] = set()
    for message, result in zip(messages, results, strict=True):
        try:
            body = _added_or_raise(message, result)
        except QueueletError as error:
            refusal = answer.results.add(error=error_to_pb(error)).error
            if refusal.message in told:
                refusal.message = ""
            told.add(error.message)
        else:
            answer.results.add(id=id_of(body).decode(), duplicate=isinstance(result, Duplicate))
    return answer.SerializeToString()


def _raise_if_gone(results: Sequence[AddResult]) -> None:
    """Refuse the whole call where the server or the queue ended before any message was added."""
    for result in results:
        if isinstance(result, ServerDraining | QueueNotFound):
            raise result
