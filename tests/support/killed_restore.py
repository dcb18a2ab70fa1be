"""A `queuelet restore --force` that is killed, once before each of its steps: `python -m support.killed_restore ...`.

Its arguments are a data folder that a process has left, a backup, and an empty folder. There it creates `1`, `2`, ...:
the data folder after a restore that was killed before its first step, its second, and so on; the last restore was not
killed. A step is any change to a file or a file name. Each restore is a fork, so that all need one start of Python.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from itertools import count
from pathlib import Path

import apsw

from queuelet.stores.disk.backup import restore

_EVENTS = {"open", "os.remove", "os.rename", "os.truncate", "shutil.copyfile"}
"""Python's steps, as audit events. `_Layer` has SQLite's steps."""


class Countdown:
    """Kills the process before the step with the given number."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def step(self) -> None:
        """Count a step that is about to happen."""
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)


class _Layer(apsw.VFS):
    """A SQLite VFS that counts each step."""

    def __init__(self, countdown: Countdown) -> None:
        self._countdown = countdown
        super().__init__("killed", "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802  # apsw's name
        return _File(name, flags, self._countdown)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001, N802  # apsw's
        self._countdown.step()
        super().xDelete(filename, syncdir)


class _File(apsw.VFSFile):
    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], countdown: Countdown) -> None:
        super().__init__("unix", name, flags)
        self._countdown = countdown

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802  # apsw's name
        self._countdown.step()
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802  # apsw's name
        self._countdown.step()
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802  # apsw's name
        self._countdown.step()
        super().xSync(flags)


def restore_until(folder: Path, backup: Path, steps: int) -> None:
    """Restore, and be killed before a step."""
    countdown = Countdown(steps)
    layer = _Layer(countdown)
    sys.addaudithook(lambda event, _: countdown.step() if event in _EVENTS else None)
    restore(backup, folder, force=True)
    del layer


def main(store: Path, backup: Path, root: Path) -> None:
    """Restore in copies of a folder, killed one step later each time, until a restore completes."""
    for steps in count(1):
        folder = root / str(steps)
        shutil.copytree(store, folder)
        process = os.fork()
        if not process:
            restore_until(folder, backup, steps)
            os._exit(0)
        _, status = os.waitpid(process, 0)
        if not os.WIFSIGNALED(status):
            raise SystemExit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
