"""What happens to a message when its work has ended: it is acknowledged, given back or dead-lettered."""

from __future__ import annotations

from time import monotonic
from typing import Generic

from queuelet.client.inbox import Inbox, warn
from queuelet.client.options import OnError
from queuelet.client.prefetch import Prefetch
from queuelet.client.received_message import Received
from queuelet.client.serializers import Item
from queuelet.client.text import described


class Settlement(Generic[Item]):
    """Settles the messages of an inbox, by how their work ended."""

    def __init__(
        self, queue: str, inbox: Inbox[Item], prefetch: Prefetch, on_error: OnError, retry_delay: float
    ) -> None:
        """Set it up.

        Args:
            queue: the queue's name or ID, for the log.
            inbox: where the messages are.
            prefetch: measures how long the work takes.
            on_error: what happens to a message whose work failed.
            retry_delay: how long such a message is not delivered again, in seconds.
        """
        self._queue = queue
        self._inbox = inbox
        self._prefetch = prefetch
        self._on_error = on_error
        self._retry_delay = retry_delay

    def finish(self, received: Received[Item], began: float, error: BaseException | None) -> None:
        """Settle a message whose work began at a time by `monotonic` and has ended, and update the pace."""
        self.settle(received, error)
        self._prefetch.measure(monotonic() - began)

    def settle(self, received: Received[Item], error: BaseException | None) -> None:
        """Settle a message whose work has ended, with an error or without, unless it is settled already."""
        inbox = self._inbox
        inbox.in_work.discard(received)
        if error is not None:
            inbox.failed += 1
        if not received.is_settled:
            if error is None or self._on_error is OnError.DROP:
                received.ack()
            else:
                is_dead = self._on_error is OnError.DEAD_LETTER
                received.nack(delay=0 if is_dead else self._retry_delay, reason=described(error), dead=is_dead)
        if inbox.is_stopping or inbox.has_enough:
            inbox.wake_all()
        if error is not None:
            warn("message %s of queue %s failed", received.id, self._queue, error=error)
