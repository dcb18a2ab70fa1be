"""A real server that the tests of a folder share, and ways to call it.

A conftest imports the fixtures that its folder needs. Each folder has a server of its own on each worker.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.commands import Cli
from support.rpc import Rpc
from support.server_process import ServerProcess


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """A server shared by the tests of a worker. A test must not stop it, or use queues that it did not create."""
    with ServerProcess() as process:
        yield process
        assert process.stop() == 0
        assert not [line for line in process.log() if "exception" in line]


@pytest.fixture(scope="session")
def rpc(server: ServerProcess) -> Iterator[Rpc]:
    """A client of the shared server."""
    client = Rpc(server.address)
    yield client
    client.close()


@pytest.fixture
def cli(server: ServerProcess) -> Cli:
    """Commands that use the shared server."""
    return Cli(server.address)
