"""Errors of the client itself. Errors that the server raises are in `queuelet.errors`."""

from __future__ import annotations

from typing import ClassVar

from queuelet.errors import QueueletError


class BadResponse(QueueletError):
    """The server's response cannot be decoded, so the outcome of the call is not known."""

    reason = "BAD_RESPONSE"


class Closed(QueueletError):
    """The object is closed or was not opened yet; use it in `async with`."""

    reason = "CLOSED"


class Forked(QueueletError):
    """A client was in use when this process was forked, so gRPC does not work here; open clients after the fork."""

    reason = "FORKED"


class NotSent(QueueletError):
    """The message was not sent, because there was no connection or no time left, and is not in the queue."""

    reason = "NOT_SENT"


class PutsFailed(QueueletError):
    """Messages were not added, and nothing in the program awaited their outcome.

    Args:
        errors: The first of the errors.
        failed: The number of messages that failed.
    """

    reason: ClassVar[str] = "PUTS_FAILED"

    def __init__(self, errors: list[QueueletError], failed: int) -> None:
        first = f"the first: {errors[0].message}" if errors else "the reasons are no longer known"
        super().__init__(f"{failed:,} {'message was' if failed == 1 else 'messages were'} not added; {first}")
        self.errors = errors
        """The first of the errors."""
        self.failed = failed
        """The number of messages that failed."""
