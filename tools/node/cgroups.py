"""The cgroups of one node: one group in each hierarchy, with those of its Pods below."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from tools.control_plane.errors import ControlPlaneError
from tools.control_plane.guard import remove_cgroup

_TOP = Path("/sys/fs/cgroup")
_REMOVED_WITHIN = 10.0


class Cgroups:
    """Groups of one unique name."""

    def __init__(self) -> None:
        self.name = f"queuelet-{secrets.token_hex(4)}"
        self._is_unified = (_TOP / "cgroup.controllers").exists()
        tops = [_TOP] if self._is_unified else _hierarchies()
        self.folders = tuple(top / self.name for top in tops)

    def make(self) -> None:
        """Create the groups."""
        for folder in self.folders:
            folder.mkdir()
            if self._is_unified:
                enabled = (folder / "cgroup.controllers").read_text().split()
                (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in enabled))
            for setting in ("cpuset.cpus", "cpuset.mems"):
                # In a v1 hierarchy a new cpuset is empty, and takes no process until it has CPUs and memory nodes.
                if not self._is_unified and (folder / setting).exists():
                    (folder / setting).write_text((folder.parent / setting).read_text())

    def remove(self) -> None:
        """Remove the groups once the killed processes in them are gone."""
        end = time.monotonic() + _REMOVED_WITHIN
        while left := [folder for folder in self.folders if folder.exists()]:
            for folder in left:
                remove_cgroup(folder)
            if time.monotonic() > end:
                raise ControlPlaneError(f"cgroups could not be removed: {', '.join(map(str, left))}")
            time.sleep(0.02)


def _hierarchies() -> list[Path]:
    # Some hierarchies have a second name, a symlink. A v2 hierarchy may be mounted next to v1: use it as well.
    return [path for path in sorted(_TOP.iterdir()) if not path.is_symlink() and (path / "cgroup.procs").exists()]
