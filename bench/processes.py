"""Child processes: ready by their log or their port, stopped by their process ID."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.errors import Failed, NotHere

HOST = "127.0.0.1"

_START_SECONDS = 180.0  # three nodes of RabbitMQ take half a minute on two busy cores
_STOP_SECONDS = 10.0

_PARENT, _USER = 1, 11
"""Places in `/proc/PID/stat` after the name: the parent, and the CPU times, in clock ticks."""


class Child:
    """A child process with a log file. It may be stopped and started again."""

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Take its name, its command, the folder of its log, and environment in addition to ours."""
        self.name = name
        self._command = command
        self._log = folder / f"{name}.log"
        # The settings of this shell must not configure one of our programs by accident.
        ours = {key: value for key, value in os.environ.items() if not key.startswith(("QUEUELET_", "Q_"))}
        self._environment = {**ours, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._position = 0

    def start(self, *more: str) -> None:
        """Start it, with more arguments. The log of an earlier run is removed."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*self._command, *more],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,  # ^C is for the benchmark, which then stops its processes
            )
        self._position = 0

    @property
    def pid(self) -> int:
        """Its process ID."""
        assert self._process
        return self._process.pid

    def logged(self, text: str) -> str:
        """Wait for its next log line that contains this text, and return it; raise `Failed` if it ends before."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with self._log.open("rb") as log:
                log.seek(self._position)
                for line in log:
                    if line.endswith(b"\n"):
                        self._position += len(line)
                        if text in (found := line.decode(errors="replace")):
                            return found
            self._pause(deadline, f"log {text!r}")

    def listens(self, port: int) -> None:
        """Wait until a port accepts connections; raise `Failed` if it ends before."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                socket.create_connection((HOST, port), 1).close()
            except OSError:
                self._pause(deadline, f"listen on port {port}")
            else:
                return

    def check(self) -> None:
        """Raise `Failed` with the last lines of its log if it does not run."""
        if self._process is None or self._process.poll() is not None:
            code = self._process.returncode if self._process else None
            raise Failed(f"{self.name} does not run (exit code {code}); its log ends with {self._last_lines()}")

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Stop it with SIGTERM, and kill it if it does not end."""
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()

    def _pause(self, deadline: float, what: str) -> None:
        self.check()
        if time.monotonic() > deadline:
            raise Failed(f"{self.name} did not {what} in time; its log ends with {self._last_lines()}")
        time.sleep(0.02)

    def _last_lines(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return repr("\n".join(lines[-5:])[-2_000:])


def program(name: str, install: str) -> str:
    """Return the path of a program, next to this Python or on the PATH; raise `NotHere` with how to install it."""
    scripts = sysconfig.get_path("scripts")
    found = shutil.which(name, path=os.pathsep.join((scripts, os.environ.get("PATH", os.defpath))))
    if not found:
        raise NotHere(f"{name} is missing: {install}")
    return found


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process, not a number if the system does not report it."""
    try:
        return time.clock_gettime(~pid << 3 | 2)  # the clock of a process by its ID, like clock_getcpuclockid
    except OSError:
        return float("nan")


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def needs_linux() -> None:
    """Raise `NotHere` on a system that does not report the resources of other processes."""
    if sys.platform != "linux":
        raise NotHere("the resources of processes are read from /proc, so this needs Linux")


def family_cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its children, also of those that have ended."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if stat.parent.name == str(pid):
            ticks += sum(map(int, fields[_USER : _USER + 4]))
        elif int(fields[_PARENT]) == pid:
            ticks += sum(map(int, fields[_USER : _USER + 2]))
    return ticks / os.sysconf("SC_CLK_TCK")
