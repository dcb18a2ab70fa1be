"""A real server for the RPC tests of one worker, and ways to call it."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from queuelet.v1 import queue_pb2 as pb
from support.commands import Cli
from support.rpc import Rpc, unique_name
from support.server_process import ServerProcess


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """A server that the tests of a worker share: none may end it, or use queues that are not its own."""
    with ServerProcess() as process:
        yield process
        assert process.stop() == 0
        assert not [line for line in process.log() if "exception" in line], "the server logged no defect"


@pytest.fixture(scope="session")
def rpc(server: ServerProcess) -> Iterator[Rpc]:
    """A client of the shared server."""
    client = Rpc(server.address)
    yield client
    client.close()


@pytest.fixture(scope="session")
def channel(server: ServerProcess) -> Iterator[grpc.Channel]:
    """A channel to the shared server, with a client's default limits."""
    with grpc.insecure_channel(server.address) as opened:
        yield opened


@pytest.fixture
def queue(rpc: Rpc) -> Iterator[pb.Queue]:
    """A new queue without a limit."""
    made = rpc.new_queue()
    yield made
    rpc.delete_queue(made.meta.id)


@pytest.fixture
def cli(server: ServerProcess) -> Cli:
    """Commands that use the shared server."""
    return Cli(server.address)


@pytest.fixture
def name(rpc: Rpc) -> Iterator[str]:
    """The name of a new queue without a limit."""
    made = rpc.new_queue(unique_name())
    yield made.name
    rpc.delete_queue(made.name)
