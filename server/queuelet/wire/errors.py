"""Errors on the wire: the table of error types and status codes that server and client share."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status as RpcStatus

from queuelet import errors
from queuelet.errors import QueueletError
from queuelet.ids import parse_uuid, why_not_uuid
from queuelet.v1 import queue_pb2 as pb

SERVICE = "queuelet.v1.QueueService"
NEGZ_SERVICE = "proto.Q"
"""The service of negz/q, served by the same handlers so that its clients keep working."""

ERROR_DOMAIN = "queuelet.dev"
STATUS_DETAILS = "grpc-status-details-bin"
"""The metadata key in which gRPC carries a serialized google.rpc.Status."""
WANTS_DETAILS = "queuelet-wants-details"
"""The metadata key of calls to negz/q's service whose refusals need a google.rpc.Status, as those of our gateway do."""


class Code(IntEnum):
    """The status codes of gRPC (google.rpc.Code). Queuelet itself uses those in `CODES`."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


CODES: dict[type[QueueletError], Code] = {
    errors.QueueletError: Code.INTERNAL,
    errors.InvalidArgument: Code.INVALID_ARGUMENT,
    errors.MessageTooLarge: Code.INVALID_ARGUMENT,
    errors.QueueNotFound: Code.NOT_FOUND,
    errors.QueueEmpty: Code.NOT_FOUND,
    errors.QueueExists: Code.ALREADY_EXISTS,
    errors.MessageExists: Code.ALREADY_EXISTS,
    errors.QueueFull: Code.RESOURCE_EXHAUSTED,
    errors.MemoryExhausted: Code.RESOURCE_EXHAUSTED,
    errors.TooMany: Code.RESOURCE_EXHAUSTED,
    errors.QueueDraining: Code.FAILED_PRECONDITION,
    errors.NotOwner: Code.FAILED_PRECONDITION,
    errors.OwnerRemoved: Code.ABORTED,
    errors.StoreMismatch: Code.FAILED_PRECONDITION,
    errors.StoreUnavailable: Code.FAILED_PRECONDITION,
    errors.StoreFull: Code.RESOURCE_EXHAUSTED,
    errors.StoreFailed: Code.UNAVAILABLE,
    errors.MessageNotFound: Code.NOT_FOUND,
    errors.LeaseLost: Code.FAILED_PRECONDITION,
    errors.QueueHeld: Code.FAILED_PRECONDITION,
    errors.TooManyResponses: Code.FAILED_PRECONDITION,
    errors.ServerDraining: Code.UNAVAILABLE,
    errors.ShardMoved: Code.UNAVAILABLE,
    errors.Unauthenticated: Code.UNAUTHENTICATED,
    errors.Unreachable: Code.UNAVAILABLE,
    errors.ClientSilent: Code.UNAVAILABLE,
    errors.DeadlineExceeded: Code.DEADLINE_EXCEEDED,
}

_KINDS = {kind.reason: kind for kind in CODES}
_KIND_OF_BARE_CODE: dict[int, type[QueueletError]] = {
    Code.INVALID_ARGUMENT: errors.InvalidArgument,
    # From gRPC itself, for a call that arrived while the server closed its port.
    Code.CANCELLED: errors.Unreachable,
    Code.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    # From gRPC itself, for a request that is larger than the server accepts.
    Code.RESOURCE_EXHAUSTED: errors.MessageTooLarge,
    Code.UNAVAILABLE: errors.Unreachable,
    # From gRPC itself, for streams that were cut; the server's own internal errors have an ErrorInfo.
    Code.UNKNOWN: errors.Unreachable,
    Code.INTERNAL: errors.Unreachable,
    Code.UNAUTHENTICATED: errors.Unauthenticated,
}
"""The error for a status without an ErrorInfo, which gRPC itself or another server, such as a proxy, made."""


class Status(NamedTuple):
    """The status of a refused call."""

    code: Code
    text: str
    details: bytes = b""
    """A serialized google.rpc.Status with an ErrorInfo."""


def status_of(error: QueueletError) -> Status:
    """Return the status of an error for `queuelet.v1`."""
    return _status(error, CODES[type(error)], error.message)


def _status(error: QueueletError, code: Code, text: str) -> Status:
    info = ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata={k: str(v) for k, v in error.facts.items()})
    packed = Any()
    packed.Pack(info)
    # The text is in both places, because some clients show only that in the details.
    status = RpcStatus(code=code, message=text, details=[packed])
    return Status(code, text, status.SerializeToString())


def negz_status_of(error: QueueletError, method: str) -> Status:
    """Return the status of an error for negz/q's clients, with the text of negz/q if it has one.

    See docs/compatibility.md, Q12, Q14-Q17 and Q20.
    """
    code = CODES[type(error)]
    queue = error.facts.get("queue", "")
    match error:
        case errors.QueueFull(facts={"limit": limit}):
            text = f"cannot add message to queue: queue {queue} has reached limit of {limit} messages"
        case errors.QueueNotFound() if parse_uuid(str(queue)):
            text = f"cannot get queue {queue}: cannot find queue with id {queue}"
        case errors.QueueNotFound():
            why = error.facts.get("why") or why_not_uuid(str(queue))
            text = f"cannot parse ID: cannot parse ID {queue} as a UUID: {why}"
            code = Code.INVALID_ARGUMENT
        case errors.InvalidArgument(facts={"field": "queue_id"}):
            text = f"cannot parse ID: cannot parse ID  as a UUID: {why_not_uuid('')}"
        case errors.QueueEmpty():
            text = f"cannot {'peek into' if method == 'Peek' else 'pop message from'} queue: queue {queue} is empty"
        case errors.InvalidArgument(facts={"missing": "tag"}):
            text = f"did not supply a tag to {'add' if method == 'AddQueueTag' else 'delete'}"
        case _:
            text = error.message
    return _status(error, code, text)


def error_of(code: int, text: str, details: bytes = b"") -> QueueletError:
    """Return the error that the server raised, from the status that the client received."""
    try:
        status = RpcStatus.FromString(details)
    except DecodeError:
        status = RpcStatus()
    for packed in status.details:
        info = ErrorInfo()
        if packed.Unpack(info) and info.domain == ERROR_DOMAIN and info.reason in _KINDS:
            return _KINDS[info.reason](text, **info.metadata)
    return _KIND_OF_BARE_CODE.get(code, QueueletError)(text, code=code)


def error_to_pb(error: QueueletError) -> pb.Error:
    """Return an error for the result of a batch."""
    return pb.Error(code=CODES[type(error)], reason=error.reason, message=error.message)


class BatchErrors:
    """Converts the errors of one batch. An error message that an earlier result has is left out, to save bytes."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._short: dict[type[QueueletError], pb.Error] = {}

    def to_pb(self, error: QueueletError) -> pb.Error:
        """Return an error for the next result. The caller must not modify it."""
        message = error.message
        if message not in self._said:
            self._said.add(message)
            return error_to_pb(error)
        kind = type(error)
        short = self._short.get(kind)
        if short is None:
            short = self._short[kind] = pb.Error(code=CODES[kind], reason=error.reason)
        return short


