"""Leased messages of one queue, across reconnects.

A token passes through two collections here. While its message is being worked on it is in `_held`; then its outcome, an
ack or a nack, is in `_unsettled` until the server confirms it. Outcomes survive a reconnect: those that the server has
not confirmed are sent again on the next stream, before any message is requested. Held tokens do not, because the server
takes the messages of a broken stream back and redelivers them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Sequence
from itertools import islice
from time import monotonic
from typing import Any, NamedTuple, Protocol

from queuelet.backoff import Backoff
from queuelet.client.client import Client
from queuelet.client.consume_stream import Consumption
from queuelet.client.errors import Closed
from queuelet.client.finished import Finished
from queuelet.client.messages import ConsumeUpdate, Delivery, nack_to_pb
from queuelet.client.retries import BACKOFF, UNAVAILABLE
from queuelet.errors import MessageNotFound, QueueletError, QueueNotFound, TooMany, Unreachable
from queuelet.tasks import first_ended, is_cancelled
from queuelet.v1 import queue_pb2 as pb

_log = logging.getLogger("queuelet.client")

_MAX_OUTCOMES = 5_000
"""The largest number of outcomes in one request. By default a server accepts 10,000."""

_SETTLED_AFTER = 1.0
"""After how many seconds a stream counts as established."""

_SHARE = 4
"""Request more messages once a quarter of the window is free.

If they were requested as soon as any is free, then each response would free the same small amount again, and a window
that has broken up into single messages would stay so (RFC 813, the silly window syndrome).
"""


class SessionSettings(NamedTuple):
    """What to consume, and how."""

    queue: str
    consumer: str
    lease: float
    """How long leases last, in seconds; 0 for the queue's setting."""
    concurrency: int
    is_exclusive: bool
    reach_for: float | None
    """How long to try to reach a server that was never reached, in seconds; None for unlimited."""
    heartbeat: float
    """How long either side may be silent, in seconds; 0 for any time."""
    max_bytes: int
    """The largest number of bytes of messages here beyond those that are worked on; 0 for unlimited."""
    missing_for: float
    """How long to tolerate that a queue is missing that existed, or whose server is back, in seconds."""


class Recipient(Protocol):
    """Takes the messages of a session, and hears what happens to them."""

    def take(self, delivery: Delivery, /) -> None:
        """Take a message."""

    def lease_expired(self, token: int, error: QueueletError, /) -> None:
        """Note that the lease of a message expired while it is worked on."""

    def disconnected(self) -> None:
        """Note that the stream broke, so that the held messages returned to the queue."""

    def acked(self, count: int, /) -> None:
        """Note that this many acknowledged messages left the queue."""

    def ack_refused(self, error: QueueletError, /) -> None:
        """Note that a message was acknowledged too late, so that it may be redelivered."""

    def confirmed(self) -> None:
        """Note that fewer messages are held or unsettled now, or that this consumer holds the queue."""

    def window(self) -> int:
        """Return how many messages may be held at a time now."""

    def wanted(self) -> int | None:
        """Return how many more messages may come; None for no limit but the window."""


