"""What can go wrong in the client itself. What the server refuses is one of `queuelet.errors`."""

from __future__ import annotations

from typing import ClassVar

from queuelet.errors import QueueletError


class BadResponse(QueueletError):
    """The server's response cannot be decoded; what became of the call is not known."""

    reason = "BAD_RESPONSE"


class Closed(QueueletError):
    """It is closed, or was not opened yet: use it in `async with`."""

    reason = "CLOSED"


class Forked(QueueletError):
    """A client was in use when this process was forked, which ends gRPC here; open clients after the fork instead."""

    reason = "FORKED"


class NotSent(QueueletError):
    """The message was not sent, for want of a connection or of time, and is not in the queue."""

    reason = "NOT_SENT"


class PutsFailed(QueueletError):
    """Messages were not put, and nobody asked what became of them."""

    reason: ClassVar[str] = "PUTS_FAILED"

    def __init__(self, errors: list[QueueletError], failed: int) -> None:
        """Take some of the errors, the first ones, and of how many messages they are."""
        first = f"the first: {errors[0].message}" if errors else "why is not known any more"
        super().__init__(f"{failed:,} {'message was' if failed == 1 else 'messages were'} not put; {first}")
        self.errors = errors
        """The first of the errors."""
        self.failed = failed
        """Of how many messages they are."""
