"""A message on its way, and what became of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, final

from queuelet.client.encoding import Outgoing
from queuelet.errors import QueueletError

_log = logging.getLogger("queuelet.client")


class Added(NamedTuple):
    """A message that is in its queue, as the store keeps it."""

    id: str
    """The message's id, a UUID."""

    duplicate: bool
    """Whether it was there already: it had been added under the same id."""

    is_durable: bool
    """Whether it is on disk, and survives the server."""


Outcome = Added | QueueletError
"""What becomes of a message: it is added, or an error kept it from that."""


@final
class Sent:
    """A message on its way. Await it for its outcome: `Added`, or the error that kept it from that."""

    __slots__ = ("_hurry", "_settled", "deadline", "is_asked_after", "is_withdrawn", "message", "outcome", "size")

    def __init__(self, message: Outgoing, deadline: float, hurry: Callable[[], None]) -> None:
        """Take what is sent, until when by the loop's clock, and how to have it sent at once. Producers do that."""
        self.message = message
        self.size = message.size
        self.deadline = deadline
        self._hurry = hurry
        self._settled: asyncio.Future[None] | None = None
        """Made only where somebody waits: of most messages nobody does."""
        self.outcome: Outcome | None = None
        """None while it is on its way."""
        self.is_asked_after = False
        """Whether somebody has waited for it, so that a failure is known to somebody."""
        self.is_withdrawn = False
        """Whether whoever put it has gone, so that it need not be sent."""

    def __await__(self) -> Generator[Any, None, Added]:
        """Wait for the outcome. Being cancelled meanwhile does not call the message back."""
        self.is_asked_after = True
        if self.outcome is None:
            self._hurry()
            yield from asyncio.shield(self._until_settled()).__await__()
        return self.result()

    def result(self) -> Added:
        """Return the outcome, or raise it.

        Raises:
            InvalidStateError: there is none yet.
        """
        if self.outcome is None:
            raise asyncio.InvalidStateError("the message is on its way: await it for its outcome")
        if isinstance(self.outcome, QueueletError):
            raise self.outcome
        return self.outcome

    def done(self) -> bool:
        """Tell whether there is an outcome."""
        return self.outcome is not None

    def add_done_callback(self, call: Callable[[Added | QueueletError], None]) -> None:
        """Have a function called with the outcome. It runs in the event loop, and what it raises is logged."""
        self.is_asked_after = True

        def tell(_: asyncio.Future[None]) -> None:
            assert self.outcome is not None  # noqa: S101  # the future is done once it is there
            try:
                call(self.outcome)
            except Exception:  # noqa: BLE001  # it is theirs
                _log.exception("a function that was called with the outcome of a put failed")

        self._until_settled().add_done_callback(tell)

    def settle(self, outcome: Outcome) -> None:
        """Give it its outcome, and tell all who wait."""
        self.outcome = outcome
        if self._settled is not None and not self._settled.done():
            self._settled.set_result(None)

    def _until_settled(self) -> asyncio.Future[None]:
        if self._settled is None:
            self._settled = asyncio.get_running_loop().create_future()
            if self.outcome is not None:
                self._settled.set_result(None)
        return self._settled
