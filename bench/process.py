"""Servers as child processes: started on a free port, stopped by process ID."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.errors import NotHere

HOST = "127.0.0.1"
_STOP_SECONDS = 10.0


class RunningServer(NamedTuple):
    """A running server."""

    address: str
    """`host:port`."""
    pid: int | None = None
    """Its process, if we started it."""


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        port: int = found.getsockname()[1]
        return port


def program(name: str, install: str) -> str:
    """Return the path of a program, next to this Python or on the PATH; raise `NotHere` with how to install it."""
    scripts = sysconfig.get_path("scripts")
    found = shutil.which(name, path=os.pathsep.join((scripts, os.environ.get("PATH", os.defpath))))
    if not found:
        raise NotHere(f"{name} is missing: {install}")
    return found


@contextmanager
def started(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server with `folder` as its home; its output goes to the file `output` there."""
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # ^C is for the benchmark, which then stops its servers
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def started_server(command: Sequence[str], folder: Path, port: int) -> Iterator[RunningServer]:
    """Run a server that listens on a given port, and wait until it does."""
    with started(command, folder) as process:
        wait_for_port(port, process, folder)
        yield RunningServer(f"{HOST}:{port}", process.pid)


@contextmanager
def started_python(arguments: Sequence[str], folder: Path) -> Iterator[RunningServer]:
    """Run a server of ours, which logs its address in a line `serving`."""
    command = [sys.executable, *arguments]
    environment = {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}  # noqa: PTH109
    with started(command, folder, environment) as process:
        deadline = time.monotonic() + 30
        while True:
            for line in (folder / "output").read_text().splitlines():
                if '"serving"' in line:
                    yield RunningServer(f"{HOST}:{json.loads(line)['port']}", process.pid)
                    return
            _check(process, folder, deadline)


def wait_for_port(port: int, process: subprocess.Popen[bytes], folder: Path, seconds: float = 30) -> None:
    """Wait until a server listens; raise `NotHere` after a timeout."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((HOST, port), 1).close()
        except OSError:
            _check(process, folder, deadline)
        else:
            return


def cpu_seconds(pid: int | None) -> float | None:
    """Return the CPU time of all threads of a process, None if the system does not report it."""
    if pid is None or sys.platform != "linux":
        return None
    try:
        return time.clock_gettime(~pid << 3 | 2)  # the clock of a process by its ID, like clock_getcpuclockid
    except OSError:
        return None


def _check(process: subprocess.Popen[bytes], folder: Path, deadline: float) -> None:
    """Raise `NotHere` if a server has ended or timed out, else sleep briefly."""
    if process.poll() is not None or time.monotonic() > deadline:
        said = (folder / "output").read_text(errors="replace").strip().splitlines()
        raise NotHere(f"it did not start: {said[-1] if said else 'no output'}")
    time.sleep(0.05)
