"""Ends what a control plane has started where its owner was killed and could not.

    python guard.py FOLDER [CGROUP]... <pipe

The owner writes the pid of each process to the pipe, which closes when the owner is gone, however it went.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


class Guard:
    """The owner's end: told of each process that is started."""

    def __init__(self, folder: Path, cgroups: Sequence[Path] = ()) -> None:
        """Start it, for processes whose command lines name this folder; the folder goes with them, and the cgroups."""
        command = [sys.executable, str(Path(__file__)), str(folder), *map(str, cgroups)]
        # A session of its own: what is sent to the owner's group at its end must not reach it.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)

    def watch(self, pid: int) -> None:
        """Have a process ended with its owner."""
        if self._process.stdin:
            print(pid, file=self._process.stdin, flush=True)

    def dismiss(self) -> None:
        """Stop it: the owner has cleaned up itself."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()


def main() -> None:
    """Wait for the owner's end, then clean up after it."""
    folder, *cgroups = map(Path, sys.argv[1:])
    for pid in [int(line) for line in sys.stdin]:
        # By then the pid may be that of another process, which has nothing to do with the folder.
        if str(folder) in _command(pid):
            os.kill(pid, signal.SIGKILL)
    # A process that was just killed may still write a file, or be in a cgroup.
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        for cgroup in cgroups:
            remove_cgroup(cgroup)
        if not any(path.exists() for path in (folder, *cgroups)):
            break
        time.sleep(0.1)


def remove_cgroup(cgroup: Path) -> None:
    """Remove a cgroup and those in it, as far as there are no processes in them."""
    for folder, _, _ in os.walk(cgroup, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()


def _command(pid: int) -> str:
    known = Path(f"/proc/{pid}/cmdline")
    if Path("/proc/self").exists():
        return known.read_bytes().decode(errors="replace") if known.exists() else ""
    shown = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout


if __name__ == "__main__":
    main()
