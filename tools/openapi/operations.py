"""Routes as operations of OpenAPI."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from queuelet.rest.export import NDJSON
from queuelet.rest.refusals import HTTP_STATUS, NEGZ_HTTP_STATUS
from queuelet.rest.routes import Route
from queuelet.wire.errors import Code
from tools.openapi.comments import Cause, MethodComment, comments, method_comment
from tools.openapi.examples import EXAMPLES, Example
from tools.openapi.links import links
from tools.openapi.schemas import PACKAGE, Schemas, is_required

Json = dict[str, Any]

SUBJECTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "Queues": (
        "Definitions of queues.",
        ("ListQueues", "NewQueue", "GetQueue", "DeleteQueue", "AddQueueTag", "DeleteQueueTag", "DeclareQueues",
         "RemoveQueues", "WatchQueues"),
    ),
    "Messages": (
        "Messages of a queue: add, take, look at and remove them.",
        ("Add", "AddBatch", "Pop", "PopBatch", "Peek", "PeekBatch", "Browse", "Tail", "Purge"),
    ),
    "Leases": (
        "Messages that are taken for a time, and acknowledged or returned.",
        ("Receive", "Ack", "Nack", "Extend"),
    ),
    "Dead letters": ("Messages that are not delivered any more.", ("Redrive",)),
    "Statistics": (
        "Numbers of the server and of queues, and who takes messages.",
        ("GetStats", "ListConsumers", "GetHistory"),
    ),
}  # fmt: skip
"""The tags of operations: their descriptions, and their methods."""

ADDITIONAL: Mapping[str, str] = {
    "POST /v1/queues/{queue_id}/pop": "PopByPost",
    "POST /v1/queues/{queue_id}/messages:pop": "PopMessage",
    "GET /v1/queues/{queue_id}/messages/{ids}": "GetMessage",
    "GET /v1/queues/{queue_id}/stats": "GetQueueStats",
}
"""The IDs of operations that are additional routes of a method."""

SUMMARIES: Mapping[str, str] = {
    "GetQueueStats": "Returns statistics of one queue.",
    "GetMessage": "Returns the message of an ID with its state, and changes nothing. The list is empty if it is gone.",
}
"""The summaries of operations whose method's comment is about several of them."""

NEGZ_NOTE = (
    "This route is the one of negz/q's `qrest`, and has its statuses: 403 instead of 429 if something is full, 412 "
    "instead of 409 if the state of the queue does not allow it, 408 instead of 504 after the deadline. As there, a "
    "name that no queue has is not a valid ID (400)."
)

_COMMON = (
    Cause(Code.INVALID_ARGUMENT, ["INVALID_ARGUMENT"], "a field is not valid; facts.field names it."),
    Cause(Code.UNAUTHENTICATED, ["UNAUTHENTICATED"], "the bearer token is missing or wrong."),
    Cause(Code.PERMISSION_DENIED, ["FOREIGN_PAGE"], "a page of another site made the browser send this request."),
    Cause(Code.DEADLINE_EXCEEDED, ["DEADLINE_EXCEEDED"], "the deadline ended before there was a response."),
    Cause(Code.INTERNAL, ["UNKNOWN"], "an error of the server, which its log describes."),
    Cause(Code.UNAVAILABLE, ["SERVER_DRAINING"], "the server is shutting down."),
    Cause(Code.UNAVAILABLE, ["STORE_FAILED"], "the queue's store failed and is being reopened."),
)
"""What every operation can fail with."""

_SHARED = {
    "Unauthenticated": [_COMMON[1]],
    "ForeignPage": [_COMMON[2]],
    "DeadlineExceeded": [_COMMON[3]],
    "InternalError": [_COMMON[4]],
}
"""The errors of responses that many operations have, by the name of the response."""

_REFUSAL = {"$ref": "#/components/schemas/Refusal"}

_TIMEOUT = {"$ref": "#/components/parameters/Timeout"}
_TIMEOUT_OF_STREAM = {"$ref": "#/components/parameters/StreamTimeout"}


class Operation(NamedTuple):
    """A route with its ID and its comment."""

    route: Route
    id: str
    comment: MethodComment

    @property
    def summary(self) -> str:
        """What the operation does, in a sentence."""
        return SUMMARIES.get(self.id, self.comment.summary)

    @property
    def example(self) -> Example:
        """An example of the operation."""
        return EXAMPLES[self.id] if self.id in EXAMPLES else EXAMPLES[self.route.method]

    @property
    def path_fields(self) -> list[str]:
        """The fields of the request that the path has."""
        return [each[1:-1] for each in self.route.segments if each.startswith("{")]


def operations(routes: tuple[Route, ...]) -> list[Operation]:
    """Return the operations of routes. The first route of a method has the name of the method."""
    found: list[Operation] = []
    for route in routes:
        is_first = all(each.route.method != route.method for each in found)
        text = comments()[f"{PACKAGE}QueueService.{route.method}"]
        id_ = route.method if is_first else ADDITIONAL[f"{route.verb} {route.template}"]
        found.append(Operation(route, id_, method_comment(route.method, text)))
    return found


def to_openapi(operation: Operation, schemas: Schemas, of_queues: Mapping[str, str]) -> Json:
    """Return an operation as OpenAPI has it.

    Args:
        operation: the operation.
        schemas: gets the schemas that the operation refers to.
        of_queues: the IDs and summaries of the operations on one queue.
    """
    route = operation.route
    details = [operation.comment.details, NEGZ_NOTE if route.is_negz else ""]
    found: Json = {
        "operationId": operation.id,
        "tags": [tag for tag, (_, methods) in SUBJECTS.items() if route.method in methods],
        "summary": operation.summary.removesuffix("."),
        "description": "\n\n".join(each for each in details if each),
        "parameters": [*_parameters(operation, schemas), _TIMEOUT_OF_STREAM if route.streams else _TIMEOUT],
    }
    if route.body:
        found["requestBody"] = _body(operation, schemas)
    found["responses"] = {"200": _success(operation, schemas, of_queues), **_failures(operation)}
    return found


