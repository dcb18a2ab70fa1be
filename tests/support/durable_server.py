"""Flags for servers with one durable store each, in turn.

A test module imports the fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from queuelet.v1 import queue_pb2 as pb
from support.postgres_server import own_schema


@dataclass(frozen=True, slots=True)
class DurableServer:
    """A durable store, and the flags of a server with it."""

    store: pb.Queue.Store
    flags: tuple[str, ...]


@pytest.fixture(params=["disk", "postgres"])
def durable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DurableServer]:
    """Each durable store in turn, which is empty."""
    if request.param == "disk":
        yield DurableServer(pb.Queue.DISK, ("--data-dir", str(tmp_path / "data")))
        return
    with own_schema() as flags:
        # A killed server's lease has to end before the next one takes over.
        yield DurableServer(pb.Queue.POSTGRES, (*flags, "--postgres-lease", "1"))
