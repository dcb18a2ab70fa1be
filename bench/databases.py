"""PostgreSQL for a server of ours: alone, or with standbys of which one has to confirm each commit."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.errors import Failed, NotHere
from tools.control_plane.ports import free_ports
from tools.postgres import Postgres, PostgresError, stop

SETTINGS = {"shared_buffers": "256MB", "max_wal_size": "4GB"}
"""The settings that are not PostgreSQL's defaults, apart from those of the quorum. `fsync` is on."""

_START_SECONDS = 60.0


class Database(NamedTuple):
    """A running database."""

    url: str
    pids: Sequence[int]
    """The first process of each node, whose children are the others."""


@contextmanager
def database(standbys: int) -> Iterator[Database]:
    """Run a database with this many standbys on this machine. Raises `NotHere` if there is no PostgreSQL."""
    ports = free_ports(1 + standbys)
    names = [f"standby{number}" for number in range(standbys)]
    quorum = {"synchronous_standby_names": f"ANY 1 ({', '.join(names)})"} if names else {}
    # Not in a folder of the benchmark, which other users may not enter: PostgreSQL does not run as root.
    root = Path(tempfile.mkdtemp(prefix="bench-postgres-"))
    with ExitStack() as running:
        try:
            primary = Postgres(root, ports[0], package=True, start_seconds=_START_SECONDS, **SETTINGS, **quorum)
            running.callback(primary.stop)
            primary.start()
        except PostgresError as error:
            raise NotHere(str(error)) from None
        pids = [primary.pid]
        for name, port in zip(names, ports[1:], strict=True):
            standby = _standby(primary, name, port)
            running.callback(stop, standby)
            pids.append(standby.pid)
        _until_streaming(primary, standbys)
        yield Database(primary.url, pids)


def _standby(primary: Postgres, name: str, port: int) -> subprocess.Popen[bytes]:
    folder = primary.root / name
    primary.run(
        "pg_basebackup",
        f"--pgdata={folder}",
        "--checkpoint=fast",
        "--wal-method=stream",
        "--write-recovery-conf",
        f"--dbname=host=127.0.0.1 port={primary.port} user=postgres application_name={name}",
    )
    return primary.launch(folder, port, primary.root / f"{name}.log")


def _until_streaming(primary: Postgres, standbys: int) -> None:
    arguments = ("--host=127.0.0.1", f"--port={primary.port}", "--username=postgres", "--tuples-only", "--no-align")
    count = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
    end = time.monotonic() + _START_SECONDS
    while int(primary.run("psql", *arguments, "--command", count)) < standbys:
        if time.monotonic() > end:
            raise Failed("the standbys do not stream")
        time.sleep(0.05)