def _parameters(operation: Operation, schemas: Schemas) -> Iterator[Json]:
    route, given = operation.route, operation.example.request
    for field in _descriptor(route.request).fields:
        in_path = field.name in operation.path_fields
        if not in_path and route.body in {"*", field.name}:
            continue
        schema = schemas.field(field, is_request=True, one=in_path)
        written: Json = {
            "name": field.name,
            "in": "path" if in_path else "query",
            "description": schema.pop("description"),
        }
        if in_path:
            written["required"] = True
            schema.setdefault("minLength", 1)
        written["schema"] = schema
        if field.name in given:
            example = given[field.name]
            written["example"] = example[0] if in_path and field.is_repeated else example
        yield written


def _body(operation: Operation, schemas: Schemas) -> Json:
    route = operation.route
    request = _descriptor(route.request)
    if route.body == "*":
        schema = schemas.message(request, is_request=True, without=operation.path_fields)
        fields = [each for each in request.fields if each.name not in operation.path_fields]
        example = {name: each for name, each in operation.example.request.items() if name not in operation.path_fields}
        required = route.is_negz or any(is_required(each) for each in fields)
    else:
        field = request.fields_by_name[route.body]
        schema = schemas.message(cast("Descriptor", field.message_type), is_request=True)
        example = operation.example.request[route.body]
        required = is_required(field) or route.is_negz
    return {"required": required, "content": {"application/json": {"schema": schema, "example": example}}}


def _success(operation: Operation, schemas: Schemas, of_queues: Mapping[str, str]) -> Json:
    response = _descriptor(operation.route.response)
    schema = schemas.message(response)
    example = operation.example.response
    content: Json = {"application/json": {"schema": schema, "example": example}}
    if operation.route.streams:
        events = _events(operation, schema)
        # The gateway serves a stream that ends by itself as its last response, to clients that ask for JSON.
        content = {"text/event-stream": events, **(content if operation.id == "Redrive" else {})}
    if operation.id == "Browse":
        content[NDJSON] = _lines(example["messages"])
    found: Json = {"description": comments()[response.full_name].split(".\n")[0], "content": content}
    if following := links(operation.id, of_queues):
        found["links"] = following
    return found


def _events(operation: Operation, response: Json) -> Json:
    """Return the media type of a stream. From OpenAPI 3.2 on, `itemSchema` is the name of `x-event-schema`."""
    names = [*(["snapshot"] if operation.id == "WatchQueues" else []), "change", "end"]
    data = {"type": "string", "contentMediaType": "application/json"}
    kinds = [
        {"properties": {"event": {"enum": names}, "data": {**data, "contentSchema": response}}},
        {"properties": {"event": {"const": "error"}, "data": {**data, "contentSchema": _REFUSAL}}},
    ]
    data_line = json.dumps(operation.example.response, separators=(",", ":"))
    return {
        "schema": {"type": "string"},
        "x-event-schema": {
            "type": "object",
            "required": ["event", "id", "data"],
            "properties": {"id": {"type": "string", "description": "The number of the event in the stream."}},
            "oneOf": kinds,
        },
        "example": f"event: {names[0]}\nid: 1\ndata: {data_line}\n\n",
    }


def _lines(messages: list[Json]) -> Json:
    """Return the media type of an export, for clients that ask for lines instead of one page."""
    return {
        "schema": {
            "type": "string",
            "description": "All pages, a BrowsedMessage as JSON in each line. A response that is cut is not complete.",
        },
        "example": "".join(json.dumps(each, separators=(",", ":")) + "\n" for each in messages),
    }


def _failures(operation: Operation) -> dict[str, Json]:
    table = NEGZ_HTTP_STATUS if operation.route.is_negz else HTTP_STATUS
    causes: dict[int, list[Cause]] = {}
    own = operation.comment.causes
    for cause in (*own, *_COMMON):
        same = causes.setdefault(table[cause.code], [])
        # The method's own sentence about an error says more than the one that all methods have.
        if not any(each.code == cause.code and {*each.reasons} >= {*cause.reasons} for each in same):
            same.append(cause)
    return {str(status): _reference(causes[status]) or _failure(causes[status]) for status in sorted(causes)}


def shared_responses() -> dict[str, Json]:
    """Return the responses that operations refer to, by their names."""
    return {name: _failure(causes) for name, causes in _SHARED.items()}


def _reference(causes: list[Cause]) -> Json | None:
    found = (name for name, shared in _SHARED.items() if shared == causes)
    return next(({"$ref": f"#/components/responses/{name}"} for name in found), None)


def _failure(causes: list[Cause]) -> Json:
    first = causes[0]
    example = {"error": first.text, "code": int(first.code), "reason": first.reasons[0], "facts": {}}
    return {
        "description": "\n".join(f"- {each.code.name} ({', '.join(each.reasons)}): {each.text}" for each in causes),
        "content": {"application/json": {"schema": _REFUSAL, "example": example}},
    }


def _descriptor(message: type[Message]) -> Descriptor:
    # Its type in the stubs is also that of the implementation in C.
    return cast("Descriptor", message.DESCRIPTOR)
