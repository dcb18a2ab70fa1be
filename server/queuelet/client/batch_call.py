"""The call that sends a batch: its retries, and the outcome of each message.

    a message is  what happens                                  then
    ------------  --------------------------------------------  ------------------------------------
    (none)        the program calls `send`                      BUFFERED
    BUFFERED      a batch is built                              IN FLIGHT
                  its time is over, or its caller is cancelled  SETTLED: the last error, or NotSent
    IN FLIGHT     the server cannot be reached, or is full      IN FLIGHT, with a retry
                  the server goes away without a response       IN DOUBT, with a retry
                  the server refuses the batch as too large     BUFFERED, for a smaller batch
                  the server adds or refuses it                 SETTLED: Added, or the refusal
                  its time is over                              SETTLED: the last error, or NotSent
                  the producer closes                           SETTLED: Closed
    IN DOUBT      the server responds to a retry                as for IN FLIGHT
                  its time is over, or the producer closes      SETTLED: Unreachable

BUFFERED messages are in the `SendBuffer`. The others are in the `BatchCall`, and are IN DOUBT while `doubt` is set. A
message IN DOUBT whose time is over stays in the batch, because a retry has to repeat the request: the server recognizes
it by its request ID only.
"""

from __future__ import annotations

import asyncio
import re
import secrets

from queuelet.backoff import Backoff
from queuelet.client.client import Client
from queuelet.client.connection import decoded
from queuelet.client.encoding import request_bytes
from queuelet.client.errors import Closed, NotSent
from queuelet.client.messages import is_durable
from queuelet.client.pending_put import Added, PendingPut
from queuelet.client.retries import BACKOFF, FULL, UNAVAILABLE
from queuelet.client.send_buffer import SendBuffer
from queuelet.errors import (
    InvalidArgument,
    MessageTooLarge,
    QueueletError,
    QueueNotFound,
    ShardMoved,
    TooManyResponses,
    Unreachable,
)
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import errors_from_pb

_PLACE = re.compile(r"messages\[(\d+)\]")
"""How the server names an invalid message of a batch."""

_GRACE = 5.0
"""How much longer than its messages may wait for room a call may take, in seconds, so that it gets a response."""

_MAX_WAIT = 3_600.0
"""A wait longer than this, in seconds, is not sent, because the call's own timeout is shorter."""


