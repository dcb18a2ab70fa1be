"""Logs successful calls, for `--debug`, by wrapping each handler of a table.

The messages are negz/q's (docs/compatibility.md, Q33), but the IDs of queue and message have separate keys. Payloads
are never logged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace

import structlog
from google.protobuf.message import Message as ProtobufMessage

from queuelet.server.endpoint import Call, Method
from queuelet.v1 import queue_pb2 as pb

log = structlog.get_logger()


def logged(tables: Mapping[str, Sequence[Method]]) -> dict[str, list[Method]]:
    """Return the tables with each unary handler wrapped to log its success. The endpoint logs refusals."""
    log.debug("queue manager logging enabled")
    return {service: [_logged(method) for method in methods] for service, methods in tables.items()}


def _logged(method: Method) -> Method:
    handler = method.unary
    if handler is None:
        return method
    request_type: type[ProtobufMessage] = getattr(pb, f"{method.name}Request")
    response_type: type[ProtobufMessage] = getattr(pb, f"{method.name}Response")

    def note(request: bytes, response: bytes) -> bytes:
        log.debug(method.event, **_facts(request_type.FromString(request), response_type.FromString(response)))
        if method.name == "NewQueue":
            log.debug("queue logging enabled", queue=pb.NewQueueResponse.FromString(response).queue.meta.id)
        return response

    async def wait(request: bytes, response: Awaitable[bytes]) -> bytes:
        return note(request, await response)

    def unary(request: bytes, call: Call) -> bytes | Awaitable[bytes]:
        response = handler(request, call)
        return note(request, response) if isinstance(response, bytes) else wait(request, response)

    return replace(method, unary=unary)


def _facts(request: ProtobufMessage, response: ProtobufMessage) -> dict[str, object]:
    """Return the fields to log: queue, message, tags, and the size of a batch."""
    facts: dict[str, object] = {}
    if queue := getattr(request, "queue_id", ""):
        facts["queue"] = queue
    if tag := getattr(request, "tag", None):
        facts["tag"] = f"{tag.key}={tag.value}"
    if message := getattr(response, "message", None):
        facts["message"] = message.meta.id
    if found := getattr(response, "queue", None):
        meta = found.queue.meta if isinstance(found, pb.QueueStats) else found.meta
        facts["queue"] = meta.id
        facts["created"] = meta.created.ToJsonString()
        facts["tags"] = [f"{tag.key}={tag.value}" for tag in meta.tags]
    for field in ("messages", "results", "queues"):
        if items := getattr(response, field, None):
            facts[field] = len(items)
    return facts
