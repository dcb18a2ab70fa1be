"""A real ZooKeeper with the real Curator, and a real queue server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.commands import Cli
from support.curator_place import Place, zookeeper_client
from support.rpc import Rpc
from support.shared_server import cli, rpc, server
from support.workers import keep_on_one_worker
from tools.zookeeper import Curator, jars, why_not

__all__ = ["cli", "rpc", "server"]

HERE = Path(__file__).parent

TIMEOUT = 180.0
"""How long a test may take, in seconds. The first one may wait for the jars to be downloaded."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep these tests on one of several workers, because they share a ZooKeeper."""
    keep_on_one_worker(items, HERE, "curator", timeout=TIMEOUT)


@pytest.fixture(scope="session")
def jdk() -> None:
    """Skip the tests if there is none."""
    if reason := why_not():
        pytest.skip(reason)
    jars()


@pytest.fixture(scope="session")
def curator(jdk: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Curator]:
    """A ZooKeeper shared by the tests. Each test has its own paths, and must not stop it."""
    with Curator(tmp_path_factory.mktemp("zookeeper")) as process:
        yield process


@pytest.fixture
def place(curator: Curator, cli: Cli, rpc: Rpc) -> Iterator[Place]:
    """An empty path in ZooKeeper and an empty queue."""
    with zookeeper_client(curator.address) as zookeeper:
        yield Place(curator, zookeeper, cli, rpc)
