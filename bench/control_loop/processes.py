"""Processes of the contenders: ready by their log, stopped by their ID, started again if a measurement does so."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from bench.errors import Failed, NotHere

LogLine = dict[str, Any]

_STOP_SECONDS = 10.0


class Child:
    """A child process with a log file."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        """Take its name, command, log file, and environment in addition to ours."""
        self.name = name
        self._command = command
        self._log = folder / f"{name}.log"
        # The settings of this shell must not configure one of our programs by accident.
        ours = {key: value for key, value in os.environ.items() if not key.startswith(("QUEUELET_", "Q_"))}
        self._environment = {**ours, **environment}
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._begins = 0

    def start(self, *more: str) -> None:
        """Start it, with more arguments. The log of an earlier run is removed."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*self._command, *more],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,  # ^C is for the benchmark, which then stops its processes
            )
        self._begins = 0

    @property
    def pid(self) -> int:
        """Its process ID."""
        assert self._process
        return self._process.pid

    async def logged(self, msg: str, within: float = 60.0) -> LogLine:
        """Wait for its next log line with this message, and return the JSON.

        Raises `Failed` if the process ends before.
        """
        line: LogLine = json.loads(await self.wrote(f'"{msg}"', within))
        return line

    async def wrote(self, text: str, within: float = 60.0) -> str:
        """Wait for its next log line that contains this text, and return it.

        Raises `Failed` if the process ends before.
        """
        end = monotonic() + within
        while True:
            with self._log.open("rb") as log:
                log.seek(self._begins)
                for line in log:
                    if line.endswith(b"\n"):
                        self._begins += len(line)
                        if text in line.decode(errors="replace"):
                            return line.decode(errors="replace")
            self.check()
            if monotonic() > end:
                raise Failed(
                    f"{self.name} did not log {text!r} within {within:.0f} s; its log ends with {self._last()}"
                )
            await asyncio.sleep(0.02)

    def check(self) -> None:
        """Raise `Failed` with the last line of its log if it does not run."""
        if self._process is None or self._process.poll() is not None:
            code = self._process.returncode if self._process else None
            raise Failed(f"{self.name} does not run (exit code {code}); its log ends with {self._last()}")

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def end(self) -> None:
        """Stop it with SIGTERM, and kill it if it does not end."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def _last(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return repr("\n".join(lines[-5:])[-2_000:])


def memory(pid: int) -> tuple[int, int]:
    """Return the current and the peak memory of a process, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if line.startswith(("VmRSS", "VmHWM"))}
    return int(found["VmRSS"]) * 1024, int(found["VmHWM"]) * 1024


def needs_linux() -> None:
    """Raise `NotHere` on a system that does not report the resources of other processes."""
    if sys.platform != "linux":
        raise NotHere("the resources of processes are read from /proc, so this needs Linux")
