"""The Consume stream: the server pushes messages as far as it has credit, and is told on the way what became of them.

Three things go on at a time on a stream, and none holds up another: requests are read and done as they come; what the
store has yet to write is waited for; and one loop sends, since a stream takes one answer at a time. The loop sends what
there is to tell and leases what it sends along, so that a client that does not read has one batch on the way, and no
more. It waits for one event, which all others set.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from queuelet.bounds import Bounds
from queuelet.claims import Claim
from queuelet.clock import now_ns
from queuelet.errors import InvalidArgument, QueueletError
from queuelet.manager import Manager
from queuelet.message import TryOutcome
from queuelet.queue import Queue
from queuelet.rpc import Call, Send
from queuelet.service.leases import LONGEST_CONSUMER, LONGEST_REASON, deliveries, fitting, nack_delay_from_pb
from queuelet.status import error_to_pb
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire import check_at_most, lease_from_pb, page_size_from_pb, text_from_pb

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

_MOST_UNTOLD = 10_000
"""How many results may wait to be told before no more requests are read, of a client that does not read either."""


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
        """
        first = pb.ConsumeRequest.FromString(await anext(requests, b""))
        if not first.HasField("start"):
            raise InvalidArgument("start: say in the first request of a stream what it consumes", field="start")
        queue = self._manager.get(first.start.queue_id, "start.queue_id")
        asked = _read_start(first.start)
        await _Stream(queue, asked, send, self._manager.bounds).run(first, requests)


class _Start(NamedTuple):
    """What a stream consumes, checked."""

    lease: int
    most: int
    consumer: str
    is_exclusive: bool
    concurrency: int
    """How many messages the consumer works on at a time; 0 for all it has."""


def _read_start(start: pb.ConsumeStart) -> _Start:
    if start.concurrency < 0:
        raise InvalidArgument(
            f"start.concurrency: {start.concurrency} is negative; use 1 or more, or 0 for all messages it has",
            field="start.concurrency",
        )
    return _Start(
        lease=lease_from_pb(start.lease, "start.lease") if start.HasField("lease") else 0,
        most=min(page_size_from_pb(start.max, "start.max") or _USUAL_STEP, _STEP),
        consumer=text_from_pb(start.consumer, "start.consumer", LONGEST_CONSUMER),
        is_exclusive=start.exclusive,
        concurrency=start.concurrency,
    )


class _Untold:
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
        told: set[str] = set()
        for token, error in self._refused[:_STEP]:
            refusal = answer.refused.add(token=token, error=error_to_pb(error)).error
            if refusal.message in told:
                refusal.message = ""
            told.add(error.message)
        del self._settled[:_STEP], self._refused[:_STEP]
        return answer


