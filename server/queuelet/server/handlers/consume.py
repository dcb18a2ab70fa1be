"""The Consume stream: the server pushes messages as far as it has credit, and is told on the way what became of them.

Three things go on at a time on a stream, and none holds up another: requests are read and done as they come; what the
store has yet to write is waited for; and one loop sends, since a stream takes one answer at a time. The loop sends what
there is to tell and leases what it sends along, so that a client that does not read has one batch on the way, and no
more. It waits for one event, which all others set.

With a client that asked for it the stream has a heartbeat: proxies keep the connection open, and a client that is
silent for three beats loses the stream. A beat is at most a fifth of a lease. Clients extend leases at a third of their
time, so a client that freezes is found out before a lease that it extends expires. Then the stream knows which messages
the client had in hand: those whose receipt it confirmed, as far as it works on them at a time. Only these deliveries
count.
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
from queuelet.core.manager import Manager
from queuelet.core.message import TryOutcome
from queuelet.core.queue import Queue
from queuelet.core.waiting import Waiter
from queuelet.errors import ClientSilent, InvalidArgument, QueueletError
from queuelet.server.endpoint import Call, Send
from queuelet.server.handlers.heartbeat import MISSED, Heartbeat
from queuelet.server.handlers.leases import LONGEST_CONSUMER, LONGEST_REASON, deliveries, fitting, nack_delay_from_pb
from queuelet.server.requests import check_at_most, lease_from_pb, nanoseconds_from_pb, page_size_from_pb, text_from_pb
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import BatchErrors

_STEP = 1_000
"""The most messages and results in one response: work on more would keep other calls from their turn."""

_APART = 0.002
"""How long after an answer the next one waits for a word of the client, in seconds; meanwhile more gathers.

As Nagle's algorithm has it (RFC 896): a client that reads more slowly than small answers are written would otherwise
have ever more of them on the way, and each message would wait behind all before it.
"""

_SHARED_WITHIN = 0.005
"""How long acknowledgements wait for others to share a transaction of a Disk store, in seconds."""

_USUAL_STEP = 500
"""The most messages in one response where the client does not say.

