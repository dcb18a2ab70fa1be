"""The RPCs that add messages: Add and AddBatch, which may wait for room in a full queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

from queuelet.clock import now_ns
from queuelet.core.manager import Manager
from queuelet.core.queue import Queue
from queuelet.core.storage import NotLoaded
from queuelet.core.stored_form import NewMessage, added, id_of, same_content
from queuelet.core.waiting import AddResult, Duplicate, WaitingAdd
from queuelet.errors import InvalidArgument, MessageExists, QueueletError, QueueNotFound, ServerDraining, ShardMoved
from queuelet.fairness import LINE, MANY, TimeSlice, in_turn
from queuelet.server.endpoint import Call
from queuelet.server.handlers.durability import DURABILITY_2, DURABILITY_3, about_one, after_commit
from queuelet.server.handlers.long_poll import request_key, wait_budget
from queuelet.server.lifecycle import Lifecycle
from queuelet.server.loading import loaded, until_loaded
from queuelet.server.plain_request import read_plain_add, read_plain_request
from queuelet.server.requests import check_batch, message_from_pb, seconds_from_pb
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import BatchErrors

_DUPLICATE = b"\x10\x01"
"""The field `duplicate = 2` of `AddResponse`."""

_ADD_BATCH = b"a"
"""The letter of AddBatch in the keys of cached responses."""

_FEW = 10
"""How many messages of a batch are parsed between two checks of the time slice."""

_LARGE = 16 * 1024
"""A batch of more bytes than this waits for other long work before it is parsed."""

Respond = Callable[[Queue, Sequence[NewMessage], Sequence[AddResult]], bytes]
"""Makes the response of a call that adds, from its messages and their results."""


class AddRpcs:
    """The RPCs that add messages."""

    def __init__(self, manager: Manager, lifecycle: Lifecycle) -> None:
        self._manager = manager
        self._bounds = manager.bounds
        self._largest_payload = manager.bounds.message_bytes - NewMessage(b"").size
        """The most bytes in the payload of a message that has nothing else."""
        self._lifecycle = lifecycle
        self._waiting: dict[tuple[str, bytes], Callable[[], None]] = {}
        """Functions that end a call with a request ID that waits for room, by queue and key."""

    def add(self, data: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Add one message at the end of a queue."""
        plain = read_plain_add(data)
        if plain is not None and len(plain[1]) <= self._largest_payload:
            reference, payload = plain
            queue = self._manager.get(reference)
            message = NewMessage(payload)
        else:
            request = pb.AddRequest.FromString(data)
            queue = self._manager.get(request.queue_id)
            message = message_from_pb(request.message, self._bounds)
            if request.wait:
                return after_commit(queue, self._add_in_turn(queue, [message], call, wait_budget(call), _add_response))
        result = queue.add(message, now_ns())
        response = result if isinstance(result, bytes) else _added_or_raise(message, result)
        return after_commit(queue, about_one(queue, response, call))

    def add_batch(self, data: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Add messages at the end of a queue, each with its own result. A retry with its request ID adds nothing."""
        plain = read_plain_request(data)
        if plain is not None and plain.messages.largest <= self._bounds.message_bytes:
            request = pb.AddBatchRequest.FromString(plain.rest)
            queue = self._manager.get(request.queue_id)
            check_batch(plain.messages, "messages", self._bounds)
            if len(plain.messages) > MANY:
                return self._add_many(queue, request, plain.messages, call)
            return self._add_batch(queue, request, plain.messages, call)
        if len(data) > _LARGE and LINE.is_busy:
            return self._add_later(data, call)
        request = pb.AddBatchRequest.FromString(data)
        queue = self._manager.get(request.queue_id)
        check_batch(request.messages, "messages", self._bounds)
        time_slice = TimeSlice(call.peer_host)
        messages: list[NewMessage] = []
        for place, new in enumerate(request.messages):
            messages.append(self._read(place, new))
            if place % _FEW == 0 and time_slice.is_over:
                return self._add_large_batch(queue, request, messages, call, time_slice)
        return self._add_batch(queue, request, messages, call)

    async def _add_later(self, data: bytes, call: Call) -> bytes:
        """Parse a batch once earlier long work has had its time slices."""
        time_slice = TimeSlice(call.peer_host)
        await time_slice.begin()
        self._lifecycle.check()
        request = pb.AddBatchRequest.FromString(data)
        queue = self._manager.get(request.queue_id)
        check_batch(request.messages, "messages", self._bounds)
        return await self._add_large_batch(queue, request, [], call, time_slice)

    async def _add_many(
        self, queue: Queue, request: pb.AddBatchRequest, messages: Sequence[NewMessage], call: Call
    ) -> bytes:
        """Add a large plain batch once earlier long work has had its time slices."""

        def add() -> bytes | Awaitable[bytes]:
            self._lifecycle.check()
            queue.check_exists()
            return self._add_batch(queue, request, messages, call)

        try:
            response = await in_turn(call.peer_host, add)
        except NotLoaded as missing:
            await until_loaded(missing)
            response = await loaded(add)
        return response if isinstance(response, bytes) else await response

    async def _add_large_batch(
        self, queue: Queue, request: pb.AddBatchRequest, messages: list[NewMessage], call: Call, time_slice: TimeSlice
    ) -> bytes:
        """Parse the rest of a batch in time slices, then add it."""
        for place in range(len(messages), len(request.messages)):
            await time_slice.give()
            messages.append(self._read(place, request.messages[place]))
        self._lifecycle.check()
        queue.check_exists()
        response = await loaded(lambda: self._add_batch(queue, request, messages, call))
        time_slice.count()
        return response if isinstance(response, bytes) else await response

    def _add_batch(
        self, queue: Queue, request: pb.AddBatchRequest, messages: Sequence[NewMessage], call: Call
    ) -> bytes | Awaitable[bytes]:
        if request.settled_request_id:
            queue.responses.forget(request_key(_ADD_BATCH, request.settled_request_id))
        key = request_key(_ADD_BATCH, request.request_id) if request.request_id else b""
        if key:
            self._end_first_try(queue, key)
            cached = queue.responses.lookup_or_admit(key, now_ns())
            if cached is not None:
                return after_commit(queue, cached)
        respond = partial(_add_batch_response, key)
        if request.wait:
            longest = wait_budget(call)
            if request.HasField("wait_at_most"):
                wait_at_most = seconds_from_pb(request.wait_at_most, "wait_at_most")
                longest = wait_at_most if longest is None else min(wait_at_most, longest)
            return after_commit(queue, self._add_in_turn(queue, messages, call, longest, respond, key))
        return after_commit(queue, respond(queue, messages, queue.add_batch(messages, now_ns())))

    def _end_first_try(self, queue: Queue, key: bytes) -> None:
        """End an earlier call with the same request ID that still waits for room, so that the retry gets its response.

        This happens if the client's connection was cut and the server has not detected it yet.
        """
        end = self._waiting.get((queue.id, key))
        if end is not None:
            end()

    def _read(self, place: int, new: pb.NewMessage) -> NewMessage:
        """Return a message of a batch. The errors of `message_from_pb` name the message by its index from 0."""
        try:
            return message_from_pb(new, self._bounds)
        except InvalidArgument:
            return message_from_pb(new, self._bounds, f"messages[{place}]")

    def _add_in_turn(  # noqa: PLR0913, PLR0917  # the parameters of a call
        self,
        queue: Queue,
        messages: Sequence[NewMessage],
        call: Call,
        longest: float | None,
        respond: Respond,
        key: bytes = b"",
    ) -> bytes | Awaitable[bytes]:
        """Add messages if there is room for all of them, otherwise wait for room for at most `longest` seconds."""
        done = asyncio.Event()
        waiting = queue.wait_to_add(messages, done.set, now_ns(), call.peer_host)
        if waiting.is_complete:
            return respond(queue, messages, waiting.results)
        return self._wait_for_room(queue, waiting, done, longest, partial(respond, queue, messages), key)

    async def _wait_for_room(  # noqa: PLR0913, PLR0917  # the state of a waiting call
        self,
        queue: Queue,
        waiting: WaitingAdd,
        done: asyncio.Event,
        longest: float | None,
        respond: Callable[[Sequence[AddResult]], bytes],
        key: bytes,
    ) -> bytes:
        def end() -> None:
            """Stop waiting, and cache the response for a retry of the call."""
            queue.give_up_adding(waiting, now_ns())
            with suppress(QueueletError):
                respond(waiting.results)

        if key:
            self._waiting[queue.id, key] = end
        try:
            async with asyncio.timeout(longest):
                await done.wait()
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            end()
            raise
        finally:
            if self._waiting.get((queue.id, key)) is end:
                del self._waiting[queue.id, key]
            queue.give_up_adding(waiting, now_ns())
        return respond(waiting.results)


def _added_or_raise(message: NewMessage, result: AddResult) -> bytes:
    if isinstance(result, bytes):
        return result
    if isinstance(result, QueueletError):
        raise result
    if not same_content(result.body, message):
        raise MessageExists(
            f"message.id: {message.own_id.decode()} is queued already, with another payload or other tags; "
            "use another ID for another message"
        )
    return result.body + _DUPLICATE


def _add_response(queue: Queue, messages: Sequence[NewMessage], results: Sequence[AddResult]) -> bytes:
    return _added_or_raise(messages[0], results[0]) + DURABILITY_3[queue.durability]


def _add_batch_response(
    key: bytes, queue: Queue, messages: Sequence[NewMessage], results: Sequence[AddResult]
) -> bytes:
    """Return the response of a batch; cache it if there is a key and at least one message was added."""
    response = _batch_response(queue, messages, results)
    if key and not queue.has_ended and any(not isinstance(result, QueueletError) for result in results):
        queue.responses.store(key, response, now_ns())
    return response


def _batch_response(queue: Queue, messages: Sequence[NewMessage], results: Sequence[AddResult]) -> bytes:
    bodies = [result for result in results if isinstance(result, bytes)]
    if len(bodies) == len(results):
        return added(map(id_of, bodies)) + DURABILITY_2[queue.durability]
    if not bodies:
        _raise_if_gone(results)
    response = pb.AddBatchResponse()
    errors = BatchErrors()
    for message, result in zip(messages, results, strict=True):
        if isinstance(result, QueueletError):
            response.results.add(error=errors.to_pb(result))
            continue
        try:
            body = _added_or_raise(message, result)
        except QueueletError as error:
            response.results.add(error=errors.to_pb(error))
        else:
            response.results.add(id=id_of(body).decode(), duplicate=isinstance(result, Duplicate))
    return response.SerializeToString() + DURABILITY_2[queue.durability]


def _raise_if_gone(results: Sequence[AddResult]) -> None:
    """Refuse the whole call if the server or the queue ended before any message was added."""
    for result in results:
        if isinstance(result, ServerDraining | ShardMoved | QueueNotFound):
            raise result
