"""The messages of a consumer: buffered ones, and those that handlers work on.

    a message is  what happens                              then
    ------------  ----------------------------------------  ---------------------------------
    (none)        delivered                                 BUFFERED
                  delivered, but it cannot be read          given back as dead
                  delivered while the consumer stops        given back
    BUFFERED      a handler asks for a message              IN WORK
                  it waits too long, or the consumer stops  given back
                  the stream breaks                         dropped: the server takes it back
    IN WORK       its lease expires, or the stream breaks   IN WORK, without a lease
                  it is delivered again                     IN WORK, under the new lease
                  its work ends                             settled

The outcomes of settled messages are in the `LeaseSession` until the server has confirmed them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from math import inf
from typing import Generic

from queuelet.client.client import Client
from queuelet.client.lease_session import LeaseSession, SessionSettings
from queuelet.client.messages import Delivery, nack_to_pb
from queuelet.client.prefetch import Prefetch
from queuelet.client.received_message import Received
from queuelet.client.serializers import Item, Serializer
from queuelet.client.text import described
from queuelet.errors import QueueletError

_log = logging.getLogger("queuelet.client")


class Inbox(Generic[Item]):
    """Takes the messages of a lease session, and hands them to a consumer."""

    def __init__(
        self,
        client: Client,
        settings: SessionSettings,
        serializer: Serializer[Item],
        prefetch: Prefetch,
        max_messages: int | None,
    ) -> None:
        self.session = LeaseSession(client, settings, self)
        self._queue = settings.queue
        self._serializer = serializer
        self._prefetch = prefetch
        self._max_messages = max_messages
        self._hands_back = not settings.is_exclusive and prefetch.longest_wait < inf
        self.buffered: deque[Received[Item]] = deque()
        self.in_work: set[Received[Item]] = set()
        self._begun = 0
        """How many messages handlers have begun to work on."""
        self._was_disconnected = False
        self.is_stopping = False
        self._timer: asyncio.TimerHandle | None = None
        """Hands back messages that have waited too long."""
        self._arrived = asyncio.Event()
        self.changed = asyncio.Event()
        """Set whenever the consumer may be over."""
        self.done = self.failed = self.lost = 0

    # What the lease session reports

    def take(self, delivery: Delivery) -> None:
        """Buffer a message. If its work still goes on from an earlier delivery, only renew its lease."""
        if self.in_work and (self._was_disconnected or delivery.count > 1):
            running = next((each for each in self.in_work if each.id == delivery.message.id), None)
            if running is not None and not running.is_settled:
                running._renew(delivery)  # noqa: SLF001  # not for handlers
                return
        if self.is_stopping:
            self.session.nack(nack_to_pb(delivery.token, unused=True))
            return
        try:
            item = self._serializer.load(delivery.payload)
        except Exception as error:  # noqa: BLE001  # a serializer may raise anything
            self.failed += 1
            reason = described(error, "its payload cannot be read: ")
            self.session.nack(nack_to_pb(delivery.token, reason=reason, dead=True))
            warn("message %s of queue %s was dead-lettered: %s", delivery.message.id, self._queue, reason)
            return
        self.buffered.append(Received(delivery, item, self.session))
        if self._hands_back and self._timer is None:
            self._check_later(0)
        self._arrived.set()

    def lease_expired(self, token: int, error: QueueletError) -> None:
        """Note that the lease of a message in work has expired."""
        for received in self.in_work:
            if received.token == token:
                received.is_leased = False
                _log.warning("lost the lease of message %s, which may be redelivered: %s", received.id, error.message)

    def disconnected(self) -> None:
        """Drop the buffered messages: they returned to the queue when the stream broke."""
        self._was_disconnected = True
        for received in self.in_work:
            received.is_leased = False
        self.buffered.clear()
        self.wake_all()

    def acked(self, count: int) -> None:
        """Count acknowledged messages that left the queue."""
        self.done += count

    def ack_refused(self, error: QueueletError) -> None:
        """Count a message whose ack came too late."""
        self.lost += 1
        _log.warning("a message was done but may be redelivered: %s", error)

    def confirmed(self) -> None:
        """Let the consumer check whether it is over."""
        self.changed.set()

    def window(self) -> int:
        """Return how many messages may be here at a time."""
        return self._prefetch.window()

    def wanted(self) -> int | None:
        """Return how many more messages may come; None for no limit."""
        if self.is_stopping:
            return 0
        return None if self._max_messages is None else self._max_messages - self._begun - len(self.buffered)

    # What the consumer asks for

    @property
    def has_enough(self) -> bool:
        """Whether no more messages are wanted."""
        return self._max_messages is not None and self._begun >= self._max_messages

    @property
    def is_empty(self) -> bool:
        """Whether no message is buffered, in work or unconfirmed."""
        return not (self.in_work or self.buffered or self.session.unsettled)

    def begin_next(self) -> Received[Item] | None:
        """Begin to work on the next buffered message, if there is one."""
        if not self.buffered:
            return None
        received = self.buffered.popleft()
        self._begun += 1
        self.in_work.add(received)
        return received

    async def wait_for_message(self) -> None:
        """Wait until a message may have arrived."""
        if self._prefetch.is_stalled:
            self._prefetch.is_stalled = False
            self.session.look_again()
        self._arrived.clear()
        await self._arrived.wait()

    def stop(self) -> None:
        """Take no more messages, and give the buffered ones back."""
        self.is_stopping = True
        self.session.take_no_more()
        while self.buffered:
            self.buffered.popleft().nack(unused=True)
        self.wake_all()

    def cancel_timer(self) -> None:
        """Hand nothing back any more."""
        if self._timer is not None:
            self._timer.cancel()

    def wake_all(self) -> None:
        """Wake all waiting tasks, so that they check whether the consumer is over."""
        self.changed.set()
        self.session.look_again()
        self._arrived.set()

    # Messages that wait for too long

    def _check_later(self, newest: int) -> None:
        """Check later whether the buffered messages up to a token have waited for too long."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._prefetch.longest_wait / 2, self._check_waiting, newest)

    def _check_waiting(self, newest: int) -> None:
        """Hand all buffered messages back if the first was here at the last check, because later ones wait longer."""
        self._timer = None
        if not self.buffered:
            return
        if self.buffered[0].token > newest:
            self._check_later(self.buffered[-1].token)
            return
        tokens = [received.token for received in self.buffered]
        self.buffered.clear()
        self._prefetch.stall()
        self.session.hand_back(tokens)
        _log.debug("handed back %d messages of queue %s that had waited for a slow handler", len(tokens), self._queue)


def warn(message: str, *facts: object, error: BaseException | None = None) -> None:
    """Log a warning. Errors of the program's log handlers, for example for a strange exception, are ignored."""
    try:
        _log.warning(message, *facts, exc_info=error)
    except Exception:  # noqa: BLE001  # log handlers are the program's code
        with suppress(Exception):
            _log.warning(message, *facts)
