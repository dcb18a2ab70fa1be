"""The settings of a PostgreSQL store."""

from __future__ import annotations

from dataclasses import dataclass

from queuelet.stores.postgres.address import Address, AddressFile


@dataclass(frozen=True, kw_only=True, slots=True)
class PostgresSettings:
    """How a store uses its database. Sizes are in bytes, durations in seconds."""

    address: Address | AddressFile
    """Where the database is."""

    schema: str = "queuelet"
    """The schema of the tables; it is created if it does not exist."""

    name: str = ""
    """How this server calls itself to others that want to take over: its address."""

    shard: int = 0
    """The shard whose queues the store has."""

    shards: int = 1
    """The number of shards, which is fixed when the tables are created."""

    waits_for_lease: bool = True
    """Whether the store waits for the end of another owner's lease. Otherwise it takes the shard only if it is free."""

    lease_seconds: float = 5.0
    """How long this server serves after a commit, and how long another one waits before it takes over."""

    connect_seconds: float = 3.0
    """How long one attempt to connect may take."""

    group_bytes: int = 4 * 1024 * 1024
    """About how many bytes of messages one transaction has."""

    window_bytes: int = 64 * 1024 * 1024
    """How many bytes of messages at the heads of queues are held in memory."""

    cache_bytes: int = 32 * 1024 * 1024
    """How many bytes of other messages that were read are held in memory."""

    def read_address(self) -> Address:
        """Return the address. Raises `StoreFailed` if it is in a file that cannot be read."""
        return self.address.read() if isinstance(self.address, AddressFile) else self.address
