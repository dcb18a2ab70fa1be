"""Several real servers that share the queues of one PostgreSQL, for tests."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from support.ports import lasting_port
from support.postgres_server import PostgresServer, new_schema, shared_postgres
from support.rpc import eventually
from support.server_process import ServerProcess

LEASE = 2
"""Seconds after which the shards of a killed server are taken over."""


class ThreeServers:
    """Servers with shards of one schema, which is removed at the end. Each has a lasting port."""

    def __init__(
        self,
        count: int = 3,
        shards: int = 4,
        *flags: str,
        lease: float = LEASE,
        seed: int | None = None,
        database: PostgresServer | None = None,
    ) -> None:
        """Make them; `with` starts them.

        Args:
            count: how many servers.
            shards: how many shards.
            flags: more flags for all of them.
            lease: the lease of a shard, in seconds.
            seed: decides which server `address` names.
            database: where the schema is, by default the database of this process.
        """
        self._database = database or shared_postgres()
        self._schema = new_schema()
        self._flags = (
            "--postgres", self._database.url, "--postgres-schema", self._schema, "--postgres-lease", str(lease),
            "--shards", str(shards), *flags,
        )  # fmt: skip
        self._chance = random.Random(seed)
        self._stack = ExitStack()
        self.shards = shards
        self.addresses = [f"127.0.0.1:{lasting_port()}" for _ in range(count)]
        self.servers: list[ServerProcess] = []

    def __enter__(self) -> Self:
        """Start them, and wait until all shards have owners."""
        self._stack.callback(self._database.drop, self._schema)
        self.servers = [self.launch(number) for number in range(len(self.addresses))]
        self.until_shared()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop them."""
        self._stack.close()

    def launch(self, number: int) -> ServerProcess:
        """Start one of them, in place of one that has ended."""
        address = self.addresses[number]
        flags = ("--listen", address, "--advertise", address, *self._flags)
        server = self._stack.enter_context(ServerProcess(*flags))
        if number < len(self.servers):
            self.servers[number] = server
        return server

    @property
    def address(self) -> str:
        """The address of one of them, by chance."""
        return self._chance.choice(self.addresses)

    def owners(self) -> Sequence[str]:
        """Return the addresses of the owners by shard; empty if a shard is free."""
        owner = "CASE WHEN expires > clock_timestamp() THEN address ELSE '' END"
        statement = f"SELECT {owner} FROM {self._schema}.owners ORDER BY shard"  # noqa: S608  # a name of this process
        return (self._database.sql(statement).split("\n"))[: self.shards]

    def until_shared(self) -> None:
        """Wait until each server that runs owns its part of the shards."""
        most = -(-self.shards // len(self.servers))

        def is_shared() -> bool:
            time.sleep(0.1)  # each look is a process
            owners = self.owners()
            return "" not in owners and all(owners.count(each) <= most for each in self.addresses)

        eventually(is_shared, "the shards are shared")
