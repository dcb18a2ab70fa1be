"""Messages under leases, over as many connections as it takes.

A token goes through two places here: its message is somebody's work (`held`), then what became of it is on its way to
the server (`_unsettled`). The second outlives a connection: what the server has not confirmed is said again on the next
one, before any message is asked for. The first does not: the server takes messages back from a stream that breaks, and
gives them out anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, NamedTuple

from queuelet.client.client import Client
from queuelet.client.consumption import Consumption, is_cancelled
from queuelet.client.errors import Closed
from queuelet.client.retries import AWAY, Backoff
from queuelet.client.values import Delivery, News
from queuelet.errors import MessageNotFound, QueueletError, QueueNotFound, TooMany, Unreachable
from queuelet.v1 import queue_pb2 as pb

_log = logging.getLogger("queuelet.client")

_MOST_TOLD = 5_000
"""How many outcomes go into one request. A server takes 10,000 unless told otherwise."""

_NOT_TOLD = pb.ConsumeNack()
"""Stands for a token of which nothing was said."""

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
        self._unsettled: dict[int, pb.ConsumeNack | None] = {}
        self._untold: dict[int, pb.ConsumeNack | None] = {}
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

    def ack(self, token: int) -> None:
        """Say that a message is done."""
        self._settle(token, None)

    def nack(self, nack: pb.ConsumeNack) -> None:
        """Give a message back."""
        self._settle(nack.token, nack)

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

    def _settle(self, token: int, nack: pb.ConsumeNack | None) -> None:
        self._held.discard(token)
        self._unsettled[token] = self._untold[token] = nack
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
        )
        self._credit = 0
        # A Disk store keeps leases when its server is killed. Given back they come again, in their old places.
        self._untold = {token: pb.ConsumeNack(token=token, unused=True) for token in self._left}
        self._untold.update(self._unsettled)
        try:
            await stream.begin(self._next_request() or pb.ConsumeRequest())
            self._outage.end()
            self._left.clear()
            self.is_connected = True
            await _first_of(self._listen(stream), self._tell(stream), self._extend())
        finally:
            await stream.end(at_once=True)
            self.is_connected = False
            self.holder_token = 0
            self._left |= self._held
            self._held.clear()
            self._work.disconnected()

    async def _listen(self, stream: Consumption) -> None:
        async for news in stream:
            self._hear(news)
        if not self._is_ending:
            raise Unreachable("the server ended the stream")

    def _hear(self, news: News) -> None:
        if news.holder_token:
            self.holder_token = news.holder_token
            _log.info("holds queue %s now, with token %d", self._terms.queue, news.holder_token)
        self._confirm(news)
        self._credit -= len(news.deliveries)
        self._held.update(delivery.token for delivery in news.deliveries)
        for delivery in news.deliveries:
            self._work.take(delivery)

    def _confirm(self, news: News) -> None:
        """Take the server's word on what became of messages. What it does not know of was most likely acknowledged."""
        unsettled = self._unsettled
        done = sum(unsettled.pop(token, _NOT_TOLD) is None for token in news.settled)
        for token, error in news.refused.items():
            if unsettled.pop(token, _NOT_TOLD) is not None:
                continue
            if isinstance(error, MessageNotFound):
                done += 1
            else:
                self._work.undone(error)
        if done:
            self._work.done(done)
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
            if self._is_ending and not self._untold:
                # It is `_listen` that ends then, with the last answer.
                await stream.end_requests()
                await asyncio.Event().wait()

    def _next_request(self) -> pb.ConsumeRequest | None:
        if self._is_revoked and self._credit:
            self._credit = 0
            return pb.ConsumeRequest(revoke=True)
        free = self._free()
        if not self._untold and not free:
            return None
        told = list(self._untold.items())[:_MOST_TOLD]
        for token, _ in told:
            del self._untold[token]
        if self._untold:
            self._has_news.set()
        self._credit += free
        return pb.ConsumeRequest(
            credit=free,
            ack=[token for token, nack in told if nack is None],
            nack=[nack for _, nack in told if nack is not None],
        )

    def _free(self) -> int:
        """Return how many more messages are to come; 0 while too few may."""
        if self._is_revoked or self._is_ending:
            return 0
        most, wanted = self._work.room(), self._work.wanted()
        free = most - len(self._held) - self._credit
        if wanted is not None:
            free, most = min(free, wanted - self._credit), min(most, wanted)
        return free if free >= max(1, most // _SHARE) else 0

    async def _extend(self) -> None:
        """Keep the leases of what is held."""
        while True:
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
        self._is_away = False
        self._missing_since = 0.0
        self.was_reached = False

    def end(self) -> None:
        """Note that the server answers."""
        if self._is_away:
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
            self._is_away = True
            _log.warning("%s; trying again until it is back", error.message)
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
