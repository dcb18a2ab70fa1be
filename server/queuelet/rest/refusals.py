"""Refusals: errors as HTTP status and JSON, in one shape for all routes.

The body is `{"error", "code", "reason", "facts"}`: a sentence, the number of google.rpc.Code, a reason such as
QUEUE_FULL, and the values behind the sentence. negz/q's gateway has the first two (Q52).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status as RpcStatus

from queuelet.errors import QueueletError
from queuelet.wire.errors import ERROR_DOMAIN, Code, Status, status_of

HTTP_STATUS: Mapping[int, int] = {
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 409,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
"""The HTTP status of each code."""

NEGZ_HTTP_STATUS: Mapping[int, int] = {
    **HTTP_STATUS,
    Code.CANCELLED: 408,
    Code.DEADLINE_EXCEEDED: 408,
    Code.RESOURCE_EXHAUSTED: 403,
    Code.FAILED_PRECONDITION: 412,
}
"""The HTTP status of each code on negz/q's nine routes, as its gateway has them (Q52)."""


class Refusal(NamedTuple):
    """An error as HTTP has it."""

    http_status: int
    error: str
    """A sentence that says what is wrong and what to do."""
    code: int
    reason: str
    facts: Mapping[str, str] = MappingProxyType({})

    def to_json(self) -> str:
        """Return the body of the response."""
        body = {"error": self.error, "code": self.code, "reason": self.reason, "facts": dict(self.facts)}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def refusal_of(status: Status, *, negz: bool = False) -> Refusal:
    """Return the refusal for a status.

    Args:
        status: the status of the call.
        negz: whether the route is one of negz/q's.
    """
    info = _info(status.details)
    reason = info.reason if info else Code(status.code).name
    table = NEGZ_HTTP_STATUS if negz else HTTP_STATUS
    return Refusal(table[status.code], status.text, int(status.code), reason, dict(info.metadata) if info else {})


def refusal_of_error(error: QueueletError, *, negz: bool = False) -> Refusal:
    """Return the refusal for an error of the gateway itself."""
    return refusal_of(status_of(error), negz=negz)


def no_such_path(path: str) -> Refusal:
    """Return the refusal of a path that has no route."""
    return Refusal(
        404, f"path: {path[:200]} is not a path of this server; see docs/rest.md", Code.NOT_FOUND, "NO_ROUTE"
    )


def wrong_verb(verb: str, allowed: str) -> Refusal:
    """Return the refusal of a method of HTTP that the path does not have."""
    text = f"method: {verb[:20]} is not allowed here; use {allowed}"
    return Refusal(405, text, Code.UNIMPLEMENTED, "METHOD_NOT_ALLOWED", {"allowed": allowed})


def foreign(why: str) -> Refusal:
    """Return the refusal of a request that a web page made a browser send."""
    return Refusal(403, why, Code.PERMISSION_DENIED, "FOREIGN_PAGE")


def plain(http_status: int, why: str) -> Refusal:
    """Return the refusal for an error of the HTTP library."""
    code, reason = _PLAIN.get(http_status, (Code.UNKNOWN, "HTTP"))
    return Refusal(http_status, why, code, reason)


_PLAIN = {
    400: (Code.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
    408: (Code.DEADLINE_EXCEEDED, "REQUEST_TIMEOUT"),
    413: (Code.INVALID_ARGUMENT, "MESSAGE_TOO_LARGE"),
    417: (Code.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
    500: (Code.INTERNAL, "UNKNOWN"),
}


def _info(details: bytes) -> ErrorInfo | None:
    try:
        status = RpcStatus.FromString(details)
    except DecodeError:
        return None
    for packed in status.details:
        info = ErrorInfo()
        if packed.Unpack(info) and info.domain == ERROR_DOMAIN:
            return info
    return None
