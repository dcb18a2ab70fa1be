"""Flags for servers with one durable store each, in turn.

A test module imports the fixture `durable`, or uses `durable_server` if it needs several folders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from queuelet.stores.disk.data_dir import DATABASE
from queuelet.stores.disk.database import open_for_reading, value
from queuelet.v1 import queue_pb2 as pb
from support.postgres_server import own_schema, shared_postgres


@dataclass(frozen=True, slots=True)
class DurableServer:
    """A durable store, and the flags of a server with it."""

    store: pb.Queue.Store
    flags: tuple[str, ...]
    leases: Callable[[], int]
    """Returns how many leases are committed."""

    @property
    def store_name(self) -> str:
        """The name of the store, as in JSON and in the client."""
        return pb.Queue.Store.Name(self.store)


KINDS = ("disk", "postgres")
"""The durable stores."""


@pytest.fixture(params=KINDS)
def durable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DurableServer]:
    """Each durable store in turn, which is empty."""
    with durable_server(request.param, tmp_path) as server:
        yield server


@contextmanager
def durable_server(kind: str, folder: Path) -> Iterator[DurableServer]:
    """Yield an empty store. One on disk is in the subfolder `data`."""
    if kind == "disk":
        data = folder / "data"
        yield DurableServer(pb.Queue.DISK, ("--data-dir", str(data)), lambda: _leases_in(data))
        return
    with own_schema() as flags:
        schema = flags[flags.index("--postgres-schema") + 1]
        # A killed server's lease has to end before the next one takes over.
        yield DurableServer(
            pb.Queue.POSTGRES,
            (*flags, "--postgres-lease", "1"),
            lambda: int(shared_postgres().sql(f"SELECT count(*) FROM {schema}.deliveries")),  # noqa: S608  # our own name
        )


def _leases_in(folder: Path) -> int:
    with closing(open_for_reading(folder / DATABASE)) as connection:
        return int(value(connection, "SELECT count(*) FROM deliveries"))
