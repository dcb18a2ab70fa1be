"""The baseline: the same queue written the plain way, with generated protobuf classes throughout.

Requests are parsed by their generated class, a message is stored as the object of the response, and responses are
serialized by their generated class. It has no waiting calls, producer IDs, metrics, bounds or memory budget, so it does
less than the server. It shows what the server's own message format gains.

Run it alone with `python -m bench.plain_protobuf`: it serves Add, Pop, AddBatch and PopBatch of queuelet.v1, for any
queue ID.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.message import Message

from bench.process import HOST
from queuelet.v1 import queue_pb2 as pb

SERVICE = "queuelet.v1.QueueService"
LIMIT = 1_000_000_000


class QueueRefusal(Exception):
    """A call was refused with a status."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class PlainQueues:
    """Queues as deques of messages, created by the first Add."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._queues: dict[str, deque[pb.Message]] = {}

    def add(self, request: pb.AddRequest) -> pb.AddResponse:
        """Append one message to a queue."""
        queue = self._queues.setdefault(request.queue_id, deque())
        return pb.AddResponse(message=append(queue, request.message, self._limit))

    def pop(self, request: pb.PopRequest) -> pb.PopResponse:
        """Remove and return the first message."""
        return pb.PopResponse(message=take(self._queue(request.queue_id)))

    def peek(self, request: pb.PeekRequest) -> pb.PeekResponse:
        """Return the first message."""
        queue = self._queue(request.queue_id)
        if not queue:
            raise QueueRefusal(grpc.StatusCode.NOT_FOUND, "the queue is empty")
        return pb.PeekResponse(message=queue[0])

    def add_batch(self, request: pb.AddBatchRequest) -> pb.AddBatchResponse:
        """Append messages to a queue."""
        queue = self._queues.setdefault(request.queue_id, deque())
        response = pb.AddBatchResponse()
        for new in request.messages:
            response.results.add(id=append(queue, new, self._limit).meta.id)
        return response

    def pop_batch(self, request: pb.PopBatchRequest) -> pb.PopBatchResponse:
        """Remove and return the first messages."""
        queue = self._queue(request.queue_id)
        return pb.PopBatchResponse(messages=[queue.popleft() for _ in range(min(request.max, len(queue)))])

    def _queue(self, queue_id: str) -> deque[pb.Message]:
        if queue_id not in self._queues:
            raise QueueRefusal(grpc.StatusCode.NOT_FOUND, "there is no such queue")
        return self._queues[queue_id]


def new_message(new: pb.NewMessage) -> pb.Message:
    """Return a message in its stored form."""
    message = pb.Message(payload=new.payload)
    message.meta.id = str(uuid4())
    message.meta.created.GetCurrentTime()
    message.meta.tags.extend(new.tags)
    return message


def append(queue: deque[pb.Message], new: pb.NewMessage, limit: int) -> pb.Message:
    """Append a message to a queue unless it is full, and return it."""
    if len(queue) >= limit:
        raise QueueRefusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full")
    message = new_message(new)
    queue.append(message)
    return message


def take(queue: deque[pb.Message]) -> pb.Message:
    """Remove and return the first message."""
    if not queue:
        raise QueueRefusal(grpc.StatusCode.NOT_FOUND, "the queue is empty")
    return queue.popleft()


def methods(queues: PlainQueues) -> dict[str, tuple[Callable[[Any], Message], type[Message]]]:
    """Return each method and the class of its request."""
    return {
        "Add": (queues.add, pb.AddRequest),
        "Pop": (queues.pop, pb.PopRequest),
        "Peek": (queues.peek, pb.PeekRequest),
        "AddBatch": (queues.add_batch, pb.AddBatchRequest),
        "PopBatch": (queues.pop_batch, pb.PopBatchRequest),
    }


def handlers() -> dict[str, Callable[[bytes], bytes]]:
    """Return each method as a function from request bytes to response bytes, as a gRPC server calls it."""

    def whole(method: Callable[[Any], Message], request_class: type[Message]) -> Callable[[bytes], bytes]:
        parse = request_class.FromString

        def handle(request: bytes) -> bytes:
            return method(parse(request)).SerializeToString()

        return handle

    return {name: whole(*method) for name, method in methods(PlainQueues()).items()}


def _served(
    method: Callable[[Any], Message],
) -> Callable[[Message, grpc.aio.ServicerContext[Message, Message]], Awaitable[Message]]:
    async def serve(request: Message, context: grpc.aio.ServicerContext[Message, Message]) -> Message:
        try:
            return method(request)
        except QueueRefusal as refusal:
            await context.abort(refusal.code, refusal.text)

    return serve


async def _serve() -> None:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)])
    rows: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        name: grpc.unary_unary_rpc_method_handler(
            _served(method),
            request_deserializer=request_class.FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )
        for name, (method, request_class) in methods(PlainQueues()).items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, rows),))
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    _log({"msg": "serving", "port": port})
    await server.wait_for_termination()


def _log(facts: dict[str, object]) -> None:
    sys.stderr.write(json.dumps(facts) + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    asyncio.run(_serve())