A client that holds a thousand works on one response while the next is on its way.
"""

_MOST_UNREPORTED = 10_000
"""How many results may wait to be told before no more requests are read, of a client that does not read either."""

_SECOND = 1_000_000_000

_FASTEST_BEAT, _SLOWEST_BEAT = 100_000_000, 3_600_000_000_000
"""The bounds of a heartbeat, in nanoseconds."""

_BEATS_PER_LEASE = 5
"""So many heartbeats are in a lease at least: three of them are over before a lease that was extended at a third is."""


class ConsumeRpcs:
    """The handler."""

    def __init__(self, manager: Manager) -> None:
        """Take the queues."""
        self._manager = manager

    async def consume(self, requests: AsyncIterator[bytes], send: Send, call: Call) -> None:
        """Lease messages as credit is granted, and settle leases, until the stream ends; then its leases do too.

        A client that has no more requests to send has nothing more to settle either: what it asked for is answered,
        the rest of its leases go back, and the stream ends OK.

        Raises:
            InvalidArgument: a request breaks a rule. It is not done, not even in part.
            QueueNotFound: there is no such queue, or it was deleted meanwhile.
            QueueHeld: the stream is not exclusive, and somebody holds the queue, or has come to hold it.
            TooMany: as many calls as may wait on the queue do so already.
            StoreFailed: it is not known what became of acknowledgements.
            ClientSilent: the client asked for a heartbeat, and was silent for three of them.
        """
        first = pb.ConsumeRequest.FromString(await anext(requests, b""))
        if not first.HasField("start"):
            raise InvalidArgument("start: say in the first request of a stream what it consumes", field="start")
        queue = self._manager.get(first.start.queue_id, "start.queue_id")
        asked = _read_start(first.start)
        await _Stream(queue, asked, send, self._manager.bounds, call.peer_host).run(first, requests)


class _Start(NamedTuple):
    """What a stream consumes, checked."""

    lease: int
    most: int
    consumer: str
    is_exclusive: bool
    concurrency: int
    """How many messages the consumer works on at a time; 0 for all it has."""
    heartbeat: int
    """How long the stream may be silent, in nanoseconds; 0 for any time."""
    max_bytes: int
    """How many bytes of messages the consumer holds before more are sent; 0 for no bound."""


def _read_start(start: pb.ConsumeStart) -> _Start:
    if start.concurrency < 0:
        raise InvalidArgument(
            f"start.concurrency: {start.concurrency} is negative; use 1 or more, or 0 for all messages it has",
            field="start.concurrency",
        )
    if start.max_bytes < 0:
        raise InvalidArgument(
            f"start.max_bytes: {start.max_bytes} is negative; use 1 or more, or 0 for no bound", field="start.max_bytes"
        )
    heartbeat = (
        nanoseconds_from_pb(start.heartbeat, "start.heartbeat", _SLOWEST_BEAT // _SECOND)
        if start.HasField("heartbeat")
        else 0
    )
    if heartbeat and not _FASTEST_BEAT <= heartbeat <= _SLOWEST_BEAT:
        raise InvalidArgument(
            f"start.heartbeat: {heartbeat / _SECOND:g} s is out of range; use 0.1 s to 1 h, or leave it out",
            field="start.heartbeat",
        )
    return _Start(
        lease=lease_from_pb(start.lease, "start.lease") if start.HasField("lease") else 0,
        most=min(page_size_from_pb(start.max, "start.max") or _USUAL_STEP, _STEP),
        consumer=text_from_pb(start.consumer, "start.consumer", LONGEST_CONSUMER),
        is_exclusive=start.exclusive,
        concurrency=start.concurrency,
        heartbeat=heartbeat,
        max_bytes=start.max_bytes,
    )


def _agreed(heartbeat: int, lease: int) -> int:
    """Return the heartbeat of a stream whose leases last so long, both in nanoseconds; 0 for none."""
    return max(_FASTEST_BEAT, min(heartbeat, lease // _BEATS_PER_LEASE)) if heartbeat else 0


class _Unreported:
    """What became of leases and was not told yet."""

    def __init__(self) -> None:
        self._settled: list[int] = []
        self._refused: list[tuple[int, QueueletError]] = []
        self.unkept: list[int] = []
        """Tokens of acknowledged messages that the store has yet to remove for good."""

    def __len__(self) -> int:
        return len(self._settled) + len(self._refused) + len(self.unkept)

    def settle(self, tokens: Iterable[int]) -> None:
        self._settled += tokens

    def sort(self, tokens: Sequence[int], results: Sequence[QueueletError | None]) -> Sequence[int]:
        """Note the leases that were refused; return the others."""
        if not any(results):
            return tokens
        pairs = list(zip(tokens, results, strict=True))
        self._refused += [(token, error) for token, error in pairs if error is not None]
        return [token for token, error in pairs if error is None]

    def take(self, *, is_durable: bool) -> pb.ConsumeResponse:
        """Return some of it to tell, none of which is untold any more. A sentence is not repeated."""
        answer = pb.ConsumeResponse(settled=self._settled[:_STEP])
        if self._settled:
            answer.durability = pb.DURABILITY_DISK if is_durable else pb.DURABILITY_MEMORY
        errors = BatchErrors()
        for token, error in self._refused[:_STEP]:
            answer.refused.add(token=token, error=errors.to_pb(error))
        del self._settled[:_STEP], self._refused[:_STEP]
        return answer


class _Stream:
    """One stream."""

    def __init__(self, queue: Queue, asked: _Start, send: Send, bounds: Bounds, peer: str) -> None:
        self._queue = queue
        self._asked = asked
        self._send = send
        self._bounds = bounds
        self._claim = Claim(self._wake, is_exclusive=asked.is_exclusive, peer=peer)
        self._waiter = Waiter(self._called, peer)
        self._is_announced = self._is_beat_announced = False
        self._credit = 0
        self._unreported = _Unreported()
        self._held: dict[int, int] = {}
        """The size of each message that the client holds, by token, in bytes."""
        self._held_bytes = 0
        self._received = 0
        """The newest token that the client has read, of one that asked for a heartbeat."""
        self._unheard = 0
        """The first token that was given since the client said anything, 0 if there is none."""
        self._next_look = _STEP
        lease = asked.lease or queue.definition.delivery.lease_seconds * _SECOND
        self._beat_ns = _agreed(asked.heartbeat, lease)
        self._heartbeat: Heartbeat | None = None
        self._is_beat_due = self._is_silent = self._has_ended = False
        self._woken = asyncio.Event()
        self._told = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stands_in_line = False
        self._was_called = False
        self._is_sending = False
        self._was_heard = True
        """Whether the client has said anything since the last answer."""
        self._pause: asyncio.TimerHandle | None = None

    async def run(self, first: pb.ConsumeRequest, requests: AsyncIterator[bytes]) -> None:
        """Serve it to its end, and leave nothing behind."""
        self._queue.claim(self._claim)
        try:
            self._apply(first)
            if self._beat_ns:
                self._heartbeat = Heartbeat(self._beat_ns / _SECOND, self._beat, self._miss)
            self._reader = self._beside(self._read(requests))
            if not self._queue.ready:
                self._stand_in_line()  # first, so that a stream that is refused for it was not greeted before
            await self._send_loop()
        finally:
            self._end()

    def _end(self) -> None:
        """Give back what the stream has. This waits for nothing, so that no cancellation comes between."""
        if self._has_ended:
            return
        self._has_ended = True
        for begun in (self._reader, self._keeper, self._pause):
            if begun is not None:
                begun.cancel()
        if self._heartbeat is not None:
            self._heartbeat.stop()
        self._queue.give_up_waiting(self._waiter)
        # Tokens grow: what came first, and may have been begun, stands first.
        held = sorted(self._held)
        confirmed = bisect_right(held, self._received) if self._beat_ns else len(held)
        self._give_back(deque(held), min(confirmed, self._asked.concurrency or confirmed))

    def _give_back(self, held: deque[int], begun: int) -> None:
        """Give back leases and then the claim: the messages are in the queue again when the next in line begins.

        A great many are given back step by step, so that other calls have their turn. `begun` says on how many of the
        messages there may have been work.
        """
        if not self._queue.has_ended:
            step = [held.popleft() for _ in range(min(_STEP, begun or _STEP, len(held)))]
            self._queue.nack(step, now_ns(), outcome=TryOutcome.RELEASED, unused=not begun)
            if held:
                asyncio.get_running_loop().call_soon(self._give_back, held, max(0, begun - len(step)))
                return
        self._queue.release_claim(self._claim)

    def _beside(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Do something beside sending, which hears of its end."""
        task = asyncio.ensure_future(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # asked for, so that asyncio does not report it where nobody is left to raise it
        self._wake()

    def _wake(self) -> None:
        self._woken.set()

    # Heartbeat

    def _beat(self) -> None:
        """Have an empty response sent, if nothing else is."""
        self._is_beat_due = True
        if self._is_full:
            self._forget_lost()
        self._wake()

    def _miss(self) -> None:
        """Note that the client is silent, and end the stream. Where the client does not read, its leases end before."""
        if _is_over(self._reader) or len(self._unreported) >= _MOST_UNREPORTED:
            return  # it has nothing more to say, or is not listened to
        self._is_silent = True
        if self._is_sending:
            self._end()
        self._wake()

    def _silence(self) -> ClientSilent:
        seconds = MISSED * self._beat_ns / _SECOND
        return ClientSilent(
            f"the client was silent for {seconds:g} s: its program or its machine stands still, or its handler blocks "
            "the event loop; its leases ended, and others get the messages",
            queue=self._queue.label,
        )

    # Sending

    async def _send_loop(self) -> None:
        """Send until all requests have come and are answered."""
        while True:
            self._woken.clear()
            self._check()
            answers = [] if self._pauses else self._answers()
            for answer in answers:
                self._is_sending = True
                await self._send(answer)
                self._is_sending = False
                if self._heartbeat is not None:
                    self._heartbeat.note_sent()
            if answers:
                continue
            if self._pauses:
                await self._woken.wait()
                continue
            if _is_over(self._reader) and _is_over(self._keeper) and not self._unreported:
                return
            self._stand_in_line()
            await self._woken.wait()

    @property
    def _pauses(self) -> bool:
        """Whether the next answer waits for a word of the client, or for a moment."""
        return self._pause is not None and not self._was_heard and not _is_over(self._reader)

    def _pause_for_a_word(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._was_heard = False
        self._pause = asyncio.get_running_loop().call_later(_APART, self._end_pause)

    def _end_pause(self) -> None:
        self._pause = None
        self._wake()

    def _check(self) -> None:
        """Raise why the stream has to end, if it has to."""
        if self._is_silent:
            raise self._silence()
        for task in (self._reader, self._keeper):
            if task is not None and task.done():
                task.result()
        self._queue.check_exists()
        if not self._asked.is_exclusive:
            self._queue.check_free()

    def _answers(self) -> list[bytes]:
        """Return what there is to send: results, and messages leased for it, in one answer if they fit."""
        told, pushed = self._results(), self._lease()
        if pushed:
            self._pause_for_a_word()
        is_beat, self._is_beat_due = self._is_beat_due, False
        if len(told) + len(pushed) > self._bounds.message_bytes:
            return [told, pushed]
        return [told + pushed] if told or pushed or is_beat else []

    def _results(self) -> bytes:
        is_news = self._claim.token and not self._is_announced
        is_first = self._beat_ns and not self._is_beat_announced
        if not is_news and not is_first and not self._unreported:
            return b""
        answer = self._unreported.take(is_durable=self._queue.is_durable)
        if is_first:
            answer.heartbeat.FromNanoseconds(self._beat_ns)
            self._is_beat_announced = True
        if is_news:
            answer.holder_token = self._claim.token
            self._is_announced = True
        self._told.set()
        return answer.SerializeToString()

    @property
    def _wants_messages(self) -> bool:
        """Whether messages may be pushed now."""
        may_take = self._claim.token > 0 if self._asked.is_exclusive else True
        return self._credit > 0 and may_take and not _is_over(self._reader) and not self._is_full and not self._is_mute

    @property
    def _is_mute(self) -> bool:
        """Whether the client let a lease expire and said nothing since. It gets no more until it does."""
        return self._unheard > 0 and self._queue.has_lost(self._unheard)

    @property
    def _slots(self) -> int:
        """How many messages the client gets whatever their size."""
        return max(0, max(1, self._asked.concurrency) - len(self._held))

    @property
    def _is_full(self) -> bool:
        """Whether the client holds as many bytes as it wants, and as many messages as it works on."""
        return 0 < self._asked.max_bytes <= self._held_bytes and not self._slots

    def _lease(self) -> bytes:
        """Lease messages as far as there is credit, and return them as they are sent."""
        now = now_ns()
        # What is due comes first: a lease of this stream may have expired.
        if not self._queue.has_ready(now) or not self._wants_messages:
            return b""
        count, size = fitting(min(self._credit, self._asked.most), self._bounds.message_bytes)
        if self._asked.max_bytes:
            left = self._asked.max_bytes - self._held_bytes
            count, size = (count, min(size, left)) if left > 0 else (min(count, self._slots), size)
        leased = self._queue.receive(
            count, size, now, lease=self._asked.lease, consumer=self._asked.consumer, claim=self._claim
        )
        count = len(leased.bodies)
        if count:
            self._credit -= count
            self._was_called = False
            self._unheard = self._unheard or leased.first_token
            sizes = list(map(len, leased.bodies))
            self._held.update(zip(range(leased.first_token, leased.first_token + count), sizes, strict=True))
            self._held_bytes += sum(sizes)
            if len(self._held) > self._next_look:
                self._forget_lost()
        return deliveries(leased)

    def _drop(self, tokens: Iterable[int]) -> None:
        """Note that the client holds the messages of these tokens no longer."""
        self._held_bytes -= sum(map(self._held.pop, tokens, repeat(0)))

    def _forget_lost(self) -> None:
        """Forget leases that ended elsewhere. Looked for as often as the number of all doubles."""
        self._drop([token for token in self._held if not self._queue.is_leased(token)])
        self._next_look = 2 * len(self._held) + _STEP

    def _stand_in_line(self) -> None:
        """Wait for a message among the others that do, or no longer where there is no credit for one."""
        if self._wants_messages and not self._stands_in_line:
            self._queue.wait_for_message(self._waiter, first=self._was_called)
            self._stands_in_line = True
        elif self._stands_in_line and not self._wants_messages:
            self._stands_in_line = False
            self._queue.give_up_waiting(self._waiter)
        elif self._was_called and not self._wants_messages:
            # It was called for a message, and has no credit left to take it.
            self._was_called = False
            self._queue.pass_turn()

    def _called(self) -> None:
        """There is a message to try for. Whoever is still sending may be for long, and lets the next in line try."""
        self._stands_in_line = False
        if self._is_sending:
            self._queue.pass_turn()
            return
        self._was_called = True
        self._wake()

    # Requests

    async def _read(self, requests: AsyncIterator[bytes]) -> None:
        """Do what is asked, as it comes."""
        async for request in requests:
            self._unheard = 0
            if self._heartbeat is not None:
                self._heartbeat.note_heard()
            asked = pb.ConsumeRequest.FromString(request)
            if asked.HasField("start"):
                raise InvalidArgument(
                    "start: a stream consumes what its first request says; open another one", field="start"
                )
            self._apply(asked)
            # That messages were read says nothing of how fast they are: what follows gathers further.
            self._was_heard = self._was_heard or asked.credit > 0 or bool(asked.ack or asked.nack or asked.extend)
            self._wake()
            while len(self._unreported) >= _MOST_UNREPORTED:
                self._told.clear()
                await self._told.wait()

    def _apply(self, asked: pb.ConsumeRequest) -> None:
        """Do what one request asks, or raise `InvalidArgument` before any of it is done."""
        self._check()
        if asked.credit < 0:
            raise InvalidArgument(f"credit: {asked.credit} is negative; use 0 or more", field="credit")
        for field in ("ack", "nack", "extend"):
            check_at_most(getattr(asked, field), field, self._bounds)
        nacks = [_read_nack(each) for each in asked.nack]
        self._received = max(self._received, asked.received)
        if asked.revoke:
            self._credit = 0
        self._credit += asked.credit
        if asked.ack:
            self._ack(asked.ack)
        for (delay, reason, dead, unused), few in groupby(nacks, lambda each: each[1:]):
            tokens = [each.token for each in few]
            self._drop(tokens)
            buried = self._queue.tally.buried
            results = self._queue.nack(tokens, now_ns(), delay=delay, reason=reason, dead=dead, unused=unused)
            is_promise = delay > 0 or self._queue.tally.buried > buried
            self._settle(self._unreported.sort(tokens, results), is_promise=is_promise)
        if asked.extend:
            results, _ = self._queue.extend(asked.extend, now_ns(), lease=self._asked.lease)
            self._unreported.settle(self._unreported.sort(asked.extend, results))

    def _ack(self, tokens: Sequence[int]) -> None:
        self._drop(tokens)
        self._settle(self._unreported.sort(tokens, self._queue.ack(tokens, now_ns())), is_promise=True)

    def _settle(self, tokens: Sequence[int], *, is_promise: bool) -> None:
        """Tell what became of leases; of what must outlive the server, once it does."""
        if not (is_promise and self._queue.is_durable):
            self._unreported.settle(tokens)
            return
        self._unreported.unkept += tokens
        if _is_over(self._keeper):
            self._keeper = self._beside(self._keep())

    async def _keep(self) -> None:
        """Wait until acknowledged messages are removed for good. Those of meanwhile are one group, the next."""
        untold = self._unreported
        while untold.unkept:
            tokens, untold.unkept = untold.unkept, []
            commit = self._queue.commit(within=_SHARED_WITHIN)
            if commit is not None:
                await commit
            untold.settle(tokens)
            self._wake()


def _is_over(task: asyncio.Task[None] | None) -> bool:
    return task is None or task.done()


class _Nack(NamedTuple):
    """A lease to give back, checked."""

    token: int
    delay: int
    reason: str
    dead: bool
    unused: bool


def _read_nack(nack: pb.ConsumeNack) -> _Nack:
    return _Nack(
        nack.token,
        nack_delay_from_pb(nack, "nack.delay"),
        text_from_pb(nack.reason, "nack.reason", LONGEST_REASON),
        nack.dead,
        nack.unused,
    )
