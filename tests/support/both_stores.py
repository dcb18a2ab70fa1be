"""A real server with all stores, and a queue in each of them in turn.

A test module imports the fixtures that it needs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import pytest

from queuelet.client import Client
from queuelet.v1 import queue_pb2 as pb
from support.commands import Cli
from support.postgres_server import own_schema
from support.rpc import Rpc, unique_name
from support.server_process import ServerProcess

STORES = {"memory": pb.Queue.MEMORY, "disk": pb.Queue.DISK, "postgres": pb.Queue.POSTGRES}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with all stores."""
    folder = str(tmp_path_factory.mktemp("data"))
    with own_schema() as flags, ServerProcess("--data-dir", folder, *flags) as process:
        yield process
        assert process.stop() == 0
        assert not [line for line in process.log() if "exception" in line], "the server logged no defect"


@pytest.fixture
def rpc(both: ServerProcess) -> Iterator[Rpc]:
    """A client of that server."""
    with closing(Rpc(both.address)) as client:
        yield client


@pytest.fixture
def cli(both: ServerProcess) -> Cli:
    """Commands that use that server."""
    return Cli(both.address)


@pytest.fixture
async def client(both: ServerProcess) -> AsyncIterator[Client]:
    """The client library, connected to that server."""
    async with Client(both.address) as opened:
        yield opened


@pytest.fixture(params=list(STORES))
def store(request: pytest.FixtureRequest) -> pb.Queue.Store:
    """Each store in turn."""
    return STORES[request.param]


@pytest.fixture
def name(rpc: Rpc, store: pb.Queue.Store) -> Iterator[str]:
    """The name of a new queue without a limit, in each store in turn."""
    made = new_queue(rpc, store)
    yield made
    rpc.delete_queue(made)


def new_queue(rpc: Rpc, store: pb.Queue.Store, tag: str = "", limit: int = -1) -> str:
    """Create a queue, with a value of the tag `test`, and return its name."""
    name = unique_name()
    tags = [pb.Tag(key="test", value=tag)] if tag else []
    rpc.call("NewQueue", pb.NewQueueRequest(store=store, limit=limit, name=name, tags=tags), pb.NewQueueResponse)
    return name
