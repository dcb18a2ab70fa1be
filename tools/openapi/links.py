"""Links: which operations may follow a response, and which of its values they need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Json = dict[str, Any]

_QUEUE_ID = "$response.body#/queue/meta/id"

_SAME_QUEUE = "$request.path.queue_id"

_FIRST_LEASE = "$response.body#/deliveries/0/token"


class Link(NamedTuple):
    """A link to an operation."""

    description: str
    parameters: Mapping[str, str]
    body: Json | None = None


LINKS: Mapping[str, Mapping[str, Link]] = {
    "ListQueues": {"ListQueues": Link("The next page.", {"query.page_token": "$response.body#/next_page_token"})},
    "Add": {
        "GetMessage": Link(
            "The message with its state.", {"path.queue_id": _SAME_QUEUE, "path.ids": "$response.body#/message/meta/id"}
        ),
        "Peek": Link("The first ready message.", {"path.queue_id": _SAME_QUEUE}),
        "Receive": Link("A lease of the message.", {"path.queue_id": _SAME_QUEUE}),
    },
    "Browse": {
        "Browse": Link(
            "The next page.", {"path.queue_id": _SAME_QUEUE, "query.page_token": "$response.body#/next_page_token"}
        )
    },
    "Receive": {
        name: Link(text, {"path.queue_id": _SAME_QUEUE}, {"tokens": [_FIRST_LEASE]})
        for name, text in (
            ("Ack", "The work is done."),
            ("Nack", "The work failed."),
            ("Extend", "The work needs more time."),
        )
    },
}
"""The links from each operation, by the operation that they lead to."""


def links(operation: str, of_queues: Mapping[str, str]) -> dict[str, Json]:
    """Return the links from an operation as OpenAPI has them.

    Args:
        operation: the ID of the operation.
        of_queues: the IDs and summaries of the operations on one queue, to which NewQueue leads.
    """
    found = dict(LINKS.get(operation, {}))
    if operation == "NewQueue":
        found = {name: Link(text, {"path.queue_id": _QUEUE_ID}) for name, text in of_queues.items()}
    return {name: _to_json(name, link) for name, link in found.items()}


def _to_json(operation: str, link: Link) -> Json:
    written: Json = {
        "operationId": operation,
        "description": link.description,
        "parameters": dict(link.parameters),
    }
    if link.body is not None:
        written["requestBody"] = link.body
    return written
