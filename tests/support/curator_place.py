"""A queue of Curator and a queue of ours, for the tests of the import."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from kazoo.client import KazooClient

from queuelet.v1 import queue_pb2 as pb
from support.commands import Cli, Ended, payloads
from support.rpc import Rpc, eventually, unique_name
from tools.zookeeper import Curator


class Place:
    """An unused path in ZooKeeper, and a new queue on the server."""

    def __init__(self, curator: Curator, zookeeper: Any, cli: Cli, rpc: Rpc) -> None:  # noqa: ANN401  # kazoo's
        """Take a Curator process, an open client of its ZooKeeper, and clients of the server."""
        self.curator = curator
        self.zookeeper = zookeeper
        self.cli = cli
        self.rpc = rpc
        self.path = f"/{unique_name()}/items"
        self.queue = rpc.new_queue(unique_name()).name

    def limit(self, limit: int) -> None:
        """Use a new queue with this limit instead of the current one."""
        self.queue = self.rpc.new_queue(unique_name(), limit=limit).name

    # The nodes in ZooKeeper

    def put(self, recipe: str, *items: tuple[bytes, str | int]) -> None:
        """Have Curator put items, each with its priority, its epoch in milliseconds or its ID."""
        self.curator.put(recipe, self.path, items)

    def create(self, name: str, data: bytes, **how: Any) -> str:  # noqa: ANN401  # kazoo's
        """Create a node without Curator; return its name."""
        made: str = self.zookeeper.create(f"{self.path}/{name}", data, makepath=True, **how)
        return made.rpartition("/")[2]

    def create_many(self, name: str, contents: Iterable[bytes]) -> None:
        """Create nodes without Curator, each with a sequence number."""
        self.zookeeper.ensure_path(self.path)
        for asked in [self.zookeeper.create_async(f"{self.path}/{name}", data, sequence=True) for data in contents]:
            asked.get()

    def nodes(self, path: str = "") -> list[str]:
        """Return the names of the nodes."""
        return sorted(self.zookeeper.get_children(path or self.path))

    # The command

    def bring(self, *flags: str, path: str = "") -> Ended:
        """Run `queuelet import-curator`."""
        where = ("--zookeeper", self.curator.address)
        return self.cli("import-curator", self.queue, path or self.path, *where, *flags)

    def start_to_bring(self, *flags: str) -> subprocess.Popen[bytes]:
        """Start `queuelet import-curator`, and wait until it is blocked on the queue's limit."""
        where = ("--zookeeper", self.curator.address, "--wait")
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = self.cli.start("import-curator", self.queue, self.path, *where, *flags, **pipes)
        eventually(lambda: self.rpc.stats(self.queue).waiting_calls == 1, "the import waits for room")
        return process

    # The messages in the queue

    @property
    def messages(self) -> list[pb.Message]:
        """All messages, in order."""
        return list(self.rpc.browse_all(self.queue))

    @property
    def payloads(self) -> list[bytes]:
        """Their payloads."""
        return payloads(self.rpc, self.queue)

    def pop(self) -> list[bytes]:
        """Pop all ready messages."""
        return self.cli("pop", self.queue, "--raw", "--count", "1000").out.splitlines()


@contextmanager
def zookeeper_client(address: str) -> Iterator[Any]:
    """Yield a ZooKeeper client, to inspect and to interfere."""
    client = KazooClient(address)
    client.start()
    try:
        yield client
    finally:
        client.stop()
        client.close()
