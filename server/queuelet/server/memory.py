"""The memory of this process and of the machine: in use, and available."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_LIMIT_1 = "memory.limit_in_bytes"


_LIMIT_2 = "memory.max"
"""The files with a cgroup's limit of memory, by version."""


def resident_bytes() -> int:
    """Return the memory this process has in use, in bytes; 0 where the system does not tell."""
    return _pages()[0] * _page_size()


def anonymous_bytes() -> int:
    """Return that memory without the pages of files; 0 where the system does not tell."""
    resident, shared = _pages()
    return (resident - shared) * _page_size()


def _pages() -> tuple[int, int]:
    """Return how many pages of memory are in use, and how many of them are of files."""
    try:
        _, resident, shared, *_ = Path("/proc/self/statm").read_text().split()
        return int(resident), int(shared)
    except (OSError, ValueError):
        return 0, 0


def available_bytes(root: Path = Path("/")) -> int:
    """Return how much memory this process may use, in bytes: the least of its cgroups' limits and the machine's memory.

    A limit holds for all cgroups below it, so those above the process's own count too, as far as they can be seen.
    """
    limits = [_limit(folder / name) for folder, name in _memory_cgroups(root)]
    return min([_machine_bytes(root), *(limit for limit in limits if limit is not None)])


def _limit(file: Path) -> int | None:
    """Return a cgroup's limit, None if it has none: v2 then says `max`, and v1 holds a huge number."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _memory_cgroups(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield the folder of each cgroup that this process is in, and the name of the file with its limit of memory.

    `/proc/self/cgroup` says where the process is in each hierarchy, and `/proc/self/mountinfo` where that is mounted.
    In a container the path may lead outside of what is mounted there: then the mount itself is the cgroup.
    """
    lines = (line.split(":", 2) for line in _lines(root / "proc/self/cgroup"))
    own = {controllers: path for _, controllers, path in lines}
    version_1 = next((path for controllers, path in own.items() if "memory" in controllers.split(",")), "/")
    mounts = list(_cgroup_mounts(root)) or [
        ("cgroup2", "/", "/sys/fs/cgroup"),
        ("cgroup", "/", "/sys/fs/cgroup/memory"),
    ]
    for kind, mounted, mount_point in mounts:
        path, name = (own.get("", "/"), _LIMIT_2) if kind == "cgroup2" else (version_1, _LIMIT_1)
        top = root / mount_point.lstrip("/")
        below = PurePosixPath(path)
        relative = below.relative_to(mounted) if below.is_relative_to(mounted) else PurePosixPath()
        if ".." in relative.parts:
            relative = PurePosixPath()
        for each in (relative, *relative.parents):
            yield top / each, name


def _cgroup_mounts(root: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the kind, the root in its hierarchy, and the mount point of each hierarchy that may limit memory."""
    for line in _lines(root / "proc/self/mountinfo"):
        mount, _, source = line.partition(" - ")
        _, _, _, mounted, mount_point, *_ = mount.split()
        kind, _, options = source.split(maxsplit=2)
        if kind == "cgroup2" or (kind == "cgroup" and "memory" in options.split(",")):
            yield kind, mounted, mount_point


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []


def _machine_bytes(root: Path) -> int:
    try:
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PHYS_PAGES") * _page_size()


def _page_size() -> int:
    return os.sysconf("SC_PAGE_SIZE")
