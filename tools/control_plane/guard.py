"""Kills the processes of a control plane, a node or a database if their owner was killed and could not do it.

    python guard.py FOLDER [CGROUP]... <pipe

The owner writes the pid of each process to the pipe. The pipe closes when the owner ends, however it ends.
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
    """The owner's side: gets the pid of each process that is started."""

    def __init__(self, folder: Path, cgroups: Sequence[Path] = ()) -> None:
        """Start the guard of processes whose command lines name a folder. It also removes folder and cgroups."""
        command = [sys.executable, str(Path(__file__)), str(folder), *map(str, cgroups)]
        # A session of its own, because a signal to the owner's process group must not reach it.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)

    def watch(self, pid: int) -> None:
        """Have a process killed when its owner ends."""
        if self._process.stdin:
            print(pid, file=self._process.stdin, flush=True)

    def dismiss(self) -> None:
        """Stop the guard: the owner has cleaned up."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()


def main() -> None:
    """Wait for the owner to end, then clean up after it."""
    folder, *cgroups = map(Path, sys.argv[1:])
    for pid in [int(line) for line in sys.stdin]:
        # The system may have reused the pid for a process that has nothing to do with the folder.
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
    """Remove a cgroup and those below it, as far as they have no processes."""
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