def error_from_pb(error: pb.Error) -> QueueletError:
    """Return the error in the result of a batch. One of a later version keeps its code and reason as facts."""
    kind = _KINDS.get(error.reason)
    if kind is not None:
        return kind(error.message)
    return QueueletError(
        error.message or f"the server refused this: {error.reason}", code=error.code, reason=error.reason
    )


def code_of(error: QueueletError) -> int:
    """Return the status code of an error that `error_from_pb` returned."""
    return int(error.facts.get("code", CODES[QueueletError])) if type(error) is QueueletError else CODES[type(error)]


def reason_of(error: QueueletError) -> str:
    """Return the reason of an error that `error_from_pb` returned."""
    return str(error.facts.get("reason", error.reason)) if type(error) is QueueletError else error.reason


def errors_from_pb(results: Iterable[pb.LeaseResult | pb.AddResult]) -> list[QueueletError | None]:
    """Return the error of each lease or message of a batch, None if it succeeded.

    The server sends each error message once per batch. If one is missing, an earlier result with its reason has it.
    """
    sentences: dict[str, str] = {}
    errors: list[QueueletError | None] = []
    for result in results:
        if not result.HasField("error"):
            errors.append(None)
            continue
        error = pb.Error()
        error.CopyFrom(result.error)
        error.message = sentences[error.reason] = error.message or sentences.get(error.reason, "")
        errors.append(error_from_pb(error))
    return errors
