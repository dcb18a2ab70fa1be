"""A real process for tests that logs JSON lines on standard error: observed by its log, ended by signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.patience import patient

LogLine = dict[str, Any]

START = 30.0
"""Seconds that a process may take to start: generous, because every worker starts one at the same time."""


class LoggedProcess:
    """A process that is started by `launch` and never outlives its `with` block.

    No other process is ever signalled.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        """Take the command line, and the whole environment."""
        self._command = command
        self._env = env
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start it, unless it was started before."""
        return self if self._process else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill it if it still runs."""
        if self._process:
            self.kill()

    def start(self) -> Self:
        """Start it, and wait until it is ready."""
        return self.launch()

    def launch(self) -> Self:
        """Start it without waiting."""
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, encoding="utf-8", env=self._env
        )
        # A pipe that is not read fills up and blocks the server.
        self._reader = threading.Thread(target=self._read, name=f"log of {self.pid}", daemon=True)
        self._reader.start()
        return self

    @property
    def process(self) -> subprocess.Popen[str]:
        """The process."""
        if self._process is None:
            raise RuntimeError("the process is not started")
        return self._process

    @property
    def pid(self) -> int:
        """Its process ID."""
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    # The log

    def output(self) -> str:
        """Return everything that it wrote on standard error so far."""
        with self._news:
            return "".join(self._lines)

    def log(self, msg: str | None = None) -> list[LogLine]:
        """Return the log lines so far, in order: all, or those with this message."""
        with self._news:
            lines = [json.loads(line) for line in self._lines if line.startswith("{")]
        return [line for line in lines if msg is None or line.get("msg") == msg]

    def wait_for_log(self, msg: str, which: Callable[[LogLine], bool] | None = None, timeout: float = START) -> LogLine:
        """Return the first log line with this message that `which` accepts, waiting for it."""
        timeout = patient(timeout)
        found: list[LogLine] = []

        def arrived() -> bool:
            found.extend(line for line in self.log(msg) if which is None or which(line))
            return bool(found) or self._ended

        with self._news:
            self._news.wait_for(arrived, timeout)
        if found:
            return found[0]
        state = f"ended with {self.process.wait()}" if self._ended else f"runs for {timeout:.0f} s"
        raise RuntimeError(f"{self._command} {state} without a log line {msg!r}:\n{self.output()}")

    # The end

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self, timeout: float = 60.0) -> int:
        """Return its exit code once it has ended and its log is complete; kill it after a timeout."""
        try:
            code = self.process.wait(patient(timeout))
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._finish()
        return code

    def stop(self, timeout: float = 60.0) -> int:
        """Drain it by SIGTERM; return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """Kill it if it still runs."""
        self.process.kill()
        self.process.wait()
        self._finish()

    # Inspection

    def resident_bytes(self) -> int:
        """Return its current memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    # Internals

    def _read(self) -> None:
        stream = self.process.stderr
        assert stream is not None
        for line in stream:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _finish(self) -> None:
        if self._reader:
            self._reader.join()
        if self.process.stderr:
            self.process.stderr.close()


def clean_environment() -> dict[str, str]:
    """Return this environment without variables that would configure our programs by accident."""
    return {
        key: value for key, value in os.environ.items() if not key.startswith(("QUEUELET_", "Q_", "QCLI_", "QREST_"))
    }
