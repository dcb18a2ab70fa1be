"""Flags for servers with one durable store each, in turn.

A test module imports the fixture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
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


@pytest.fixture(params=["disk", "postgres"])
def durable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DurableServer]:
    """Each durable store in turn, which is empty."""
    if request.param == "disk":
        folder = tmp_path / "data"
        yield DurableServer(pb.Queue.DISK, ("--data-dir", str(folder)), lambda: _leases_in(folder))
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
