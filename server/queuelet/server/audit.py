"""Records who changed queues, or many messages at once: a log line `audit` for each call that did.

Calls of producers and consumers have none: there may be thousands a second. Payloads and tokens are never logged.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, TypeAlias

import structlog

from queuelet.core.manager import Manager
from queuelet.rest.calls import RestCall
from queuelet.server.endpoint import Call, Method, Send
from queuelet.v1 import queue_pb2 as pb

log = structlog.get_logger()

MAX_NAMES = 10
"""The most names of queues in a line."""

Facts: TypeAlias = Mapping[str, Any]


def audited(tables: Mapping[str, Sequence[Method]], manager: Manager) -> dict[str, list[Method]]:
    """Return the tables with each method wrapped that changes queues, or many messages at once."""
    audit = _Audit(manager)
    return {service: [audit.wrapped(method) for method in methods] for service, methods in tables.items()}


class _Audit:
    """Wraps methods."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    def wrapped(self, method: Method) -> Method:
        if method.name == "Redrive":
            return replace(method, stream=self._redrive(method))
        facts_of = _FACTS.get(method.name)
        return method if facts_of is None else replace(method, unary=self._unary(method, facts_of))

    def _unary(self, method: Method, facts_of: FactsOf) -> Callable[[bytes, Call], bytes | Awaitable[bytes]]:
        handler = method.unary

        def note(request: bytes, response: bytes, before: Facts, call: Call) -> bytes:
            facts = facts_of(request, response)
            if facts is not None:
                _write(method.event, {**facts, **before}, call)
            return response

        async def wait(request: bytes, response: Awaitable[bytes], before: Facts, call: Call) -> bytes:
            return note(request, await response, before, call)

        def unary(request: bytes, call: Call) -> bytes | Awaitable[bytes]:
            # A queue that is deleted has its name and messages only before.
            before = self._deleted(request) if method.name == "DeleteQueue" else {}
            response = handler(request, call)  # type: ignore[misc]  # these methods are unary
            if isinstance(response, bytes):
                return note(request, response, before, call)
            return wait(request, response, before, call)

        return unary

    def _deleted(self, request: bytes) -> Facts:
        queue = self._manager.find(pb.DeleteQueueRequest.FromString(request).queue_id)
        return {} if queue is None else {"queue": queue.definition.name or queue.id, "messages": sum(queue.counts)}

    @staticmethod
    def _redrive(method: Method) -> Callable[[AsyncIterator[bytes], Send, Call], Awaitable[None]]:
        async def stream(requests: AsyncIterator[bytes], send: Send, call: Call) -> None:
            asked: list[bytes] = []
            done: list[bytes] = []

            async def noted() -> AsyncIterator[bytes]:
                async for data in requests:
                    asked[:] = asked or [data]
                    yield data

            async def sent(response: bytes) -> None:
                done[:] = [response]
                await send(response)

            try:
                await method.stream(noted(), sent, call)  # type: ignore[misc]  # it is a stream
            finally:
                if asked and done and (facts := _of_redrive(asked[0], done[0])):
                    _write(method.event, facts, call)

        return stream


def _write(act: str, facts: Facts, call: Call) -> None:
    log.info("audit", act=act, **facts, peer=call.peer, via="HTTP" if isinstance(call, RestCall) else "gRPC")


# What a line has, by method. None if nothing was changed.

FactsOf: TypeAlias = Callable[[bytes, bytes], Facts | None]


def _of_new(_: bytes, response: bytes) -> Facts:
    queue = pb.NewQueueResponse.FromString(response).queue
    return {"queue": queue.name or queue.meta.id, "store": pb.Queue.Store.Name(queue.store)}


def _of_delete(request: bytes, _: bytes) -> Facts:
    return {"queue": pb.DeleteQueueRequest.FromString(request).queue_id}


def _of_tag(request: bytes, _: bytes) -> Facts:
    asked = pb.AddQueueTagRequest.FromString(request)
    return {"queue": asked.queue_id, "tag": f"{asked.tag.key}={asked.tag.value}"}


def _of_declare(_: bytes, response: bytes) -> Facts | None:
    results = pb.DeclareQueuesResponse.FromString(response).results
    outcomes = [each.outcome for each in results]
    created, updated = (outcomes.count(outcome) for outcome in _CHANGED)
    if not created + updated:
        return None
    # A response that would be too large has no queues for its last results.
    names = (each.queue.name for each in results if each.outcome in _CHANGED and each.HasField("queue"))
    return {"created": created, "updated": updated, "queues": _names(names)}


def _of_remove(request: bytes, response: bytes) -> Facts | None:
    asked = pb.RemoveQueuesRequest.FromString(request).queues
    results = pb.RemoveQueuesResponse.FromString(response).results
    removed = [
        (removal.queue_id, result.dropped)
        for removal, result in zip(asked, results, strict=True)
        if result.outcome == pb.RemoveResult.OUTCOME_REMOVED
    ]
    messages = sum(each.ready + each.delayed + each.leased + each.dead for _, each in removed)
    names = _names(name for name, _ in removed)
    return {"removed": len(removed), "messages": messages, "queues": names} if removed else None


def _of_purge(request: bytes, response: bytes) -> Facts | None:
    asked = pb.PurgeRequest.FromString(request)
    if asked.dry_run:
        return None
    states = [pb.MessageState.Name(state).removeprefix("MESSAGE_STATE_").lower() for state in asked.states]
    return {**_chosen(asked), "states": states, "messages": pb.PurgeResponse.FromString(response).purged}


def _of_redrive(request: bytes, response: bytes) -> Facts | None:
    asked, done = pb.RedriveRequest.FromString(request), pb.RedriveResponse.FromString(response)
    if asked.dry_run:
        return None
    # The response is the last one that was sent: a call that is stopped may have done a little more.
    return {**_chosen(asked), "messages": done.redriven, "complete": not done.remaining}


def _chosen(asked: pb.PurgeRequest | pb.RedriveRequest) -> Facts:
    """Return which messages a request chose: all, or those with a tag, or a number of IDs."""
    which = {"ids": len(asked.ids)} if asked.ids else {"selector": asked.selector} if asked.selector else {"all": True}
    return {"queue": asked.queue_id, **which}


def _names(names: Iterator[str]) -> list[str]:
    """Return the first names, and dots if there are more."""
    first = list(islice(names, MAX_NAMES + 1))
    return first if len(first) <= MAX_NAMES else [*first[:MAX_NAMES], "..."]


_CHANGED = (pb.DeclareResult.OUTCOME_CREATED, pb.DeclareResult.OUTCOME_UPDATED)

_FACTS: Mapping[str, FactsOf] = {
    "NewQueue": _of_new,
    "DeleteQueue": _of_delete,
    "AddQueueTag": _of_tag,
    "DeleteQueueTag": _of_tag,
    "DeclareQueues": _of_declare,
    "RemoveQueues": _of_remove,
    "Purge": _of_purge,
}
