"""Processes started here, and ended here: no other is ever signalled."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tools.control_plane.errors import ControlPlaneError

_TOLD_LINES = 20
"""Lines of its log that are told of a process that ended."""


class Process:
    """A program that runs beside us, with a log file.

    It stays our child until it is waited for here, so its pid can't be another's.
    """

    def __init__(self, name: str, command: Sequence[str | Path], log: Path, files: Sequence[int] = ()) -> None:
        """Take its name, its command, where its log goes, and the open files of ours that it gets."""
        self.name = name
        self.log = log
        self._command = command
        self._files = files
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; the log goes on where it was."""
        with self.log.open("ab") as log:
            # A session of its own: ^C is ours, and ends it in our order.
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
        """Its process id, 0 if it was never started."""
        return self._process.pid if self._process else 0

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def check(self) -> None:
        """Raise `ControlPlaneError` with the end of its log if it does not run."""
        if not self.is_running:
            raise ControlPlaneError(f"{self.name} {self._how_it_ended()}; the end of {self.log}:\n{self.last_lines()}")

    def last_lines(self) -> str:
        """Return the end of its log."""
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_TOLD_LINES:])

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _how_it_ended(self) -> str:
        if self._process is None:
            return "was not started"
        code = self._process.returncode
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
