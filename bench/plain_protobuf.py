"""The baseline: the same queue written the plain way, with generated protobuf classes throughout.

Requests are parsed by their generated class, a message is stored as the object of the response, and responses are
serialized by their generated class. It has no waiting calls, producer IDs, metrics, bounds or memory budget, so it does
less than the server. It shows what the server's own message format gains.

Run it alone with `python -m bench.plain_protobuf`: it serves Add, Pop, Peek, AddBatch and PopBatch of queuelet.v1, for
any queue ID.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.message import Message

from bench.processes import HOST
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import SERVICE


class QueueEmpty(Exception):
    """There is no message to return."""


class PlainQueues:
    """Queues as deques of messages, created by their first use."""

    def __init__(self) -> None:
        self._queues: defaultdict[str, deque[pb.Message]] = defaultdict(deque)
        self.methods: dict[str, tuple[Callable[[Any], Message], type[Message]]] = {
            "Add": (self._add, pb.AddRequest),
            "Pop": (self._pop, pb.PopRequest),
            "Peek": (self._peek, pb.PeekRequest),
            "AddBatch": (self._add_batch, pb.AddBatchRequest),
            "PopBatch": (self._pop_batch, pb.PopBatchRequest),
        }
        """Each method and the class of its request."""

    def _add(self, request: pb.AddRequest) -> pb.AddResponse:
        message = new_message(request.message)
        self._queues[request.queue_id].append(message)
        return pb.AddResponse(message=message)

    def _pop(self, request: pb.PopRequest) -> pb.PopResponse:
        return pb.PopResponse(message=self._filled(request.queue_id).popleft())

    def _peek(self, request: pb.PeekRequest) -> pb.PeekResponse:
        return pb.PeekResponse(message=self._filled(request.queue_id)[0])

    def _add_batch(self, request: pb.AddBatchRequest) -> pb.AddBatchResponse:
        queue = self._queues[request.queue_id]
        response = pb.AddBatchResponse()
        for new in request.messages:
            message = new_message(new)
            queue.append(message)
            response.results.add(id=message.meta.id)
        return response

    def _pop_batch(self, request: pb.PopBatchRequest) -> pb.PopBatchResponse:
        queue = self._queues[request.queue_id]
        return pb.PopBatchResponse(messages=[queue.popleft() for _ in range(min(request.max, len(queue)))])

    def _filled(self, queue_id: str) -> deque[pb.Message]:
        queue = self._queues[queue_id]
        if not queue:
            raise QueueEmpty
        return queue


def new_message(new: pb.NewMessage) -> pb.Message:
    """Return a message in its stored form."""
    message = pb.Message(payload=new.payload)
    message.meta.id = str(uuid4())
    message.meta.created.GetCurrentTime()
    message.meta.tags.extend(new.tags)
    return message


def handlers() -> dict[str, Callable[[bytes], bytes]]:
    """Return each method as a function from request bytes to response bytes, as a gRPC server calls it."""

    def whole(method: Callable[[Any], Message], request_class: type[Message]) -> Callable[[bytes], bytes]:
        parse = request_class.FromString
        return lambda request: method(parse(request)).SerializeToString()

    return {name: whole(*method) for name, method in PlainQueues().methods.items()}


def _served(
    method: Callable[[Any], Message],
) -> Callable[[Message, grpc.aio.ServicerContext[Message, Message]], Awaitable[Message]]:
    async def serve(request: Message, context: grpc.aio.ServicerContext[Message, Message]) -> Message:
        try:
            return method(request)
        except QueueEmpty:
            await context.abort(grpc.StatusCode.NOT_FOUND, "the queue is empty")

    return serve


async def _serve() -> None:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)])
    rows: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        name: grpc.unary_unary_rpc_method_handler(
            _served(method),
            request_deserializer=request_class.FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )
        for name, (method, request_class) in PlainQueues().methods.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, rows),))
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    sys.stderr.write(json.dumps({"msg": "serving", "port": port}) + "\n")
    sys.stderr.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve())
