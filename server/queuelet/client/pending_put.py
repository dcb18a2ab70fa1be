"""A put that is in flight, and its outcome."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, final

from queuelet.client.encoding import EncodedMessage
from queuelet.errors import QueueletError

_log = logging.getLogger("queuelet.client")


class Added(NamedTuple):
    """The outcome of a successful put: the message is in its queue."""

    id: str
    """The message's ID, a UUID."""

    duplicate: bool
    """Whether a message with the same ID was queued already, so nothing was added."""

    is_durable: bool
    """Whether the message is on disk, so that it survives a crash of the server."""


Outcome = Added | QueueletError
"""The outcome of a put: the message was added, or an error prevented it."""


@final
class PendingPut:
    """A put that is in flight. Await it for its outcome: `Added`, or the error that prevented it."""

    __slots__ = ("_hurry", "_settled", "deadline", "is_withdrawn", "message", "outcome", "size", "was_awaited")

    def __init__(self, message: EncodedMessage, deadline: float, hurry: Callable[[], None]) -> None:
        self.message = message
        self.size = message.size
        self.deadline = deadline
        self._hurry = hurry
        self._settled: asyncio.Future[None] | None = None
        """Created only if something waits, because nothing waits for most messages."""
        self.outcome: Outcome | None = None
        """The outcome; None while the put is in flight."""
        self.was_awaited = False
        """Whether the program has awaited the outcome, so that it knows of a failure."""
        self.is_withdrawn = False
        """Whether the call that waited was cancelled, so that the message need not be sent any more."""

    def __await__(self) -> Generator[Any, None, Added]:
        """Wait for the outcome. Cancelling the wait does not withdraw the message."""
        self.was_awaited = True
        if self.outcome is None:
            self._hurry()
            yield from asyncio.shield(self._until_settled()).__await__()
        return self.result()

    def result(self) -> Added:
        """Return the outcome without waiting.

        Returns:
            What was added.

        Raises:
            InvalidStateError: There is no outcome yet.
            QueueletError: The error that prevented the put.
        """
        if self.outcome is None:
            raise asyncio.InvalidStateError("the put is in flight; await it for its outcome")
        if isinstance(self.outcome, QueueletError):
            raise self.outcome
        return self.outcome

    def done(self) -> bool:
        """Return whether there is an outcome."""
        return self.outcome is not None

    def add_done_callback(self, call: Callable[[Added | QueueletError], None]) -> None:
        """Call a function with the outcome once there is one.

        Args:
            call: Called in the event loop with `Added` or an error. An exception that it raises is logged.
        """
        self.was_awaited = True

        def report(_: asyncio.Future[None]) -> None:
            assert self.outcome is not None  # noqa: S101  # set before the future is done
            try:
                call(self.outcome)
            except Exception:  # noqa: BLE001  # the callback is the program's code
                _log.exception("a done callback of a put raised an exception")

        self._until_settled().add_done_callback(report)

    def settle(self, outcome: Outcome) -> None:
        """Set the outcome, and wake everything that waits for it."""
        self.outcome = outcome
        if self._settled is not None and not self._settled.done():
            self._settled.set_result(None)

    def _until_settled(self) -> asyncio.Future[None]:
        if self._settled is None:
            self._settled = asyncio.get_running_loop().create_future()
            if self.outcome is not None:
                self._settled.set_result(None)
        return self._settled
