"""The RPCs that move messages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

from queuelet.clock import CLOCK, now_ns
from queuelet.core.manager import Manager
from queuelet.core.queue import Queue
from queuelet.core.stored_form import NewMessage, added, browsed, id_of, next_page, same_content, tags_of
from queuelet.core.waiting import AddResult, Duplicate, WaitingAdd
from queuelet.definition import State
from queuelet.errors import InvalidArgument, MessageExists, QueueletError, QueueNotFound, ServerDraining
from queuelet.fairness import LINE, TimeSlice
from queuelet.selector import parse_selector
from queuelet.server.endpoint import Call
from queuelet.server.handlers.durability import DURABILITY_2, DURABILITY_3, after_commit
from queuelet.server.handlers.long_poll import LongPoll, request_key, wait_budget
from queuelet.server.lifecycle import Lifecycle
from queuelet.server.plain_request import read_plain_request
from queuelet.server.requests import (
    check_batch,
    checked_uuid,
    message_from_pb,
    number_from_token,
    page_size_from_pb,
    seconds_from_pb,
    states_from_pb,
)
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import NEGZ_SERVICE, BatchErrors

_DUPLICATE = b"\x10\x01"
"""The field `duplicate = 2` of `AddResponse`."""

_PAGE_OVERHEAD = 32
"""Bytes of a page that are reserved for its token or durability."""

_ADD_BATCH = b"a"
"""The letter of AddBatch in the keys of cached responses."""

_STEP = 100
"""How many messages are browsed at a time."""

_FEW = 10
"""How many messages of a batch are parsed between two checks of the time slice."""

_LARGE = 16 * 1024
"""A batch of more bytes than this waits for other long work before it is parsed."""


Respond = Callable[[Queue, Sequence[NewMessage], Sequence[AddResult]], bytes]
"""Makes the response of a call that adds, from its messages and their results."""


class MessageRpcs:
    """The handlers."""

    def __init__(self, manager: Manager, running: Lifecycle, taker: LongPoll) -> None:
        self._manager = manager
        self._bounds = manager.bounds
        self._running = running
        self._taker = taker
        self._waiting: dict[tuple[str, bytes], Callable[[], None]] = {}
        """Functions that end a call with a request ID that waits for space, by queue and key."""

    # Adding

    def add(self, request: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Add one message at the end of a queue."""
        asked = pb.AddRequest.FromString(request)
        queue = self._manager.get(asked.queue_id)
        message = message_from_pb(asked.message, self._bounds)
        if asked.wait:
            return after_commit(queue, self._add_in_turn(queue, [message], call, wait_budget(call), _add_answer))
        added = queue.add(message, now_ns())
        answer = added if isinstance(added, bytes) else _added_or_raise(message, added)
        return after_commit(queue, _single(queue, answer, call))

    def add_batch(self, request: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Add messages at the end of a queue, each with its own result. A retry with its request ID adds nothing."""
        plain = read_plain_request(request)
        if plain is not None and plain.messages.largest <= self._bounds.message_bytes:
            asked = pb.AddBatchRequest.FromString(plain.rest)
            queue = self._manager.get(asked.queue_id)
            check_batch(plain.messages, "messages", self._bounds)
            return self._add_batch(queue, asked, plain.messages, call)
        if len(request) > _LARGE and LINE.is_busy:
            return self._add_later(request, call)
        asked = pb.AddBatchRequest.FromString(request)
        queue = self._manager.get(asked.queue_id)
        check_batch(asked.messages, "messages", self._bounds)
        turns = TimeSlice(call.peer_host)
        messages: list[NewMessage] = []
        for place, new in enumerate(asked.messages):
            messages.append(self._read(place, new))
            if place % _FEW == 0 and turns.is_over:
                return self._add_large_batch(queue, asked, messages, call, turns)
        return self._add_batch(queue, asked, messages, call)

    async def _add_later(self, request: bytes, call: Call) -> bytes:
        """Parse a batch once earlier long work has had its time slices."""
        turns = TimeSlice(call.peer_host)
        await turns.begin()
        self._running.check()
        asked = pb.AddBatchRequest.FromString(request)
        queue = self._manager.get(asked.queue_id)
        check_batch(asked.messages, "messages", self._bounds)
        return await self._add_large_batch(queue, asked, [], call, turns)

    async def _add_large_batch(
        self, queue: Queue, asked: pb.AddBatchRequest, messages: list[NewMessage], call: Call, turns: TimeSlice
    ) -> bytes:
        """Parse the rest of a batch in time slices, then add it."""
        for place in range(len(messages), len(asked.messages)):
            await turns.give()
            messages.append(self._read(place, asked.messages[place]))
        self._running.check()
        queue.check_exists()
        answer = self._add_batch(queue, asked, messages, call)
        return answer if isinstance(answer, bytes) else await answer

    def _add_batch(
        self, queue: Queue, asked: pb.AddBatchRequest, messages: Sequence[NewMessage], call: Call
    ) -> bytes | Awaitable[bytes]:
        if asked.settled_request_id:
            queue.answers.forget(request_key(_ADD_BATCH, asked.settled_request_id))
        key = request_key(_ADD_BATCH, asked.request_id) if asked.request_id else b""
        if key:
            self._end_first_try(queue, key)
            cached = queue.answers.lookup_or_admit(key, now_ns())
            if cached is not None:
                return after_commit(queue, cached)
        answer = partial(_add_batch_answer, key)
        if asked.wait:
            longest = wait_budget(call)
            if asked.HasField("wait_at_most"):
                asked_for = seconds_from_pb(asked.wait_at_most, "wait_at_most")
                longest = asked_for if longest is None else min(asked_for, longest)
            return after_commit(queue, self._add_in_turn(queue, messages, call, longest, answer, key))
        return after_commit(queue, answer(queue, messages, queue.add_batch(messages, now_ns())))

    def _end_first_try(self, queue: Queue, key: bytes) -> None:
        """End an earlier call with the same request ID that still waits for space, so that the retry gets its response.

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
        answer: Respond,
        key: bytes = b"",
    ) -> bytes | Awaitable[bytes]:
        """Add messages if there is space for all of them, otherwise wait for space for at most `longest` seconds."""
        done = asyncio.Event()
        waiting = queue.wait_to_add(messages, done.set, now_ns(), call.peer_host)
        if waiting.is_complete:
            return answer(queue, messages, waiting.results)
        return self._wait_for_space(queue, waiting, done, longest, partial(answer, queue, messages), key)

    async def _wait_for_space(  # noqa: PLR0913, PLR0917  # the state of a waiting call
        self,
        queue: Queue,
        waiting: WaitingAdd,
        done: asyncio.Event,
        longest: float | None,
        answer: Callable[[Sequence[AddResult]], bytes],
        key: bytes,
    ) -> bytes:
        def end() -> None:
            """Stop waiting, and cache the response for a retry of the call."""
            queue.give_up_adding(waiting, now_ns())
            with suppress(QueueletError):
                answer(waiting.results)

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
        return answer(waiting.results)

    # Taking

    def pop(self, request: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Remove and return the first ready message."""
        asked = pb.PopRequest.FromString(request)
        queue = self._manager.get(asked.queue_id)
        wait = seconds_from_pb(asked.wait, "wait") if asked.HasField("wait") else 0
        request_id = asked.request_id
        if not request_id and (not wait or queue.has_ready(now_ns())):
            return after_commit(queue, _single(queue, queue.pop(now_ns()), call))

        def take() -> bytes:
            return _single(queue, queue.pop(now_ns()), call)

        return after_commit(queue, self._taker.take(queue, wait, call, b"p", request_id, take))

    def pop_batch(self, request: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Remove and return the first ready messages, up to `max` and as many as fit the response."""
        asked = pb.PopBatchRequest.FromString(request)
        queue = self._manager.get(asked.queue_id)
        most = page_size_from_pb(asked.max, "max") or self._bounds.batch
        wait = seconds_from_pb(asked.wait, "wait") if asked.HasField("wait") else 0

        def take() -> bytes:
            bodies = queue.pop_batch(most, self._bounds.message_bytes - _PAGE_OVERHEAD, now_ns())
            return b"".join((*bodies, DURABILITY_2[queue.is_durable])) if bodies else b""

        return after_commit(queue, self._taker.take(queue, wait, call, b"b", asked.request_id, take))

    def peek(self, request: bytes, call: Call) -> bytes:
        """Return the first ready message."""
        return self._manager.get(pb.PeekRequest.FromString(request).queue_id).peek(now_ns())

    def peek_batch(self, request: bytes, call: Call) -> bytes:
        """Return the first ready messages, up to `max` and as many as fit the response."""
        asked = pb.PeekBatchRequest.FromString(request)
        queue = self._manager.get(asked.queue_id)
        most = page_size_from_pb(asked.max, "max") or self._bounds.batch
        return b"".join(queue.peek_batch(most, self._bounds.message_bytes, now_ns()))

    # Browsing and removing

    async def browse(self, request: bytes, call: Call) -> bytes:
        """Return a page of messages, selected by state and tags."""
        asked = pb.BrowseRequest.FromString(request)
        queue = self._manager.get(asked.queue_id)
        most = page_size_from_pb(asked.page_size) or self._bounds.batch
        after = number_from_token(asked.page_token)
        states = states_from_pb(asked.states)
        turns = TimeSlice(call.peer_host)
        await turns.begin()
        selects = parse_selector(asked.selector) if asked.selector else None
        pieces: list[bytes] = []
        most_bytes = self._bounds.message_bytes - _PAGE_OVERHEAD
        room = most_bytes
        ahead = CLOCK.behind_ns()
        looked_at = 0
        while looked_at < self._bounds.scan:
            found = queue.browse(after, _STEP, states, now=now_ns())
            for each in found.messages:
                if selects is None or selects(tags_of(each.body)):
                    piece = browsed(each.body, each.state, each.until and each.until + ahead, each.delivery, most_bytes)
                    room -= len(piece)
                    if pieces and (len(pieces) == most or room < 0):
                        return b"".join([*pieces, next_page(str(after))])
                    pieces.append(piece)
                after = each.seq
                looked_at += 1
                if turns.is_over:
                    break
            else:
                if found.is_end:
                    return b"".join(pieces)
                after = found.last
            await turns.give()
        return b"".join([*pieces, next_page(str(after))])

    def purge(self, request: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Remove messages by ID or selector, or all of them."""
        asked = pb.PurgeRequest.FromString(request)
        queue = self._manager.get(asked.queue_id)
        # A blank selector would select everything, which has to be requested explicitly by `all`.
        if bool(asked.ids) + bool(asked.selector.strip()) + asked.all != 1:
            raise InvalidArgument("ids, selector, all: give exactly one of them", field="ids")
        states = states_from_pb(asked.states)
        if asked.ids:
            check_batch(asked.ids, "ids", self._bounds)
            return after_commit(queue, self._purge_ids(queue, asked.ids, states, call))
        return after_commit(queue, self._purge_in_slices(queue, asked.selector, states, call))

    async def _purge_ids(self, queue: Queue, asked: Sequence[str], states: set[State], call: Call) -> bytes:
        """Remove the messages with these IDs in time slices; none if one of the IDs is malformed."""
        turns = TimeSlice(call.peer_host)
        if len(asked) > _STEP:
            await turns.begin()
        ids = [checked_uuid(message_id, "ids").encode() for message_id in asked]
        purged = 0
        for start in range(0, len(ids), _STEP):
            purged += queue.purge_ids(ids[start : start + _STEP], now_ns(), states)
            await turns.give()
        return pb.PurgeResponse(purged=purged).SerializeToString()

    async def _purge_in_slices(self, queue: Queue, selector: str, states: set[State], call: Call) -> bytes:
        """Remove the selected ones of the messages that are present now, in time slices."""
        turns = TimeSlice(call.peer_host)
        await turns.begin()
        selects = parse_selector(selector) if selector else None
        purged = after = 0
        last = queue.last_seq
        while after < last:
            found = queue.browse(after, _STEP, states, now=now_ns())
            chosen: list[int] = []
            for each in found.messages:
                if each.seq <= last and (selects is None or selects(tags_of(each.body))):
                    chosen.append(each.seq)
                after = each.seq
                if turns.is_over:
                    break
            else:
                after = last if found.is_end else found.last
            purged += queue.purge(chosen, now_ns())
            await turns.give()
        return pb.PurgeResponse(purged=purged).SerializeToString()


def _single(queue: Queue, answer: bytes, call: Call) -> bytes:
    """Return the response about a single message, with its durability unless the caller is a client of negz/q."""
    return answer if call.service == NEGZ_SERVICE else answer + DURABILITY_3[queue.is_durable]


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


def _add_answer(queue: Queue, messages: Sequence[NewMessage], results: Sequence[AddResult]) -> bytes:
    return _added_or_raise(messages[0], results[0]) + DURABILITY_3[queue.is_durable]


def _add_batch_answer(key: bytes, queue: Queue, messages: Sequence[NewMessage], results: Sequence[AddResult]) -> bytes:
    """Return the response of a batch; cache it if there is a key and at least one message was added."""
    answer = _batch_answer(queue, messages, results)
    if key and not queue.has_ended and any(not isinstance(result, QueueletError) for result in results):
        queue.keep_answer(key, answer, now_ns())
    return answer


def _batch_answer(queue: Queue, messages: Sequence[NewMessage], results: Sequence[AddResult]) -> bytes:
    bodies = [result for result in results if isinstance(result, bytes)]
    if len(bodies) == len(results):
        return added(map(id_of, bodies)) + DURABILITY_2[queue.is_durable]
    if not bodies:
        _raise_if_gone(results)
    answer = pb.AddBatchResponse()
    errors = BatchErrors()
    for message, result in zip(messages, results, strict=True):
        if isinstance(result, QueueletError):
            answer.results.add(error=errors.to_pb(result))
            continue
        try:
            body = _added_or_raise(message, result)
        except QueueletError as error:
            answer.results.add(error=errors.to_pb(error))
        else:
            answer.results.add(id=id_of(body).decode(), duplicate=isinstance(result, Duplicate))
    return answer.SerializeToString() + DURABILITY_2[queue.is_durable]


def _raise_if_gone(results: Sequence[AddResult]) -> None:
    """Refuse the whole call if the server or the queue ended before any message was added."""
    for result in results:
        if isinstance(result, ServerDraining | QueueNotFound):
            raise result
