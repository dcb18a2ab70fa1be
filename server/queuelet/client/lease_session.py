"""Messages under leases, over as many connections as it takes.

A token goes through two places here: its message is somebody's work (`held`), then what became of it is on its way to
the server (`_unsettled`). The second outlives a connection: what the server has not confirmed is said again on the next
one, before any message is asked for. The first does not: the server takes messages back from a stream that breaks, and
gives them out anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from time import monotonic
from typing import Any, NamedTuple

from queuelet.client.client import Client
from queuelet.client.consume_stream import Consumption, is_cancelled
from queuelet.client.errors import Closed
from queuelet.client.finished import Finished
from queuelet.client.messages import Delivery, News, nack_to_pb
from queuelet.client.retries import AWAY, Backoff
from queuelet.errors import MessageNotFound, QueueletError, QueueNotFound, TooMany, Unreachable
from queuelet.v1 import queue_pb2 as pb

_log = logging.getLogger("queuelet.client")

_MOST_TOLD = 5_000
"""How many outcomes go into one request. A server takes 10,000 unless told otherwise."""

_SETTLED_AFTER = 1.0
"""A stream that goes on for so long is served, in seconds."""

_SHARE = 4
"""More messages are asked for when a quarter of those that may be held is free.

If they were asked for whenever any is, as many would come, and be asked for again: once a window is in pieces of one
message, it stays so (RFC 813, the silly window).
"""


class Terms(NamedTuple):
    """How messages are to come."""

    queue: str
    consumer: str
    lease: float
    """How long leases last, in seconds; 0 for what the queue says."""
    concurrency: int
    is_exclusive: bool
    reach_for: float | None
    """How long to try to reach a server that was never reached, in seconds; None for ever."""
    heartbeat: float
    """For how long either side may be silent, in seconds; 0 for any time."""
    max_bytes: int
    """How many bytes of messages may be here beside those that are worked on; 0 for any number."""
    missing_for: float
    """How long a queue that was there may be missing, or one of a server that is back, in seconds."""


class Work(NamedTuple):
    """Who works on the messages."""

    take: Callable[[Delivery], None]
    """Take a message."""
    lose: Callable[[int, QueueletError], None]
    """Hear that the message of a token is somebody else's now, though its work goes on here."""
    disconnected: Callable[[], None]
    """Hear that the messages that are held went back, and may come again."""
    done: Callable[[int], None]
    """Hear that so many messages that were acknowledged are out of the queue."""
    undone: Callable[[QueueletError], None]
    """Hear why a message that was acknowledged may come again."""
    changed: Callable[[], None]
    """Hear that less is held or unsettled now, or that the queue is held."""
    room: Callable[[], int]
    """Return how many messages may be held at a time, as things stand."""
    wanted: Callable[[], int | None]
    """Return how many more messages may come at most; None for as many as can be held."""


