"""Several servers that share the queues of one database, called at the one that owns the queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Self, TypeVar
from uuid import uuid4

import grpc

from queuelet.server.directory import shard_of
from queuelet.v1 import queue_pb2 as pb
from support.patience import patient
from support.postgres_server import PostgresServer, new_schema, shared_postgres
from support.rpc import Refused, Rpc, eventually
from support.server_process import ServerProcess

T = TypeVar("T")

LEASE = 2
"""The lease of the servers in seconds: short, so that tests need not wait for long."""

RETRIED = frozenset({"SHARD_MOVED", "SERVER_DRAINING", "STORE_FAILED", ""})
"""The reasons for which a call is retried, at the same server or at another one; empty for a lost connection."""


class ManyServers:
    """Servers on free ports, which are started one by one."""

    def __init__(self, *, shards: int, lease: float = LEASE, database: PostgresServer | None = None) -> None:
        self.shards = shards
        self.database = database or shared_postgres()
        self.schema = new_schema()
        self.flags = (
            *("--postgres", self.database.url, "--postgres-schema", self.schema, "--postgres-lease", f"{lease:g}"),
            *("--shards", str(shards), "--advertise", "127.0.0.1:0"),
        )
        self.running: list[ServerProcess] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self.database.drop(self.schema)

    def start(self) -> ServerProcess:
        """Start another server, and wait until it serves."""
        server = ServerProcess(*self.flags)
        self._stack.enter_context(server)
        self.running.append(server)
        return server

    def stop(self, server: ServerProcess) -> None:
        """Drain a server."""
        self.running.remove(server)
        assert server.stop() == 0

    def kill(self, server: ServerProcess) -> None:
        """Kill a server."""
        self.running.remove(server)
        server.kill()

    def owners(self) -> dict[int, str]:
        """Return the addresses of the owners of the shards that have one, as the database knows them."""
        rows = self.database.sql(
            f"SELECT shard, address FROM {self.schema}.owners WHERE expires > clock_timestamp() ORDER BY shard"  # noqa: S608  # our own name
        )
        return {int(shard): address for shard, address in (row.split("|") for row in rows.splitlines())}

    def parts(self) -> list[int]:
        """Return how many shards each running server owns, the fewest first."""
        owners = list(self.owners().values())
        return sorted(owners.count(server.address) for server in self.running)

    def until_parts(self, *parts: int) -> None:
        """Wait until the running servers own these numbers of shards."""
        eventually(lambda: self.parts() == sorted(parts), f"the servers own {sorted(parts)} shards")

    def names(self) -> list[str]:
        """Return the name of a queue for each shard."""
        found: dict[int, str] = {}
        numbers = count()
        while len(found) < self.shards:
            name = f"queue-{next(numbers)}"
            found.setdefault(shard_of(name, self.shards), name)
        return [found[shard] for shard in range(self.shards)]

    def make_queues(self) -> list[str]:
        """Create a queue in each shard; return their names."""
        names = self.names()
        with self.calls() as calls:
            for name in names:
                calls.new_queue(name)
        return names

    @contextmanager
    def calls(self) -> Iterator[Calls]:
        """Yield what calls the owners."""
        calls = Calls(self)
        try:
            yield calls
        finally:
            calls.close()


class Calls:
    """Calls to whichever server owns the queue. For one thread."""

    def __init__(self, servers: ManyServers) -> None:
        self._servers = servers
        self._rpcs: dict[str, Rpc] = {}
        self.longest = 0.0
        """The most seconds that a call took with its retries."""

    def close(self) -> None:
        """Close all connections."""
        for rpc in self._rpcs.values():
            rpc.close()

    def call(self, call: Callable[[Rpc], T]) -> T:
        """Call one server after the other until one does not ask for a retry."""
        start = time.monotonic()
        while True:
            for server in list(self._servers.running):
                rpc = self._rpcs.get(server.address) or self._rpcs.setdefault(server.address, Rpc(server.address))
                try:
                    result = call(rpc)
                except Refused as refused:
                    # A call has no reason if the connection breaks, because its server is killed.
                    is_lost = refused.code is grpc.StatusCode.UNAVAILABLE and not refused.reason
                    if refused.reason not in RETRIED and not is_lost:
                        raise
                    last = refused
                    continue
                self.longest = max(self.longest, time.monotonic() - start)
                return result
            if time.monotonic() - start > patient(30):
                raise AssertionError(f"no server serves the call: {last.reason} {last.text}")
            time.sleep(0.01)

    def new_queue(self, name: str) -> None:
        """Create a queue."""
        request = pb.NewQueueRequest(store=pb.Queue.POSTGRES, limit=-1, name=name)
        try:
            self.call(lambda rpc: rpc.call("NewQueue", request, pb.NewQueueResponse))
        except Refused as refused:
            assert refused.reason == "QUEUE_EXISTS"  # noqa: PT017  # an earlier try may have created it

    def add(self, queue: str, payload: bytes) -> None:
        """Add a message once, however often that has to be tried."""
        message = pb.NewMessage(payload=payload, id=str(uuid4()))
        request = pb.AddRequest(queue_id=queue, message=message)
        self.call(lambda rpc: rpc.call("Add", request, pb.AddResponse))

    def receive(self, queue: str) -> list[pb.Delivery]:
        """Lease a message, if there is one."""
        return self.call(lambda rpc: rpc.receive(queue, 1, lease=60))

    def ack(self, queue: str, token: int) -> str:
        """Acknowledge a message; return the reason of a refusal, empty for success."""
        return self.call(lambda rpc: rpc.ack(queue, token))[0]

    def pop_all(self, queue: str) -> list[bytes]:
        """Pop all messages; return their payloads."""
        return [each.payload for each in self.call(lambda rpc: rpc.pop_all(queue))]


class Load:
    """Adds numbered messages to queues, a thread for each, until the end of the `with` block."""

    def __init__(self, servers: ManyServers, queues: list[str]) -> None:
        self._servers = servers
        self.added: dict[str, list[bytes]] = {queue: [] for queue in queues}
        """The payloads whose Add has succeeded."""
        self.longest: dict[str, float] = {}
        """The most seconds that an Add took with its retries, by queue."""
        self.errors: list[BaseException] = []
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(queue,)) for queue in queues]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def until_added(self, more: int = 3) -> None:
        """Wait until each queue has this many more messages."""
        before = {queue: len(added) for queue, added in self.added.items()}
        eventually(
            lambda: bool(self.errors) or all(len(self.added[queue]) >= before[queue] + more for queue in before),
            "messages are added to all queues",
        )
        assert not self.errors, self.errors

    def check(self) -> None:
        """Check that each queue has all its messages, in order and once."""
        assert not self.errors, self.errors
        with self._servers.calls() as calls:
            for queue, added in self.added.items():
                assert calls.pop_all(queue) == added

    def _run(self, queue: str) -> None:
        try:
            with self._servers.calls() as calls:
                while not self._end.is_set():
                    payload = b"%d" % len(self.added[queue])
                    calls.add(queue, payload)
                    self.added[queue].append(payload)
                    self.longest[queue] = calls.longest
        except BaseException as error:  # noqa: BLE001  # the test raises it
            self.errors.append(error)
