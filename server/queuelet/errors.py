"""The errors that the server raises and the client raises again.

On the wire, a `google.rpc.ErrorInfo` carries the error's `reason` and its facts (queue, limit, ...). The gRPC status
code of each error is in `CODES` of `wire/errors.py`; a new error needs an entry there.
"""

from __future__ import annotations

from typing import ClassVar

Fact = str | int


class QueueletError(Exception):
    """An unexpected error occurred."""

    reason: ClassVar[str] = "UNKNOWN"

    def __init__(self, message: str | None = None, /, **facts: Fact) -> None:
        """Make an error.

        Args:
            message: a sentence for people; the docstring of the class if it is left out.
            facts: the values behind the sentence, for programs.
        """
        super().__init__(message or (type(self).__doc__ or "").strip())
        self.facts = facts

    @property
    def message(self) -> str:
        """The sentence that describes the error to people."""
        return str(self.args[0])


class InvalidArgument(QueueletError, ValueError):
    """The request is not valid; `field` names the field to change."""

    reason = "INVALID_ARGUMENT"


class MessageTooLarge(InvalidArgument):
    """The message does not fit into a request, or would not fit into a response."""

    reason = "MESSAGE_TOO_LARGE"


class QueueNotFound(QueueletError):
    """There is no such queue."""

    reason = "QUEUE_NOT_FOUND"


class QueueEmpty(QueueletError):
    """The queue has no message that is ready."""

    reason = "QUEUE_EMPTY"


class QueueExists(QueueletError):
    """Another queue has this name."""

    reason = "QUEUE_EXISTS"


class MessageExists(QueueletError):
    """A message with this ID is already queued, with a different payload or different tags."""

    reason = "MESSAGE_EXISTS"


class QueueFull(QueueletError):
    """The queue holds as many messages as its limit allows."""

    reason = "QUEUE_FULL"


class MemoryExhausted(QueueletError):
    """The server has reached its memory limit for messages; Add is refused until some messages are removed."""

    reason = "MEMORY_WATERMARK"


class TooMany(QueueletError):
    """A limit of the server is reached: on its queues, or on the calls that wait on one queue."""

    reason = "TOO_MANY"


class QueueDraining(QueueletError):
    """The queue is draining; it accepts no new messages."""

    reason = "QUEUE_DRAINING"


class NotOwner(QueueletError):
    """The queue belongs to another owner."""

    reason = "NOT_OWNER"


class OwnerRemoved(QueueletError):
    """The declaration is too late: the queue was removed less than a minute ago, along with the owner's object."""

    reason = "OWNER_REMOVED"


class StoreMismatch(QueueletError):
    """The queue is in another store, and a queue cannot move between stores."""

    reason = "STORE_MISMATCH"


class StoreUnavailable(QueueletError):
    """The server runs without this store."""

    reason = "STORE_UNAVAILABLE"


class StoreFull(QueueletError):
    """The store's disk has no space for more messages; Add is refused until there is some."""

    reason = "STORE_FULL"


class StoreFailed(QueueletError):
    """The store failed and is being reopened; it is not known whether the call took effect."""

    reason = "STORE_FAILED"


class MessageNotFound(QueueletError):
    """The message no longer exists: it was acked, popped or purged."""

    reason = "MESSAGE_NOT_FOUND"


class LeaseLost(QueueletError):
    """The lease has ended: the message went back to the queue, or was redelivered under a newer token."""

    reason = "LEASE_LOST"


class QueueHeld(QueueletError):
    """An exclusive consumer holds the queue."""

    reason = "QUEUE_HELD"


class TooManyResponses(QueueletError):
    """The queue already stores the maximum number of responses to calls with a request ID."""

    reason = "TOO_MANY_ANSWERS"


class ServerDraining(QueueletError):
    """The server is stopping."""

    reason = "SERVER_DRAINING"


class ShardMoved(QueueletError):
    """Another server owns the queue, or no server does at the moment; the call had no effect and can be retried."""

    reason = "SHARD_MOVED"


class Unauthenticated(QueueletError):
    """The call carries no valid bearer token."""

    reason = "UNAUTHENTICATED"


class Unreachable(QueueletError):
    """The server cannot be reached, or the connection was lost during the call."""

    reason = "UNREACHABLE"


class ClientSilent(QueueletError):
    """The client of a stream sent nothing for three heartbeats; its leases ended with the stream."""

    reason = "CLIENT_SILENT"


class DeadlineExceeded(QueueletError):
    """The call did not finish before its deadline; it is not known whether it took effect."""

    reason = "DEADLINE_EXCEEDED"