class Lessee:
    """Holds messages of one queue for a consumer."""

    def __init__(self, client: Client, terms: Terms, work: Work) -> None:
        """Take an open client, how messages are to come, and who works on them."""
        self._client = client
        self._terms = terms
        self._work = work
        self._lease = 0.0
        self._credit = 0
        self._held: set[int] = set()
        self._left: set[int] = set()
        """What was held when the connection ended."""
        self._unsettled: dict[int, pb.ConsumeNack | Delivery] = {}
        """What became of each message: given back, or done."""
        self._unreported: dict[int, pb.ConsumeNack | Delivery] = {}
        self._finished = Finished()
        self._extended_at = self._suspects_until = 0.0
        """When leases were extended last, and until when some of before may have expired."""
        self._returned = 0
        """The last token that was handed back in favour of other consumers."""
        self._must_revoke = self._must_confirm = False
        self._has_news = asyncio.Event()
        self._is_revoked = self._is_ending = False
        self._outage = _Outage(terms)
        self.holder_token = 0
        """Of an exclusive consumer that holds the queue: larger for each holder."""
        self.is_connected = False

    @property
    def unsettled(self) -> int:
        """Of how many messages the server has not confirmed what it was told."""
        return len(self._unsettled)

    @property
    def was_connected(self) -> bool:
        """Whether the server was ever reached."""
        return self._outage.was_reached

    @property
    def is_handing_back(self) -> bool:
        """Whether the server has yet to hear that messages were handed back. It sends no more until then."""
        return self._returned in self._unsettled

    def ack(self, delivery: Delivery) -> None:
        """Say that a message is done."""
        self._settle(delivery.token, delivery)

    def nack(self, nack: pb.ConsumeNack) -> None:
        """Give a message back."""
        self._settle(nack.token, nack)

    def hand_back(self, tokens: Sequence[int]) -> None:
        """Give messages back that wait here for too long, and take no more until the server has heard of that.

        Otherwise they would come again at once, or later ones before them.
        """
        for token in tokens:
            self.nack(nack_to_pb(token, unused=True))
        self._returned = tokens[-1]
        self._must_revoke = True

    def take_no_more(self) -> None:
        """Have the server send nothing more. What is on the way comes still."""
        self._is_revoked = True
        self._has_news.set()

    def end(self) -> None:
        """End once the server has answered what it was told. `run` returns then."""
        self._is_ending = True
        self._has_news.set()

    def look_again(self) -> None:
        """See whether more messages are wanted now."""
        self._has_news.set()

    async def run(self) -> None:
        """Consume over one connection after the other. Raises what does not go by itself.

        Raises:
            Closed: the client is not open, or not any more.
        """
        while not self._is_ending:
            try:
                await self._consume()
            except (*AWAY, TooMany, QueueNotFound) as error:
                await asyncio.sleep(self._outage.next_delay(error))
            except (Closed, asyncio.CancelledError):
                # The calls of a client that is closed are cancelled.
                if is_cancelled():
                    raise
                raise Closed(
                    "the client was closed under the consumer, or never opened: open it before, and close it after"
                ) from None

    # Inside

    def _settle(self, token: int, outcome: pb.ConsumeNack | Delivery) -> None:
        self._held.discard(token)
        self._unsettled[token] = self._unreported[token] = outcome
        self._has_news.set()

    async def _consume(self) -> None:
        """Consume over one connection, until it ends."""
        terms = self._terms
        queue = await self._client.get_queue(terms.queue)
        self._outage.was_reached = True
        self._lease = terms.lease or queue.delivery.lease_seconds
        stream = self._client.consume(
            terms.queue,
            lease=terms.lease,
            consumer=terms.consumer,
            exclusive=terms.is_exclusive,
            concurrency=terms.concurrency,
            heartbeat=terms.heartbeat,
            max_bytes=terms.max_bytes,
        )
        self._credit = 0
        self._must_revoke = self._must_confirm = False
        # A Disk store keeps leases when its server is killed. Given back they come again, in their old places.
        self._unreported = {token: pb.ConsumeNack(token=token, unused=True) for token in self._left}
        self._unreported.update(self._unsettled)
        try:
            self._extended_at = monotonic()
            await stream.begin(self._next_request() or pb.ConsumeRequest())
            self._left.clear()
            self.is_connected = True
            await _first_of(self._listen(stream), self._tell(stream), self._extend(), self._settle_in())
        finally:
            await stream.end(at_once=True)
            self.is_connected = False
            self.holder_token = 0
            self._left |= self._held
            self._held.clear()
            self._work.disconnected()

    async def _settle_in(self) -> None:
        """Take a stream for served that goes on for a while. A server may refuse it just after it has begun."""
        await asyncio.sleep(_SETTLED_AFTER)
        self._outage.end()
        await asyncio.Event().wait()

    async def _listen(self, stream: Consumption) -> None:
        async for news in stream:
            self._outage.end()
            if news.deliveries and stream.heartbeat:
                # First of all, since a handler may hold up this process.
                self._must_confirm = True
                self._has_news.set()
            self._hear(news)
        if not self._is_ending:
            raise Unreachable("the server ended the stream")

    def _hear(self, news: News) -> None:
        if news.holder_token:
            self.holder_token = news.holder_token
            _log.info("holds queue %s now, with token %d", self._terms.queue, news.holder_token)
        self._confirm(news)
        self._credit = max(0, self._credit - len(news.deliveries))  # what was on its way when it was revoked
        self._held.update(delivery.token for delivery in news.deliveries)
        if self.is_handing_back:
            for delivery in news.deliveries:
                self.nack(nack_to_pb(delivery.token, unused=True))
            return
        finished = self._among_finished(news.deliveries)
        for delivery in news.deliveries:
            if finished and delivery.token in finished:
                _log.info("message %s was done before, and is acknowledged again", delivery.message.id)
                self.ack(delivery)
            else:
                self._work.take(delivery)

    def _among_finished(self, deliveries: Sequence[Delivery]) -> set[int]:
        """Return the tokens of messages that were finished here before. Looked for if leases may have expired here."""
        now = monotonic()
        if now > self._extended_at + self._lease * 2 / 3:
            self._suspects_until = now + self._lease
        if now > self._suspects_until and not self._finished:
            return set()
        return self._finished.among(deliveries, self._unsettled.values())

    def _confirm(self, news: News) -> None:
        """Take the server's word on what became of messages. What it does not know of was most likely acknowledged."""
        unsettled = self._unsettled
        done = sum(isinstance(unsettled.pop(token, None), Delivery) for token in news.settled)
        for token, error in news.refused.items():
            outcome = unsettled.pop(token, None)
            if not isinstance(outcome, Delivery):
                continue
            if isinstance(error, MessageNotFound):
                done += 1
            else:
                self._finished.note(outcome)
                self._work.undone(error)
        if done:
            self._work.done(done)
        if self._returned and not self.is_handing_back:
            self._returned = 0
            self._has_news.set()
        self._work.changed()

    async def _tell(self, stream: Consumption) -> None:
        """Say what there is to say, whenever there is something; meanwhile more gathers."""
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            request = self._next_request()
            if request is not None:
                await stream.say(request)
                self._has_news.set()
                continue
            if self._is_ending and not self._unreported:
                # It is `_listen` that ends then, with the last answer.
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
        told = list(self._unreported.items())[:_MOST_TOLD]
        for token, _ in told:
            del self._unreported[token]
        if self._unreported:
            self._has_news.set()
        revoke, self._must_revoke = self._must_revoke, False
        self._credit = free if revoke else self._credit + free
        nacks = [outcome for _, outcome in told if not isinstance(outcome, Delivery)]
        acks = (
            [token for token, outcome in told if isinstance(outcome, Delivery)] if nacks else [each[0] for each in told]
        )
        return pb.ConsumeRequest(credit=free, ack=acks, nack=nacks, revoke=revoke)

    def _free(self) -> int:
        """Return how many more messages are to come; 0 while too few may."""
        if self._is_revoked or self._is_ending or self.is_handing_back:
            return 0
        most, wanted = self._work.room(), self._work.wanted()
        free = most - len(self._held) - self._credit
        if wanted is not None:
            free, most = min(free, wanted - self._credit), min(most, wanted)
        return free if free >= max(1, most // _SHARE) else 0

    async def _extend(self) -> None:
        """Keep the leases of what is held."""
        while True:
            self._extended_at = monotonic()
            await asyncio.sleep(self._lease / 3)
            tokens = list(self._held)
            if not tokens:
                continue
            _, errors = await self._client.extend(self._terms.queue, tokens, lease=self._lease)
            for token, error in zip(tokens, errors, strict=True):
                if error and token in self._held:
                    self._held.discard(token)
                    self._work.lose(token, error)


class _Outage:
    """Whether the server is away, and how long to wait before it is tried again."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._backoff = Backoff()
        self._began = monotonic()
        self._is_away = self._was_crowded = False
        self._missing_since = 0.0
        self.was_reached = False

    def end(self) -> None:
        """Note that the server answers."""
        if self._is_away:
            if self._was_crowded:
                _log.info("there is room again to wait on the queue")
            else:
                _log.warning("%s is back", "the queue" if self._missing_since else "the server")
        self._backoff.reset()
        self._is_away, self._missing_since = False, 0.0

    def next_delay(self, error: QueueletError) -> float:
        """Return how long to wait now, or raise an error that does not go by itself."""
        if isinstance(error, QueueNotFound):
            if not self._is_awaited():
                raise error
        elif not self.was_reached and not self._may_come():
            raise error
        if not self._is_away:
            self._is_away, self._was_crowded = True, isinstance(error, TooMany)
            _log.warning("%s; trying again%s", error.message, "" if self._was_crowded else " until it is back")
        return self._backoff.next_delay()

    def _may_come(self) -> bool:
        """Tell whether a server that was never reached is still waited for: the address may be wrong."""
        patience = self._terms.reach_for
        return patience is None or monotonic() - self._began < patience

    def _is_awaited(self) -> bool:
        """Return whether a queue that is missing may still come.

        A server that starts may lack it for a while, and one that was there may be deleted to be declared again.
        """
        self._missing_since = self._missing_since or monotonic()
        return (self._is_away or self.was_reached) and monotonic() - self._missing_since < self._terms.missing_for


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Do things at the same time until one of them ends, then end the others. Raises what that one raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
