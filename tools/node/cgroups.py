"""The cgroups of one node: a group of its own in each hierarchy, below which are those of its Pods."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from tools.control_plane.errors import ControlPlaneError
from tools.control_plane.guard import remove_cgroup

_TOP = Path("/sys/fs/cgroup")
_REMOVED_WITHIN = 10.0


class Cgroups:
    """Groups of one name, which no other has."""

    def __init__(self) -> None:
        self.name = f"queuelet-{secrets.token_hex(4)}"
        self._is_unified = (_TOP / "cgroup.controllers").exists()
        tops = [_TOP] if self._is_unified else _hierarchies()
        self.folders = tuple(top / self.name for top in tops)

    def make(self) -> None:
        """Make them."""
        for folder in self.folders:
            folder.mkdir()
            if self._is_unified:
                enabled = (folder / "cgroup.controllers").read_text().split()
                (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in enabled))
            for setting in ("cpuset.cpus", "cpuset.mems"):
                # In a hierarchy of v1, a new group of it has none, and takes no process.
                if not self._is_unified and (folder / setting).exists():
                    (folder / setting).write_text((folder.parent / setting).read_text())

    def remove(self) -> None:
        """Remove them once the processes in them, which were killed, are gone."""
        end = time.monotonic() + _REMOVED_WITHIN
        while left := [folder for folder in self.folders if folder.exists()]:
            for folder in left:
                remove_cgroup(folder)
            if time.monotonic() > end:
                raise ControlPlaneError(f"cgroups are left: {', '.join(map(str, left))}")
            time.sleep(0.02)


def _hierarchies() -> list[Path]:
    # Some have a second name, a symlink. One of v2 may stand beside those of v1: processes are put into it as well.
    return [path for path in sorted(_TOP.iterdir()) if not path.is_symlink() and (path / "cgroup.procs").exists()]