class BatchCall:
    """Sends one batch at a time. Its messages stay here until each has an outcome, or the producer ends."""

    def __init__(
        self, client: Client, queue: str, buffer: SendBuffer, *, wait_for_room: bool, missing_for: float
    ) -> None:
        self._client = client
        self._queue = queue
        self._buffer = buffer
        self._wait_for_room = wait_for_room
        self._retries = _Retries(client, wait_for_room=wait_for_room, missing_for=missing_for)
        self._producer_id = secrets.token_urlsafe(12)
        self._count = 0
        self._settled_request_id = ""
        """The ID of the last request with a response, which the server need not remember any more."""
        self.in_flight: list[PendingPut] = []
        """The batch."""
        self._request: pb.AddBatchRequest | None = None
        """Its request, once there is one."""
        self.doubt: QueueletError | None = None
        """Why it is unknown whether the batch was added; None while it certainly was not."""
        self._added: list[PendingPut] = []
        """The messages of the last call, all added, if they are not settled yet."""
        self._added_response = pb.AddBatchResponse()

    @property
    def is_idempotent(self) -> bool:
        """Whether there is a request with an ID, so that repeating it does no harm."""
        return self._request is not None and bool(self._request.request_id)

    async def deliver(self) -> None:
        """Send the batch, with retries, until each of its messages has an outcome.

        Raises:
            Closed: The client is closed.
        """
        backoff = Backoff(*BACKOFF)
        while self.in_flight:
            request = self._request = self._request or self._new_request()
            try:
                response = await self._call(request)
            except TooManyResponses:
                # Many producers put at the same time, so the queue can remember no more request IDs. Put without one.
                request.request_id = ""
                continue
            except Closed:
                raise
            except QueueletError as error:
                if not self._retries.may_succeed(error):
                    self._process_refusal(error)
                    self._request = None
                    continue
                self._buffer.last_error = error
            else:
                self._retries.reset()
                self._buffer.last_error = None
                self._settled_request_id, self._request = request.request_id, None
                self._process_results(response)
            if self.in_flight:
                await asyncio.sleep(min(backoff.next_delay(), self._time_left))
                self._expire()
        self._request = self.doubt = None

    async def _call(self, request: pb.AddBatchRequest) -> pb.AddBatchResponse:
        """Call the server, and keep track of whether the messages may have been added."""
        time_left = self._time_left
        if time_left < _MAX_WAIT:
            request.wait_at_most.FromNanoseconds(int(time_left * 1e9))
        data = request_bytes(request, [put.message for put in self.in_flight])
        before = self.doubt
        self.doubt = before or Unreachable("the message was sent, but its outcome is not known")
        try:
            # Longer than the server waits for room, so that there is a response.
            response = await self._client.call_once("AddBatch", data, at_most=time_left + _GRACE)
        except (NotSent, Closed, ShardMoved):
            self.doubt = before
            raise
        except UNAVAILABLE as error:
            self.doubt = error
            raise
        except QueueletError:
            self.doubt = None
            raise
        self.doubt = None
        return decoded("AddBatch", pb.AddBatchResponse, response)

    def _new_request(self) -> pb.AddBatchRequest:
        """Return the request for the batch. Retries do not change it, because its ID stands for the batch."""
        self._count += 1
        return pb.AddBatchRequest(
            queue_id=self._queue,
            wait=self._wait_for_room,
            request_id=f"{self._producer_id}/{self._count}",
            settled_request_id=self._settled_request_id,
        )

    @property
    def _time_left(self) -> float:
        """The time until the first message of the batch times out, in seconds."""
        now = asyncio.get_running_loop().time()
        return max(0.0, min((put.deadline for put in self.in_flight if not put.done()), default=now) - now)

    # Outcomes

    def _process_results(self, response: pb.AddBatchResponse) -> None:
        """Settle the messages that were added or refused. Those that did not fit stay in the batch, in order.

        If all were added and more messages wait, the next call is sent first, so that the server works while these are
        settled.
        """
        if len(response.results) != len(self.in_flight):
            counts = f"{len(response.results)} results for {len(self.in_flight)} messages"
            raise Unreachable(f"the server returned {counts}")
        self.settle_added()
        if not any(result.HasField("error") for result in response.results):
            self._added, self._added_response, self.in_flight = self.in_flight, response, []
            if self._buffer.buffered:
                # The next call begins in the next turn of the loop, and these are settled in the one after it.
                loop = asyncio.get_running_loop()
                loop.call_soon(loop.call_soon, self.settle_added)
            else:
                self.settle_added()
            return
        rest: list[PendingPut] = []
        errors = errors_from_pb(response.results)
        for put, result, error in zip(self.in_flight, response.results, errors, strict=True):
            if isinstance(error, FULL) and self._wait_for_room and not put.done():
                self._buffer.last_error = error
                rest.append(put)
            else:
                self._buffer.settle(put, error or Added(result.id, result.duplicate, is_durable(response)))
        self.in_flight = rest

    def settle_added(self) -> None:
        """Settle the messages that were added by the last call, if that is still to be done."""
        added, self._added = self._added, []
        durable = is_durable(self._added_response)
        settle = self._buffer.settle
        for put, result in zip(added, self._added_response.results, strict=bool(added)):
            settle(put, Added(result.id, result.duplicate, durable))

    def _process_refusal(self, error: QueueletError) -> None:
        """Fail the messages that an error is about: the one that it names by its place in the batch, or all of them.

        If the server only accepts smaller batches, the following batches are smaller.
        """
        named = _PLACE.match(str(error.facts.get("field", ""))) if isinstance(error, InvalidArgument) else None
        if named:
            self._buffer.settle(self.in_flight.pop(int(named[1])), _without_place(error))
        elif isinstance(error, InvalidArgument) and len(self.in_flight) > 1:
            self._split(error)
        else:
            for put in self.in_flight:
                self._buffer.settle(put, error)
            self.in_flight = []

    def _split(self, error: InvalidArgument) -> None:
        """Send a batch that was too large in parts, and make the following batches smaller."""
        buffer = self._buffer
        if isinstance(error, MessageTooLarge):
            buffer.batch_bytes = sum(put.size for put in self.in_flight) // 2
        else:
            buffer.batch_messages = len(self.in_flight) // 2
        buffer.put_back(self.in_flight)
        self.in_flight = buffer.next_batch(asyncio.get_running_loop().time())

    def _expire(self) -> None:
        """Fail messages that have timed out, and drop them from the batch unless it is in doubt."""
        now = asyncio.get_running_loop().time()
        for put in self.in_flight:
            if put.deadline <= now:
                self._buffer.settle(put, self.doubt or self._buffer.timeout_error())
        left = [put for put in self.in_flight if not put.done()]
        if not left or not self.doubt:
            self.in_flight = left

    def fail_all(self, why: QueueletError) -> None:
        """Fail the messages of the batch: with the doubt about it, or else with this error."""
        self.settle_added()
        for put in self.in_flight:
            self._buffer.settle(put, self.doubt or why)
        self.in_flight = []


class _Retries:
    """Decides which errors of a producer's calls are worth a retry."""

    def __init__(self, client: Client, *, wait_for_room: bool, missing_for: float) -> None:
        self._retries_outages = bool(client.connection.retry_for)
        self._wait_for_room = wait_for_room
        self._missing_for = missing_for
        self._queue_existed = False
        self._missing_since: float | None = None
        self._was_unavailable = False

    def reset(self) -> None:
        """Note a success."""
        self._queue_existed, self._missing_since, self._was_unavailable = True, None, False

    def may_succeed(self, error: QueueletError) -> bool:
        """Return whether the same call may succeed later."""
        if isinstance(error, QueueNotFound):
            return self._may_appear()
        is_unavailable = isinstance(error, (*UNAVAILABLE, NotSent))
        self._was_unavailable = self._was_unavailable or is_unavailable
        if is_unavailable:
            return self._retries_outages
        return isinstance(error, FULL) and self._wait_for_room

    def _may_appear(self) -> bool:
        """Return whether a missing queue may still appear, because it existed or the server was unavailable."""
        now = asyncio.get_running_loop().time()
        if self._missing_since is None:
            self._missing_since = now
        if self._was_unavailable and self._retries_outages:
            return True
        return self._queue_existed and now - self._missing_since < self._missing_for


def _without_place(error: QueueletError) -> QueueletError:
    """Return an error without the place in the batch, which means nothing to the caller of a put."""
    field = _without_index(str(error.facts["field"]))
    return type(error)(_without_index(error.message), **{**error.facts, "field": field})


def _without_index(text: str) -> str:
    return _PLACE.sub("message", text).removeprefix("message.")
