"""A real PostgreSQL for tests, from a package of PyPI, so that they need nothing of the machine."""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from support.patience import patient
from support.ports import lasting_port
from tools.postgres import Postgres, stop

_SETTINGS = {"shared_buffers": "64MB", "max_wal_size": "1GB", "max_connections": "200", "max_wal_senders": "10"}


class PostgresServer(Postgres):
    """One PostgreSQL with a folder of its own, which runs."""

    def __init__(self, version: int = 18) -> None:
        root = Path(tempfile.mkdtemp(prefix="queuelet-pg-"))
        super().__init__(root, lasting_port(), package=True, version=version, start_seconds=patient(30), **_SETTINGS)
        self.start()

    def sql(self, statement: str) -> str:
        """Run a statement, and return what it prints."""
        arguments = ("--host=127.0.0.1", f"--port={self.port}", "--username=postgres", "--no-psqlrc", "--quiet")
        return self.run("psql", *arguments, "--tuples-only", "--no-align", "--command", statement).strip()

    def configure(self, **settings: str) -> None:
        """Change settings, and wait until new statements have them."""
        for name, value in settings.items():
            self.sql(f"ALTER SYSTEM SET {name} = '{value}'")
        self.sql("SELECT pg_reload_conf()")
        for name, value in settings.items():
            while self.sql(f"SHOW {name}") != value:
                time.sleep(0.02)

    def drop(self, schema: str) -> None:
        """Drop a schema with its tables, if it exists."""
        self.sql(f"SET client_min_messages = warning; DROP SCHEMA IF EXISTS {schema} CASCADE")

    def copy_to(self, name: str) -> None:
        """Copy the data folder of the stopped database."""
        subprocess.run(["cp", "-a", self.folder, self.root / name], check=True)

    def replace_by(self, name: str) -> None:
        """Replace the data folder of the stopped database by a copy."""
        shutil.rmtree(self.folder)
        (self.root / name).rename(self.folder)


class Standby:
    """A standby that streams from a database. Its name is `standby`."""

    def __init__(self, primary: PostgresServer) -> None:
        self._folder = primary.root / "standby"
        primary.run(
            "pg_basebackup",
            f"--pgdata={self._folder}",
            "--checkpoint=fast",
            "--wal-method=stream",
            "--write-recovery-conf",
            f"--dbname=host=127.0.0.1 port={primary.port} user=postgres application_name=standby",
        )
        log = primary.root / "standby-log"
        self.port = lasting_port()
        self._primary = primary
        self._process = primary.launch(self._folder, self.port, log)
        end = time.monotonic() + patient(30)
        while primary.sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == "0":
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)

    def promote(self) -> None:
        """Make it a primary, without telling the one that it streams from."""
        self._primary.run("pg_ctl", "promote", f"--pgdata={self._folder}", "--wait", f"--timeout={patient(30):.0f}")

    def stop(self) -> None:
        """Stop it, and remove its files."""
        stop(self._process)
        shutil.rmtree(self._folder)


def shared_postgres(version: int = 18) -> PostgresServer:
    """Return the PostgreSQL of this process, which is stopped at its end."""
    return _shared(version)


@cache
def _shared(version: int) -> PostgresServer:
    server = PostgresServer(version)
    atexit.register(server.stop)
    return server


_schemas = itertools.count()


def new_schema() -> str:
    """Return the name of a schema that no other test uses."""
    return f"test_{os.getpid()}_{next(_schemas)}"


@contextmanager
def own_schema() -> Iterator[tuple[str, ...]]:
    """Yield the flags for a server with a schema of its own, and remove the schema at the end."""
    server, schema = shared_postgres(), new_schema()
    try:
        # A long lease, because a busy machine may keep the server from renewing a short one.
        yield ("--postgres", server.url, "--postgres-schema", schema, "--postgres-lease", "60")
    finally:
        server.drop(schema)