class LeaseSession:
    """Holds leased messages of one queue for a consumer."""

    def __init__(self, client: Client, settings: SessionSettings, recipient: Recipient) -> None:
        self._client = client
        self._settings = settings
        self._recipient = recipient
        self._lease = 0.0
        self._credit = 0
        self._held: set[int] = set()
        self._left: set[int] = set()
        """Tokens that were held when the stream broke."""
        self._unsettled: dict[int, pb.ConsumeNack | Delivery] = {}
        """The outcomes that the server has not confirmed: a nack, or the delivery that was acknowledged."""
        self._unreported: dict[int, pb.ConsumeNack | Delivery] = {}
        """Those of them that have not been sent on this stream."""
        self._finished = Finished()
        self._extended_at = self._suspects_until = 0.0
        """When leases were extended last, and until when messages of expired leases may be redelivered."""
        self._returned = 0
        """The last token that was handed back for other consumers."""
        self._must_revoke = self._must_confirm = False
        self._has_work = asyncio.Event()
        self._is_revoked = self._is_ending = False
        self._outage = _Outage(settings)
        self.holder_token = 0
        """The fencing token of an exclusive consumer that holds the queue; larger for each holder."""
        self.is_connected = False

    @property
    def unsettled(self) -> int:
        """The number of outcomes that the server has not confirmed."""
        return len(self._unsettled)

    @property
    def was_connected(self) -> bool:
        """Whether the server was ever reached."""
        return self._outage.was_reached

    @property
    def is_handing_back(self) -> bool:
        """Whether the server has not confirmed yet that messages were handed back. It sends no more until then."""
        return self._returned in self._unsettled

    def ack(self, delivery: Delivery) -> None:
        """Acknowledge a message."""
        self._settle(delivery.token, delivery)

    def nack(self, nack: pb.ConsumeNack) -> None:
        """Give a message back."""
        self._settle(nack.token, nack)

    def hand_back(self, tokens: Sequence[int]) -> None:
        """Give back messages that have waited here for too long, and accept none until the server has confirmed that.

        Otherwise the same messages would be redelivered here at once, or later ones before them.
        """
        for token in tokens:
            self.nack(nack_to_pb(token, unused=True))
        self._returned = tokens[-1]
        self._must_revoke = True

    def take_no_more(self) -> None:
        """Ask the server to send no more messages. Those in flight still arrive."""
        self._is_revoked = True
        self._has_work.set()

    def end(self) -> None:
        """End once the server has confirmed all outcomes. `run` returns then."""
        self._is_ending = True
        self._has_work.set()

    def look_again(self) -> None:
        """Check again whether more messages are wanted."""
        self._has_work.set()

    async def run(self) -> None:
        """Consume over one stream after another, and raise errors that a retry does not help against.

        Raises:
            Closed: The client is not open.
            QueueNotFound: The queue is missing for too long.
            QueueHeld: An exclusive consumer holds the queue.
        """
        while not self._is_ending:
            try:
                await self._consume()
            except (*UNAVAILABLE, TooMany, QueueNotFound) as error:
                await asyncio.sleep(self._outage.next_delay(error))
            except (Closed, asyncio.CancelledError):
                # gRPC cancels the calls of a client that is closed.
                if is_cancelled():
                    raise
                raise Closed("the client is not open; open it before the consumer, and close it afterwards") from None

    # Internals

    def _settle(self, token: int, outcome: pb.ConsumeNack | Delivery) -> None:
        self._held.discard(token)
        self._unsettled[token] = self._unreported[token] = outcome
        self._has_work.set()

    async def _consume(self) -> None:
        """Consume over one stream until it ends."""
        settings = self._settings
        queue = await self._client.get_queue(settings.queue)
        self._outage.was_reached = True
        self._lease = settings.lease or queue.delivery.lease_seconds
        await self._client.connect_directly(settings.queue)
        stream = self._client.consume(
            settings.queue,
            lease=settings.lease,
            consumer=settings.consumer,
            exclusive=settings.is_exclusive,
            concurrency=settings.concurrency,
            heartbeat=settings.heartbeat,
            max_bytes=settings.max_bytes,
        )
        self._credit = 0
        self._must_revoke = self._must_confirm = False
        # Leases of a Disk store survive a crash of the server. Nacked messages return to their old places.
        self._unreported = {token: pb.ConsumeNack(token=token, unused=True) for token in self._left}
        self._unreported.update(self._unsettled)
        try:
            self._extended_at = monotonic()
            await stream.begin(self._next_request() or pb.ConsumeRequest())
            self._left.clear()
            self.is_connected = True
            await _first_of(self._receive_loop(stream), self._send_loop(stream), self._extend_loop(), self._settle_in())
        finally:
            await stream.end(at_once=True)
            self.is_connected = False
            self.holder_token = 0
            self._left |= self._held
            self._held.clear()
            self._recipient.disconnected()

    async def _settle_in(self) -> None:
        """End the outage once the stream has lasted for a while, because a server may refuse a new one."""
        await asyncio.sleep(_SETTLED_AFTER)
        self._outage.end()
        await asyncio.Event().wait()

    async def _receive_loop(self, stream: Consumption) -> None:
        async for update in stream:
            self._outage.end()
            if update.deliveries and stream.heartbeat:
                # Confirm at once, because a handler may block this process.
                self._must_confirm = True
                self._has_work.set()
            self._process(update)
        if not self._is_ending:
            raise Unreachable("the server ended the stream")

    def _process(self, update: ConsumeUpdate) -> None:
        if update.holder_token:
            self.holder_token = update.holder_token
            _log.info("holds queue %s now, with token %d", self._settings.queue, update.holder_token)
        self._process_outcomes(update)
        # Not below 0, because messages may be in flight when the credit is revoked.
        self._credit = max(0, self._credit - len(update.deliveries))
        self._held.update(delivery.token for delivery in update.deliveries)
        if self.is_handing_back:
            for delivery in update.deliveries:
                self.nack(nack_to_pb(delivery.token, unused=True))
            return
        finished = self._among_finished(update.deliveries)
        for delivery in update.deliveries:
            if finished and delivery.token in finished:
                _log.info("message %s was already done; acknowledging it again", delivery.message.id)
                self.ack(delivery)
            else:
                self._recipient.take(delivery)

    def _among_finished(self, deliveries: Sequence[Delivery]) -> set[int]:
        """Return the tokens of messages that were finished here. Checked only if leases may have expired."""
        now = monotonic()
        if now > self._extended_at + self._lease * 2 / 3:
            self._suspects_until = now + self._lease
        if now > self._suspects_until and not self._finished:
            return set()
        return self._finished.among(deliveries, self._unsettled.values())

    def _process_outcomes(self, update: ConsumeUpdate) -> None:
        """Settle the outcomes that the server has confirmed or refused.

        An ack of a message that the server does not know counts as done, because an earlier ack most likely removed it.
        """
        unsettled = self._unsettled
        done = sum(isinstance(unsettled.pop(token, None), Delivery) for token in update.settled)
        for token, error in update.refused.items():
            outcome = unsettled.pop(token, None)
            if not isinstance(outcome, Delivery):
                continue
            if isinstance(error, MessageNotFound):
                done += 1
            else:
                self._finished.note(outcome)
                self._recipient.ack_refused(error)
        if done:
            self._recipient.acked(done)
        if self._returned and not self.is_handing_back:
            self._returned = 0
            self._has_work.set()
        self._recipient.confirmed()

    async def _send_loop(self, stream: Consumption) -> None:
        """Send requests whenever there is something to send. Meanwhile more outcomes gather."""
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            request = self._next_request()
            if request is not None:
                await stream.send(request)
                self._has_work.set()
                continue
            if self._is_ending and not self._unreported:
                # `_receive_loop` ends with the last response.
                await stream.end_requests()
                await asyncio.Event().wait()

    def _next_request(self) -> pb.ConsumeRequest | None:
        if self._is_revoked and self._credit:
            self._credit = 0
            return pb.ConsumeRequest(revoke=True)
        free = self._free()
        if not self._unreported and not free and not self._must_confirm:
            return None
        self._must_confirm = False
        outcomes = dict(islice(self._unreported.items(), _MAX_OUTCOMES))
        for token in outcomes:
            del self._unreported[token]
        if self._unreported:
            self._has_work.set()
        revoke, self._must_revoke = self._must_revoke, False
        self._credit = free if revoke else self._credit + free
        nacks = [outcome for outcome in outcomes.values() if not isinstance(outcome, Delivery)]
        acks: Iterable[int] = (
            [token for token, outcome in outcomes.items() if isinstance(outcome, Delivery)] if nacks else outcomes
        )
        return pb.ConsumeRequest(credit=free, ack=acks, nack=nacks, revoke=revoke)

    def _free(self) -> int:
        """Return how many more messages to request; 0 if they would be too few."""
        if self._is_revoked or self._is_ending or self.is_handing_back:
            return 0
        most, wanted = self._recipient.window(), self._recipient.wanted()
        free = most - len(self._held) - self._credit
        if wanted is not None:
            free, most = min(free, wanted - self._credit), min(most, wanted)
        return free if free >= max(1, most // _SHARE) else 0

    async def _extend_loop(self) -> None:
        """Extend the leases of held messages."""
        while True:
            self._extended_at = monotonic()
            await asyncio.sleep(self._lease / 3)
            tokens = list(self._held)
            if not tokens:
                continue
            _, errors = await self._client.extend(self._settings.queue, tokens, lease=self._lease)
            for token, error in zip(tokens, errors, strict=True):
                if error and token in self._held:
                    self._held.discard(token)
                    self._recipient.lease_expired(token, error)


class _Outage:
    """Whether the server is unavailable, and when to retry."""

    def __init__(self, settings: SessionSettings) -> None:
        self._settings = settings
        self._backoff = Backoff(*BACKOFF)
        self._began = monotonic()
        self._is_away = self._was_full = False
        self._missing_since = 0.0
        self.was_reached = False

    def end(self) -> None:
        """Note that the server responds again."""
        if self._is_away:
            if self._was_full:
                _log.info("the queue accepts waiting consumers again")
            else:
                _log.warning("%s is back", "the queue" if self._missing_since else "the server")
        self._backoff.reset()
        self._is_away, self._missing_since = False, 0.0

    def next_delay(self, error: QueueletError) -> float:
        """Return how long to back off, in seconds, or raise an error that a retry does not help against."""
        if isinstance(error, QueueNotFound):
            if not self._is_awaited():
                raise error
        elif not self.was_reached and not self._may_come():
            raise error
        if not self._is_away:
            self._is_away, self._was_full = True, isinstance(error, TooMany)
            _log.warning("%s; retrying%s", error.message, "" if self._was_full else " until it is back")
        return self._backoff.next_delay()

    def _may_come(self) -> bool:
        """Return whether to keep trying to reach a server that was never reached. Its address may be wrong."""
        reach_for = self._settings.reach_for
        return reach_for is None or monotonic() - self._began < reach_for

    def _is_awaited(self) -> bool:
        """Return whether a missing queue may still appear.

        A server that has just started may not have its queues yet, and an existing queue may be deleted to be declared
        again.
        """
        self._missing_since = self._missing_since or monotonic()
        return (self._is_away or self.was_reached) and monotonic() - self._missing_since < self._settings.missing_for


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Run coroutines until one of them ends, then cancel the others. Raises the error of the one that ended."""
    for task in await first_ended(*map(asyncio.ensure_future, works)):
        task.result()
