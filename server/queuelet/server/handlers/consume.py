"""The Consume stream: the server pushes messages while the client grants credit, and the client settles their leases.

A stream has three concurrent parts, so that none blocks another: one task reads and applies requests, one waits for
commits, and one loop sends, because a gRPC stream accepts one response at a time. The loop leases messages only when it
is about to send them, so that a client that does not read has at most one batch in flight. The loop waits for a single
event, which the other parts set.

If the client asks for it, the stream has a heartbeat: it keeps proxies from closing the connection, and a client that
is silent for three beats loses the stream. A beat is at most a fifth of a lease. Clients extend leases after a third of
their duration, so a frozen client is detected before a lease that it extends expires. The server then knows which
messages the client may have started to process: those whose receipt it confirmed, up to its concurrency. Only these
deliveries count.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from itertools import groupby, repeat
from typing import NamedTuple

from queuelet.bounds import Bounds
from queuelet.clock import now_ns
from queuelet.core.consumers import Claim
from queuelet.core.leases import Leased
from queuelet.core.manager import Manager
from queuelet.core.queue import Queue
from queuelet.core.storage import NotLoaded
from queuelet.core.waiting import Consumer, Taker
from queuelet.definition import Durability, TryOutcome
from queuelet.errors import ClientSilent, InvalidArgument, QueueletError
from queuelet.limits import (
    MAX_CONSUMER_BYTES,
    MAX_HEARTBEAT_SECONDS,
    MAX_REASON_BYTES,
    MIN_HEARTBEAT_SECONDS,
    SECOND_NS,
)
from queuelet.server.endpoint import Call, Send
from queuelet.server.handlers.heartbeat import MISSED, Heartbeat
from queuelet.server.handlers.leases import deliveries, fitting, nack_delay_from_pb
from queuelet.server.requests import check_at_most, lease_from_pb, nanoseconds_from_pb, page_size_from_pb, text_from_pb
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import BatchErrors
from queuelet.wire.values import durability_to_pb

_STEP = 1_000
"""The most messages and results in one response, so that a response does not block other calls for long."""

_APART = 0.002
"""Seconds that the next response waits after one with messages, unless the client sends something; more gathers then.

This is Nagle's algorithm (RFC 896). Otherwise a client that reads more slowly than small responses are written would
have more and more of them in flight, and each message would wait behind all earlier ones.
"""

_SHARED_WITHIN = 0.005
"""Seconds that acks wait for others, so that they share one transaction of a Disk store (group commit)."""

_USUAL_STEP = 500
"""The most messages in one response if the client sets no maximum.

With a credit of a thousand, a client then processes one response while the next is in flight.
"""

_MAX_UNREPORTED = 10_000
"""If this many results wait to be sent, because the client does not read, its requests are not read either."""

_FASTEST_BEAT = round(MIN_HEARTBEAT_SECONDS * SECOND_NS)
"""The shortest time between two heartbeats, in nanoseconds."""

_BEATS_PER_LEASE = 5
"""The least heartbeats in a lease: three are missed before a lease that was extended after a third expires."""


class ConsumeRpcs:
    """The RPC of the Consume stream."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    async def consume(self, requests: AsyncIterator[bytes], send: Send, call: Call) -> None:
        """Lease messages as credit is granted, and settle leases. When the stream ends, its leases end too.

        When the client half-closes, the server reports all pending results, returns the remaining leases to the queue,
        and ends the stream with OK.

        Raises:
            InvalidArgument: a request breaks a rule. No part of it is executed.
            QueueNotFound: there is no such queue, or it was deleted meanwhile.
            QueueHeld: the stream is not exclusive, and an exclusive consumer holds the queue.
            TooMany: too many calls wait on the queue.
            StoreFailed: the store failed, so that it is unknown whether acks are durable.
            ClientSilent: the client asked for a heartbeat and was silent for three beats.
        """
        first = pb.ConsumeRequest.FromString(await anext(requests, b""))
        if not first.HasField("start"):
            raise InvalidArgument("start: missing; the first request of a stream has to contain it", field="start")
        queue = self._manager.get(first.start.queue_id, "start.queue_id")
        start = _read_start(first.start)
        await _Stream(queue, start, send, self._manager.bounds, call).run(first, requests)


