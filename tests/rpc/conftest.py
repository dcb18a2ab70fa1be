"""A real server for the RPC tests of one worker, and ways to call it."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from queuelet.v1 import queue_pb2 as pb
from support.rpc import Rpc, unique_name
from support.server_process import ServerProcess
from support.shared_server import cli, rpc, server

__all__ = ["cli", "rpc", "server"]


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
def name(rpc: Rpc) -> Iterator[str]:
    """The name of a new queue without a limit."""
    made = rpc.new_queue(unique_name())
    yield made.name
    rpc.delete_queue(made.name)
