"""What can go wrong, as the server raises it and the client catches it.

Each kind has a `reason`, the text that travels in a `google.rpc.ErrorInfo`, and carries facts (queue, limit, ...) that
travel beside it. Its status code on the wire stands in `status.CODES`: whoever adds a kind adds it there.
"""

from __future__ import annotations

from typing import ClassVar

Fact = str | int


class QueueletError(Exception):
    """Something went wrong that nobody foresaw."""

    reason: ClassVar[str] = "UNKNOWN"

    def __init__(self, message: str | None = None, /, **facts: Fact) -> None:
        """Take a sentence for people, by default the docstring of the kind, and the facts behind it."""
        super().__init__(message or (type(self).__doc__ or "").strip())
        self.facts = facts

    @property
    def message(self) -> str:
        """The sentence for people."""
        return str(self.args[0])


class InvalidArgument(QueueletError, ValueError):
    """The request breaks a rule; `field` names what to change."""

    reason = "INVALID_ARGUMENT"


class MessageTooLarge(InvalidArgument):
    """A message is larger than a request or a reply may be, so it cannot be put, or nobody could take it."""

    reason = "MESSAGE_TOO_LARGE"


class QueueNotFound(QueueletError):
    """There is no such queue."""

    reason = "QUEUE_NOT_FOUND"


class QueueEmpty(QueueletError):
    """The queue has no message that is ready."""

    reason = "QUEUE_EMPTY"


class QueueExists(QueueletError):
    """The name is taken by another queue."""

    reason = "QUEUE_EXISTS"


class MessageExists(QueueletError):
    """A message of this id is queued already, with another payload or other tags."""

    reason = "MESSAGE_EXISTS"


class QueueFull(QueueletError):
    """The queue holds as many messages as its limit allows."""

    reason = "QUEUE_FULL"


class MemoryExhausted(QueueletError):
    """The server has used the memory it may use for messages; Add is refused until some are taken."""

    reason = "MEMORY_WATERMARK"


class TooMany(QueueletError):
    """A bound of the server is reached: queues in all, or calls that wait on one queue."""

    reason = "TOO_MANY"


class QueueDraining(QueueletError):
    """The queue is draining: it takes no more messages."""

    reason = "QUEUE_DRAINING"


class NotOwner(QueueletError):
    """The queue belongs to another owner."""

    reason = "NOT_OWNER"


class OwnerRemoved(QueueletError):
    """The owner's queue was removed a short time ago, with its object: the declaration comes too late."""

    reason = "OWNER_REMOVED"


class StoreMismatch(QueueletError):
    """The queue lives in another store, and a queue cannot move."""

    reason = "STORE_MISMATCH"


class StoreUnavailable(QueueletError):
    """The server runs without this store."""

    reason = "STORE_UNAVAILABLE"


class StoreFull(QueueletError):
    """The store has no room on its disk for more messages; Add is refused until there is some."""

    reason = "STORE_FULL"


class StoreFailed(QueueletError):
    """The store failed and is being opened anew; what became of the call is not known."""

    reason = "STORE_FAILED"


class MessageNotFound(QueueletError):
    """There is no such message any more: it was acknowledged, popped or purged."""

    reason = "MESSAGE_NOT_FOUND"


class LeaseLost(QueueletError):
    """The lease is over: the message went back to the queue, or was delivered again under a newer token."""

    reason = "LEASE_LOST"


class QueueHeld(QueueletError):
    """An exclusive consumer holds the queue."""

    reason = "QUEUE_HELD"


class TooManyAnswers(QueueletError):
    """As many answers to calls with a request id are kept as may be."""

    reason = "TOO_MANY_ANSWERS"


class ServerDraining(QueueletError):
    """The server is stopping."""

    reason = "SERVER_DRAINING"


class Unauthenticated(QueueletError):
    """The call carries no valid bearer token."""

    reason = "UNAUTHENTICATED"


class Unreachable(QueueletError):
    """The server cannot be reached, or it went away during the call."""

    reason = "UNREACHABLE"


class ClientSilent(QueueletError):
    """The client of a stream was silent for three heartbeats; its leases ended with the stream."""

    reason = "CLIENT_SILENT"


class DeadlineExceeded(QueueletError):
    """The call did not end within its deadline; what became of it is not known."""

    reason = "DEADLINE_EXCEEDED"