class _Start(NamedTuple):
    """The checked `ConsumeStart` of a stream."""

    lease: int
    """The duration of its leases in nanoseconds; 0 for the queue's default."""
    most: int
    """The most messages in one response."""
    consumer: str
    is_exclusive: bool
    concurrency: int
    """How many messages the consumer processes at a time; 0 for all it holds."""
    heartbeat: int
    """The requested interval between heartbeats, in nanoseconds; 0 for none."""
    max_bytes: int
    """No more messages are sent while the consumer holds this many bytes; 0 for unlimited."""


def _read_start(start: pb.ConsumeStart) -> _Start:
    if start.concurrency < 0:
        raise InvalidArgument(
            f"start.concurrency: {start.concurrency} is negative; use 1 or more, or 0 for all messages it holds",
            field="start.concurrency",
        )
    if start.max_bytes < 0:
        raise InvalidArgument(
            f"start.max_bytes: {start.max_bytes} is negative; use 1 or more, or 0 for unlimited",
            field="start.max_bytes",
        )
    heartbeat = (
        nanoseconds_from_pb(start.heartbeat, "start.heartbeat", MAX_HEARTBEAT_SECONDS)
        if start.HasField("heartbeat")
        else 0
    )
    if heartbeat and not _FASTEST_BEAT <= heartbeat <= MAX_HEARTBEAT_SECONDS * SECOND_NS:
        raise InvalidArgument(
            f"start.heartbeat: {heartbeat / SECOND_NS:g} s is out of range; use 0.1 s to 1 h, or leave it out",
            field="start.heartbeat",
        )
    return _Start(
        lease=lease_from_pb(start.lease, "start.lease") if start.HasField("lease") else 0,
        most=min(page_size_from_pb(start.max, "start.max") or _USUAL_STEP, _STEP),
        consumer=text_from_pb(start.consumer, "start.consumer", MAX_CONSUMER_BYTES),
        is_exclusive=start.exclusive,
        concurrency=start.concurrency,
        heartbeat=heartbeat,
        max_bytes=start.max_bytes,
    )


