"""The OpenAPI document."""

from __future__ import annotations

import json
from typing import Any

from queuelet.rest.routes import queue_routes
from tools.openapi.operations import SUBJECTS, operations, shared_responses, to_openapi
from tools.openapi.schemas import Schemas

Json = dict[str, Any]

VERSION = "3.1.1"
"""The version of OpenAPI. From 3.2 on, `itemSchema` describes events; swagger-ui does not show it yet."""

INTRODUCTION = """\
The REST API of Queuelet: everything that gRPC clients can do, except for Consume streams. Programs that consume
messages over HTTP call Receive, which waits for messages, and then Ack.

- JSON has the field names of queue.proto. Fields that are zero, false or empty are left out of responses. 64-bit
  integers are strings, bytes are base64, times are RFC 3339, and durations are seconds, such as `1.5s`. Requests may
  also have numbers instead of strings, and names in lowerCamelCase.
- A queue is identified by its ID or by its name.
- Every error has the same form, `Refusal`: a sentence for users, a reason for programs, and facts.
- The header `Grpc-Timeout` sets the deadline of a call. A call that waits responds shortly before it. If the client
  closes the connection, a waiting call ends and takes no message.
- Streams are server-sent events, and `x-event-schema` has their schema. The first events of a watch are `snapshot`, and
  all others are `change`. The last event is `end`, with the last response again, or `error`.
- A server that was started with a token file needs its token in each request.
"""

_TIMEOUT: Json = {
    "name": "Grpc-Timeout",
    "in": "header",
    "description": "The time until the client needs the response: a number and a unit, which is `H`, `M`, `S`, `m` "
    "(milliseconds), `u` or `n`. The default is `60S`.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,8}[HMSmun]$"},
}

_STREAM_TIMEOUT: Json = {
    **_TIMEOUT,
    "description": "The time after which the server ends the stream: a number and a unit, which is `H`, `M`, `S`, `m` "
    "(milliseconds), `u` or `n`. Without it, the stream ends as the description of the operation says.",
    "example": "5S",
}


def document() -> Json:
    """Return the OpenAPI document of the REST API."""
    schemas = Schemas()
    found = operations(queue_routes())
    of_queues = {each.id: each.summary for each in found if each.path_fields == ["queue_id"]}
    paths: dict[str, Json] = {}
    for operation in found:
        path = paths.setdefault(operation.route.template, {})
        path[operation.route.verb.lower()] = to_openapi(operation, schemas, of_queues)
    return {
        "openapi": VERSION,
        "info": {
            "title": "Queuelet",
            "version": "v1",
            "summary": "Message queues for Kubernetes and laptops.",
            "description": INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        # Relative to this document, so that it is right behind any prefix.
        "servers": [{"url": "./", "description": "The server that this document comes from."}],
        "security": [{}, {"bearer": []}],
        "tags": [{"name": name, "description": text} for name, (text, _) in SUBJECTS.items()],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "responses": shared_responses(),
            "parameters": {"Timeout": _TIMEOUT, "StreamTimeout": _STREAM_TIMEOUT},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token in the server's token file. A server without one needs no token.",
                }
            },
        },
    }


def to_text(document: Json) -> str:
    """Return a document as it is committed."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
