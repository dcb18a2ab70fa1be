"""Child processes. Only processes that were started here are ever signalled."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tools.control_plane.errors import ControlPlaneError

_LAST_LINES = 20
"""Number of lines of its log that are reported for a process that ended."""


class Process:
    """A program that runs as our child, with a log file.

    It stays our child until it is waited for here, so its pid can't be reused.
    """

    def __init__(self, name: str, command: Sequence[str | Path], log: Path, files: Sequence[int] = ()) -> None:
        """Take its name, its command, its log file, and the file descriptors that it inherits."""
        self.name = name
        self.log = log
        self._command = command
        self._files = files
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; append to the log."""
        with self.log.open("ab") as log:
            # A session of its own: ^C goes only to us, and we end it in our order.
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=self._files,
            )

    @property
    def pid(self) -> int:
        """Its process ID, 0 if it was never started."""
        return self._process.pid if self._process else 0

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def check(self) -> None:
        """Raise `ControlPlaneError` with the last lines of its log if it does not run."""
        if not self.is_running:
            raise ControlPlaneError(f"{self.name} {self._how_it_ended()}; the end of {self.log}:\n{self.last_lines()}")

    def last_lines(self) -> str:
        """Return the last lines of its log."""
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LAST_LINES:])

    def kill(self) -> None:
        """Kill it if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _how_it_ended(self) -> str:
        if self._process is None:
            return "was not started"
        code = self._process.returncode
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