class _Stream:
    """One stream."""

    def __init__(self, queue: Queue, asked: _Start, send: Send, bounds: Bounds) -> None:
        self._queue = queue
        self._asked = asked
        self._send = send
        self._bounds = bounds
        self._claim = Claim(self._wake, is_exclusive=asked.is_exclusive)
        self._is_announced = False
        self._credit = 0
        self._untold = _Untold()
        self._held: set[int] = set()
        self._next_look = _STEP
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
            self._do(first)
            self._reader = self._beside(self._read(requests))
            await self._tell()
        finally:
            self._end()

    def _end(self) -> None:
        """Give back what the stream has. This waits for nothing, so that no cancellation comes between."""
        for begun in (self._reader, self._keeper, self._pause):
            if begun is not None:
                begun.cancel()
        self._queue.give_up_waiting(self._called)
        # Tokens grow: what came first, and may have been begun, stands first.
        self._give_back(deque(sorted(self._held)), self._asked.concurrency or len(self._held))

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

    # Sending

    async def _tell(self) -> None:
        """Send until all requests have come and are answered."""
        while True:
            self._woken.clear()
            self._check()
            answers = [] if self._pauses else self._answers()
            for answer in answers:
                self._is_sending = True
                await self._send(answer)
                self._is_sending = False
            if answers:
                continue
            if self._pauses:
                await self._woken.wait()
                continue
            if _is_over(self._reader) and _is_over(self._keeper) and not self._untold:
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
        if len(told) + len(pushed) > self._bounds.message_bytes:
            return [told, pushed]
        return [told + pushed] if told or pushed else []

    def _results(self) -> bytes:
        is_news = self._claim.token and not self._is_announced
        if not is_news and not self._untold:
            return b""
        answer = self._untold.take(is_durable=self._queue.is_durable)
        if is_news:
            answer.holder_token = self._claim.token
            self._is_announced = True
        self._told.set()
        return answer.SerializeToString()

    @property
    def _wants_messages(self) -> bool:
        """Whether messages may be pushed now."""
        may_take = self._claim.token > 0 if self._asked.is_exclusive else True
        return self._credit > 0 and may_take and not _is_over(self._reader)

    def _lease(self) -> bytes:
        """Lease messages as far as there is credit, and return them as they are sent."""
        if not self._wants_messages or not self._queue.ready:
            return b""
        count, size = fitting(min(self._credit, self._asked.most), self._bounds.message_bytes)
        leased = self._queue.receive(
            count, size, now_ns(), lease=self._asked.lease, consumer=self._asked.consumer, claim=self._claim
        )
        count = len(leased.bodies)
        if count:
            self._credit -= count
            self._was_called = False
            self._held.update(range(leased.first_token, leased.first_token + count))
            if len(self._held) > self._next_look:
                self._forget_lost()
        return deliveries(leased)

    def _forget_lost(self) -> None:
        """Forget leases that ended elsewhere. Looked for as often as the number of all doubles."""
        self._held = set(filter(self._queue.is_leased, self._held))
        self._next_look = 2 * len(self._held) + _STEP

    def _stand_in_line(self) -> None:
        """Wait for a message among the others that do, or no longer where there is no credit for one."""
        if self._wants_messages and not self._stands_in_line:
            self._queue.wait_for_message(self._called, first=self._was_called)
            self._stands_in_line = True
        elif self._stands_in_line and not self._wants_messages:
            self._stands_in_line = False
            self._queue.give_up_waiting(self._called)
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
            asked = pb.ConsumeRequest.FromString(request)
            if asked.HasField("start"):
                raise InvalidArgument(
                    "start: a stream consumes what its first request says; open another one", field="start"
                )
            self._do(asked)
            self._was_heard = True
            self._wake()
            while len(self._untold) >= _MOST_UNTOLD:
                self._told.clear()
                await self._told.wait()

    def _do(self, asked: pb.ConsumeRequest) -> None:
        """Do what one request asks, or raise `InvalidArgument` before any of it is done."""
        self._check()
        if asked.credit < 0:
            raise InvalidArgument(f"credit: {asked.credit} is negative; use 0 or more", field="credit")
        for field in ("ack", "nack", "extend"):
            check_at_most(getattr(asked, field), field, self._bounds)
        nacks = [_read_nack(each) for each in asked.nack]
        if asked.revoke:
            self._credit = 0
        self._credit += asked.credit
        if asked.ack:
            self._ack(asked.ack)
        for (delay, reason, dead, unused), few in groupby(nacks, lambda each: each[1:]):
            tokens = [each.token for each in few]
            self._held.difference_update(tokens)
            buried = self._queue.tally.buried
            results = self._queue.nack(tokens, now_ns(), delay=delay, reason=reason, dead=dead, unused=unused)
            is_promise = delay > 0 or self._queue.tally.buried > buried
            self._settle(self._untold.sort(tokens, results), is_promise=is_promise)
        if asked.extend:
            results, _ = self._queue.extend(asked.extend, now_ns(), lease=self._asked.lease)
            self._untold.settle(self._untold.sort(asked.extend, results))

    def _ack(self, tokens: Sequence[int]) -> None:
        self._held.difference_update(tokens)
        self._settle(self._untold.sort(tokens, self._queue.ack(tokens, now_ns())), is_promise=True)

    def _settle(self, tokens: Sequence[int], *, is_promise: bool) -> None:
        """Tell what became of leases; of what must outlive the server, once it does."""
        if not (is_promise and self._queue.is_durable):
            self._untold.settle(tokens)
            return
        self._untold.unkept += tokens
        if _is_over(self._keeper):
            self._keeper = self._beside(self._keep())

    async def _keep(self) -> None:
        """Wait until acknowledged messages are removed for good. Those of meanwhile are one group, the next."""
        untold = self._untold
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
