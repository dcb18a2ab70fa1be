"""Servers of Queuelet's protocol: ours, the plain baseline, and any server of negz/q's protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc

from bench.plain_protobuf import SERVICE
from bench.process import started_python
from bench.system import MARK, Caller, Lifecycle, Load, NotHere, System
from queuelet.v1 import queue_pb2 as pb

_RUN = "from queuelet.server import run, Settings; run(Settings(listen='127.0.0.1:0', metrics='127.0.0.1:0'))"
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class GrpcSystem(System):
    """A server called with requests that are serialized in advance, and whose responses are not decoded."""

    def __init__(self, name: str, service: str, arguments: Sequence[str] = ()) -> None:
        super().__init__(name)
        self._service = service
        self._arguments = arguments

    def can(self, load: Load) -> bool:
        """Return whether it has the calls: negz/q's protocol has no batches."""
        return self._service == SERVICE or load.batch == 1

    @contextmanager
    def start(self, folder: Path) -> Iterator[Lifecycle]:
        """Run it with an interpreter of its own."""
        if not self._arguments:
            raise NotHere("give its address with --peer-negz HOST:PORT")
        with started_python(self._arguments, folder) as (address, pid):
            yield Lifecycle(address, pid)

    async def make_queue(self, address: str) -> str:
        """Create a queue without a limit; the plain server accepts any id."""
        if self.name == "plain":
            return str(uuid4())
        async with grpc.aio.insecure_channel(address) as channel:
            request = pb.NewQueueRequest(store=pb.Queue.MEMORY, limit=-1).SerializeToString()
            make: Any = channel.unary_unary(f"/{self._service}/NewQueue")
            answer: bytes = await make(request, timeout=10)
        return pb.NewQueueResponse.FromString(answer).queue.meta.id

    @asynccontextmanager
    async def callers(self, address: str, queue: str, load: Load) -> AsyncIterator[Sequence[Caller]]:
        """Connect callers that share a channel, like the tasks of one client."""
        async with grpc.aio.insecure_channel(address, _OPTIONS) as channel:
            kind = _Unary if load.batch == 1 else _Batches
            yield [kind(channel, self._service, queue, load) for _ in range(load.callers)]


class _Unary:
    def __init__(self, channel: grpc.aio.Channel, service: str, queue: str, load: Load) -> None:
        self._add: Any = channel.unary_unary(f"/{service}/Add")
        self._pop: Any = channel.unary_unary(f"/{service}/Pop")
        new = pb.NewMessage(payload=load.payload)
        self._add_request = pb.AddRequest(queue_id=queue, message=new).SerializeToString()
        self._pop_request = pb.PopRequest(queue_id=queue).SerializeToString()

    async def add(self) -> None:
        await self._add(self._add_request)

    async def pop(self) -> int:
        try:
            await self._pop(self._pop_request)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return 0
            raise
        return 1


class _Batches:
    def __init__(self, channel: grpc.aio.Channel, service: str, queue: str, load: Load) -> None:
        self._add: Any = channel.unary_unary(f"/{service}/AddBatch")
        self._pop: Any = channel.unary_unary(f"/{service}/PopBatch")
        new = [pb.NewMessage(payload=load.payload)] * load.batch
        self._add_request = pb.AddBatchRequest(queue_id=queue, messages=new).SerializeToString()
        self._pop_request = pb.PopBatchRequest(queue_id=queue, max=load.batch).SerializeToString()

    async def add(self) -> None:
        await self._add(self._add_request)

    async def pop(self) -> int:
        answer: bytes = await self._pop(self._pop_request)
        return answer.count(MARK)


QUEUELET = GrpcSystem("queuelet", SERVICE, ("-c", _RUN))
PLAIN = GrpcSystem("plain", SERVICE, ("-m", "bench.plain_protobuf"))
NEGZ = GrpcSystem("negz", "proto.Q")
