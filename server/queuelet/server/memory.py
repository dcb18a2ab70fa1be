"""Memory usage of this process, and its limit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_LIMIT_1 = "memory.limit_in_bytes"


_LIMIT_2 = "memory.max"
"""The file with a cgroup's memory limit, in cgroup v1 and v2."""


def resident_bytes() -> int:
    """Return the resident memory of this process in bytes; 0 if the system does not report it."""
    return _pages()[0] * _page_size()


def anonymous_bytes() -> int:
    """Return the resident memory without the pages of files, in bytes; 0 if the system does not report it."""
    resident, shared = _pages()
    return (resident - shared) * _page_size()


def _pages() -> tuple[int, int]:
    """Return how many pages of memory are resident, and how many of these belong to files."""
    try:
        _, resident, shared, *_ = Path("/proc/self/statm").read_text().split()
        return int(resident), int(shared)
    except (OSError, ValueError):
        return 0, 0


def available_bytes(root: Path = Path("/")) -> int:
    """Return the memory limit of this process in bytes: the lowest of its cgroups' limits, or the machine's memory.

    A limit applies to all cgroups below it, so the ancestors of the process's own cgroup count too, if visible.
    """
    limits = [_limit(folder / name) for folder, name in _memory_cgroups(root)]
    return min([_machine_bytes(root), *(limit for limit in limits if limit is not None)])


def _limit(file: Path) -> int | None:
    """Return a cgroup's limit in bytes, None if it has none: v2 then has `max`, and v1 a huge number."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _memory_cgroups(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield the folder of each cgroup of this process, and the name of the file with its memory limit.

    `/proc/self/cgroup` has the path of the process in each hierarchy, and `/proc/self/mountinfo` the mount points. In a
    container the path may be outside the mounted part of the hierarchy; then the mount point itself is the cgroup.
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
    """Yield the type, the mounted path and the mount point of each cgroup hierarchy that may limit memory."""
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
