"""Test suites of one server, run with three: each call goes to any of them, and queues are in PostgreSQL.

A module here imports the tests of a suite that hold for any number of servers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, cast

import grpc
import pytest
from google.protobuf.message import Message as ProtobufMessage

from queuelet.compat import q_pb2 as q
from queuelet.v1 import queue_pb2 as pb
from support.postgres_server import PostgresServer
from support.rpc import TIMEOUT, Response, Rpc
from support.three_servers import ThreeServers


class AnyChannel:
    """Channels to several servers. Each call takes one of them by chance."""

    def __init__(self, channels: list[grpc.Channel], seed: int = 0) -> None:
        self._channels = channels
        self._chance = random.Random(seed)

    def unary_unary(self, path: str, **codecs: Any) -> Callable[..., Any]:  # noqa: ANN401  # those of gRPC
        """Return a method with one request and one response."""
        return _OfAny([cast("Any", each.unary_unary)(path, **codecs) for each in self._channels], self._chance)

    def unary_stream(self, path: str, **codecs: Any) -> Callable[..., Any]:  # noqa: ANN401  # as above
        """Return a method with one request and a stream of responses."""
        return _OfAny([cast("Any", each.unary_stream)(path, **codecs) for each in self._channels], self._chance)

    def stream_stream(self, path: str, **codecs: Any) -> Callable[..., Any]:  # noqa: ANN401  # as above
        """Return a method with streams."""
        return _OfAny([cast("Any", each.stream_stream)(path, **codecs) for each in self._channels], self._chance)

    def close(self) -> None:
        """Close all of them."""
        for channel in self._channels:
            channel.close()


class _OfAny:
    """A method of several servers."""

    def __init__(self, methods: list[Any], chance: random.Random) -> None:
        self._methods = methods
        self._chance = chance

    def __call__(self, request: Any, **how: Any) -> Any:  # noqa: ANN401  # as above
        if isinstance(request, q.NewQueueRequest) and request.store == q.Queue.MEMORY:
            request.store = cast("Any", int(pb.Queue.POSTGRES))
        return self._chance.choice(self._methods)(request, **how)

    def future(self, request: bytes, **how: Any) -> Any:  # noqa: ANN401  # as above
        return self._chance.choice(self._methods).future(request, **how)


class AnyRpc(Rpc):
    """Calls to any of several servers. Its queues are in PostgreSQL instead of memory."""

    def __init__(self, addresses: list[str]) -> None:
        super().__init__(addresses[0])
        channels = [self.channel, *(Rpc(address).channel for address in addresses[1:])]
        self.channel = cast("grpc.Channel", AnyChannel(channels))

    def call(
        self, path: str, request: ProtobufMessage, response: type[Response], *, timeout: float | None = TIMEOUT
    ) -> Response:
        """Call a method of ours, or `service/method`. Raises Refused."""
        if isinstance(request, pb.NewQueueRequest) and request.store == pb.Queue.MEMORY:
            request.store = pb.Queue.POSTGRES
        if isinstance(request, pb.DeclareQueuesRequest):
            for declaration in request.queues:
                if declaration.store == pb.Queue.MEMORY:
                    declaration.store = pb.Queue.POSTGRES
        return super().call(path, request, response, timeout=timeout)


@pytest.fixture(scope="session")
def many() -> Iterator[ThreeServers]:
    """Three servers with seven shards.

    They last as long as the process, and have a database of their own, because other tests wait until no server is
    connected to the usual one.
    """
    database = PostgresServer()
    try:
        with ThreeServers(3, 7, lease=60, database=database) as servers:
            yield servers
            for server in servers.servers:
                assert not [line for line in server.log() if "exception" in line]
    finally:
        database.stop()


@pytest.fixture(scope="session")
def rpc(many: ThreeServers) -> Iterator[Rpc]:
    """A client of all of them."""
    client = AnyRpc(many.addresses)
    yield client
    client.close()


@pytest.fixture(scope="session")
def channel(many: ThreeServers) -> Iterator[AnyChannel]:
    """A channel to all of them."""
    with ExitStack() as stack:
        yield AnyChannel([stack.enter_context(grpc.insecure_channel(address)) for address in many.addresses], 1)


@pytest.fixture
def queue(rpc: Rpc) -> Iterator[pb.Queue]:
    """A new queue without a limit."""
    made = rpc.new_queue()
    yield made
    rpc.delete_queue(made.meta.id)