def _agreed(heartbeat: int, lease: int) -> int:
    """Return the heartbeat for a stream, given the requested one and its leases, all in nanoseconds; 0 for none."""
    return max(_FASTEST_BEAT, min(heartbeat, lease // _BEATS_PER_LEASE)) if heartbeat else 0


class _Unreported:
    """Results of settling leases that were not sent to the client yet."""

    def __init__(self) -> None:
        self._settled: list[int] = []
        self._refused: list[tuple[int, QueueletError]] = []
        self.uncommitted: list[int] = []
        """Tokens that were settled, but whose commit is pending."""

    def __len__(self) -> int:
        return len(self._settled) + len(self._refused) + len(self.uncommitted)

    def settle(self, tokens: Iterable[int]) -> None:
        self._settled += tokens

    def sort(self, tokens: Sequence[int], results: Sequence[QueueletError | None]) -> Sequence[int]:
        """Record the tokens that were refused; return the others."""
        if not any(results):
            return tokens
        pairs = list(zip(tokens, results, strict=True))
        self._refused += [(token, error) for token, error in pairs if error is not None]
        return [token for token, error in pairs if error is None]

    def take(self, durability: Durability) -> pb.ConsumeResponse:
        """Remove up to `_STEP` results of each kind and return them as a response. Repeated messages are left out."""
        response = pb.ConsumeResponse(settled=self._settled[:_STEP])
        if self._settled:
            response.durability = durability_to_pb(durability)
        errors = BatchErrors()
        for token, error in self._refused[:_STEP]:
            response.refused.add(token=token, error=errors.to_pb(error))
        del self._settled[:_STEP], self._refused[:_STEP]
        return response


class _Stream:
    """One stream."""

    def __init__(self, queue: Queue, start: _Start, send: Send, bounds: Bounds, call: Call) -> None:
        peer = call.peer_host
        self._call = call
        self._since = now_ns()
        self._last_settled = 0
        self._queue = queue
        self._start = start
        self._send = send
        self._bounds = bounds
        self._claim = Claim(self._wake, is_exclusive=start.is_exclusive, peer=peer, describe=self._describe)
        self._taker = Taker(self._called, peer)
        self._is_announced = self._is_beat_announced = False
        self._credit = 0
        self._unreported = _Unreported()
        self._held: dict[int, int] = {}
        """The size in bytes of each message that the client holds, by token."""
        self._held_bytes = 0
        self._received = 0
        """The newest token whose receipt the client confirmed; it does so if it asked for a heartbeat."""
        self._unheard = 0
        """The first token that was leased since the client's last request, 0 if there is none."""
        self._next_check = _STEP
        lease = start.lease or queue.definition.delivery.lease_seconds * SECOND_NS
        self._beat_ns = _agreed(start.heartbeat, lease)
        self._heartbeat: Heartbeat | None = None
        self._is_beat_due = self._is_silent = self._has_ended = False
        self._woken = asyncio.Event()
        self._reported = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._committer: asyncio.Task[None] | None = None
        self._is_waiting = False
        """Whether the stream's taker is in the queue's line."""
        self._was_called = False
        """Whether the queue woke this stream, and it has not leased a message since."""
        self._is_sending = False
        self._was_heard = True
        """Whether the client has sent a request, other than a receipt, since the last response."""
        self._pause: asyncio.TimerHandle | None = None

    async def run(self, first: pb.ConsumeRequest, requests: AsyncIterator[bytes]) -> None:
        """Serve the stream until it ends, then release everything it holds."""
        self._queue.claims.add(self._claim)
        try:
            self._apply(first)
            if self._beat_ns:
                self._heartbeat = Heartbeat(self._beat_ns / SECOND_NS, self._beat, self._miss)
            self._reader = self._start_task(self._read(requests))
            if not self._queue.ready:
                self._update_waiting()  # before any response, so that a stream refused with TooMany gets none
            await self._send_loop()
        finally:
            self._end()

    def _end(self) -> None:
        """Release what the stream holds. This is not a coroutine, so that no cancellation can interrupt it."""
        if self._has_ended:
            return
        self._has_ended = True
        for started in (self._reader, self._committer, self._pause):
            if started is not None:
                started.cancel()
        if self._heartbeat is not None:
            self._heartbeat.stop()
        self._queue.waiters.give_up_waiting(self._taker)
        # Tokens grow, so the messages that the client received first, and may have started to process, come first.
        held = sorted(self._held)
        confirmed = bisect_right(held, self._received) if self._beat_ns else len(held)
        self._return_leases(deque(held), min(confirmed, self._start.concurrency or confirmed))

    def _return_leases(self, held: deque[int], used: int) -> None:
        """Return leases to the queue, then release the claim, so that the next holder finds the messages in the queue.

        Many leases are returned in steps, so that other calls run in between. The client may have started to process
        the first `used` of the messages.
        """
        if not self._queue.has_ended:
            step = [held.popleft() for _ in range(min(_STEP, used or _STEP, len(held)))]
            self._queue.nack(step, now_ns(), outcome=TryOutcome.RELEASED, unused=not used)
            if held:
                asyncio.get_running_loop().call_soon(self._return_leases, held, max(0, used - len(step)))
                return
        self._queue.claims.drop(self._claim)

    def _start_task(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Start a task; the send loop is woken when it ends."""
        task = asyncio.ensure_future(work)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # retrieved, because asyncio otherwise logs it if the send loop has ended
        self._wake()

    def _wake(self) -> None:
        self._woken.set()

    def _describe(self) -> Consumer:
        return Consumer(
            since=self._since,
            peer=self._call.peer,
            name=self._start.consumer,
            credit=self._credit,
            tokens=self._held.keys(),
            last_settled=self._last_settled,
        )

    # Heartbeat

    def _beat(self) -> None:
        """Make the send loop send an empty response, unless it has another one to send."""
        self._is_beat_due = True
        if self._is_full:
            self._forget_lost()
        self._wake()

    def _miss(self) -> None:
        """End the stream because the client is silent. If sending is blocked, release the leases at once."""
        if _is_done(self._reader) or len(self._unreported) >= _MAX_UNREPORTED:
            return  # the client half-closed, or its requests are not being read
        self._is_silent = True
        if self._is_sending:
            self._end()
        self._wake()

    def _silence(self) -> ClientSilent:
        seconds = MISSED * self._beat_ns / SECOND_NS
        return ClientSilent(
            f"the client was silent for {seconds:g} s: its process or its machine is frozen, or its handler blocks "
            "the event loop; its leases ended, and the messages are redelivered",
            queue=self._queue.label,
        )

    # Sending

    async def _send_loop(self) -> None:
        """Send until the client has half-closed and all results are reported."""
        while True:
            self._woken.clear()
            self._check()
            responses = [] if self._is_pausing else self._responses()
            for response in responses:
                self._is_sending = True
                await self._send(response)
                self._is_sending = False
                if self._heartbeat is not None:
                    self._heartbeat.note_sent()
            if responses:
                continue
            if self._is_pausing:
                await self._woken.wait()
                continue
            if _is_done(self._reader) and _is_done(self._committer) and not self._unreported:
                return
            self._update_waiting()
            await self._woken.wait()

    @property
    def _is_pausing(self) -> bool:
        """Whether the next response waits until the client sends something or the pause is over."""
        return self._pause is not None and not self._was_heard and not _is_done(self._reader)

    def _pause_until_heard(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._was_heard = False
        self._pause = asyncio.get_running_loop().call_later(_APART, self._end_pause)

    def _end_pause(self) -> None:
        self._pause = None
        self._wake()

    def _check(self) -> None:
        """Raise the error that ends the stream, if there is one."""
        if self._is_silent:
            raise self._silence()
        for task in (self._reader, self._committer):
            if task is not None and task.done():
                task.result()
        self._queue.check_exists()
        if not self._start.is_exclusive:
            self._queue.claims.check_free()

    def _responses(self) -> list[bytes]:
        """Return the responses to send: results and newly leased messages, in one response if they fit."""
        results, messages = self._results(), self._lease()
        if messages:
            self._pause_until_heard()
        is_beat, self._is_beat_due = self._is_beat_due, False
        if len(results) + len(messages) > self._bounds.message_bytes:
            return [results, messages]
        return [results + messages] if results or messages or is_beat else []

    def _results(self) -> bytes:
        has_new_claim = self._claim.token and not self._is_announced
        is_first = self._beat_ns and not self._is_beat_announced
        if not has_new_claim and not is_first and not self._unreported:
            return b""
        response = self._unreported.take(self._queue.durability)
        if is_first:
            response.heartbeat.FromNanoseconds(self._beat_ns)
            self._is_beat_announced = True
        if has_new_claim:
            response.holder_token = self._claim.token
            self._is_announced = True
        self._reported.set()
        return response.SerializeToString()

    @property
    def _wants_messages(self) -> bool:
        """Whether the client may get messages now."""
        may_take = self._claim.token > 0 if self._start.is_exclusive else True
        return self._credit > 0 and may_take and not _is_done(self._reader) and not self._is_full and not self._is_mute

    @property
    def _is_mute(self) -> bool:
        """Whether the client has let a lease expire since its last request. It gets no messages until the next one."""
        return self._unheard > 0 and self._queue.has_lost(self._unheard)

    @property
    def _slots(self) -> int:
        """How many more messages the client gets regardless of their size, so that it can use its concurrency."""
        return max(0, max(1, self._start.concurrency) - len(self._held))

    @property
    def _is_full(self) -> bool:
        """Whether the client holds `max_bytes`, and as many messages as it processes at a time."""
        return 0 < self._start.max_bytes <= self._held_bytes and not self._slots

    def _lease(self) -> bytes:
        """Lease messages within the credit, and return them as the fields of a response."""
        try:
            leased = self._receive(now_ns())
        except NotLoaded as missing:
            missing.then(self._wake)
            return b""
        if leased is None:
            return b""
        count = len(leased.bodies)
        if count:
            self._credit -= count
            self._was_called = False
            self._unheard = self._unheard or leased.first_token
            sizes = list(map(len, leased.bodies))
            self._held.update(zip(range(leased.first_token, leased.first_token + count), sizes, strict=True))
            self._held_bytes += sum(sizes)
            if len(self._held) > self._next_check:
                self._forget_lost()
        return deliveries(leased)

    def _receive(self, now: int) -> Leased | None:
        """Lease messages within the credit; None if there are none, or the client may get none."""
        # `has_ready` first, because it expires overdue leases, which may be leases of this stream.
        if not self._queue.has_ready(now) or not self._wants_messages:
            return None
        count, size = fitting(min(self._credit, self._start.most), self._bounds.message_bytes)
        if self._start.max_bytes:
            left = self._start.max_bytes - self._held_bytes
            count, size = (count, min(size, left)) if left > 0 else (min(count, self._slots), size)
        return self._queue.receive(
            count, size, now, lease=self._start.lease, consumer=self._start.consumer, claim=self._claim
        )

    def _drop(self, tokens: Iterable[int]) -> None:
        """Forget messages that the client no longer holds."""
        self._held_bytes -= sum(map(self._held.pop, tokens, repeat(0)))

    def _forget_lost(self) -> None:
        """Forget messages whose lease ended otherwise, such as by expiry. Runs whenever the number held has doubled."""
        self._drop([token for token in self._held if not self._queue.is_leased(token)])
        self._next_check = 2 * len(self._held) + _STEP

    def _update_waiting(self) -> None:
        """Join the queue's waiters if the client may get messages; leave them if not."""
        if self._wants_messages and not self._is_waiting:
            self._queue.waiters.wait_for_message(self._taker, first=self._was_called)
            self._is_waiting = True
        elif self._is_waiting and not self._wants_messages:
            self._is_waiting = False
            self._queue.waiters.give_up_waiting(self._taker)
        elif self._was_called and not self._wants_messages:
            # It was called for a message, but has no credit left to lease it.
            self._was_called = False
            self._queue.waiters.pass_turn()

    def _called(self) -> None:
        """Try to lease a message. If the stream is sending, which may take long, call the next waiter instead."""
        self._is_waiting = False
        if self._is_sending:
            self._queue.waiters.pass_turn()
            return
        self._was_called = True
        self._wake()

    # Requests

    async def _read(self, requests: AsyncIterator[bytes]) -> None:
        """Read requests and apply them in order."""
        async for data in requests:
            self._unheard = 0
            if self._heartbeat is not None:
                self._heartbeat.note_heard()
            request = pb.ConsumeRequest.FromString(data)
            if request.HasField("start"):
                raise InvalidArgument(
                    "start: only allowed in the first request; open another stream for another queue", field="start"
                )
            self._apply(request)
            # A receipt alone does not end the pause, because it does not show that the client has processed anything.
            self._was_heard = (
                self._was_heard or request.credit > 0 or bool(request.ack or request.nack or request.extend)
            )
            self._wake()
            while len(self._unreported) >= _MAX_UNREPORTED:
                self._reported.clear()
                await self._reported.wait()

    def _apply(self, request: pb.ConsumeRequest) -> None:
        """Execute one request, or raise `InvalidArgument` before executing any of it."""
        self._check()
        if request.credit < 0:
            raise InvalidArgument(f"credit: {request.credit} is negative; use 0 or more", field="credit")
        for field in ("ack", "nack", "extend"):
            check_at_most(getattr(request, field), field, self._bounds)
        nacks = [_read_nack(each) for each in request.nack]
        self._received = max(self._received, request.received)
        if request.revoke:
            self._credit = 0
        self._credit += request.credit
        if request.ack:
            self._ack(request.ack)
        for (delay, reason, dead, unused), few in groupby(nacks, lambda each: each[1:]):
            tokens = [each.token for each in few]
            self._drop(tokens)
            buried = self._queue.tally.buried
            self._last_settled = now = now_ns()
            results = self._queue.nack(tokens, now, delay=delay, reason=reason, dead=dead, unused=unused)
            is_promise = delay > 0 or self._queue.tally.buried > buried
            self._settle(self._unreported.sort(tokens, results), is_promise=is_promise)
        if request.extend:
            results, _ = self._queue.extend(request.extend, now_ns(), lease=self._start.lease)
            self._unreported.settle(self._unreported.sort(request.extend, results))

    def _ack(self, tokens: Sequence[int]) -> None:
        self._drop(tokens)
        self._last_settled = now = now_ns()
        self._settle(self._unreported.sort(tokens, self._queue.ack(tokens, now)), is_promise=True)

    def _settle(self, tokens: Sequence[int], *, is_promise: bool) -> None:
        """Report settled leases: at once, or after a commit if the result must survive a restart of the server."""
        if not (is_promise and self._queue.is_durable):
            self._unreported.settle(tokens)
            return
        self._unreported.uncommitted += tokens
        if _is_done(self._committer):
            self._committer = self._start_task(self._commit())

    async def _commit(self) -> None:
        """Wait until settled leases are committed. Those settled meanwhile form the next group."""
        unreported = self._unreported
        while unreported.uncommitted:
            tokens, unreported.uncommitted = unreported.uncommitted, []
            commit = self._queue.commit(within=_SHARED_WITHIN)
            if commit is not None:
                await commit
            unreported.settle(tokens)
            self._wake()


def _is_done(task: asyncio.Task[None] | None) -> bool:
    return task is None or task.done()


class _Nack(NamedTuple):
    """A checked `ConsumeNack`."""

    token: int
    delay: int
    reason: str
    dead: bool
    unused: bool


def _read_nack(nack: pb.ConsumeNack) -> _Nack:
    return _Nack(
        nack.token,
        nack_delay_from_pb(nack, "nack.delay"),
        text_from_pb(nack.reason, "nack.reason", MAX_REASON_BYTES),
        nack.dead,
        nack.unused,
    )
