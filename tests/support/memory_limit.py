"""A memory limit for one process: a cgroup if one can be created, otherwise a resource limit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryLimit:
    """An active limit."""

    prefix: Sequence[str]
    """The prefix that starts a program under the limit; program and arguments follow."""
    cgroup: Path | None
    """The cgroup; None for a resource limit."""

    def peak_bytes(self, pid: int) -> int:
        """Return the peak memory of the process."""
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"/proc/{pid}/status has no VmHWM")


@contextmanager
def memory_limit(size: int) -> Iterator[MemoryLimit]:
    """Limit the memory of programs that are started under it to this many bytes."""
    made = _make_cgroup(size)
    if made is None:
        yield MemoryLimit(("sh", "-c", f'ulimit -d {size // 1024}; exec "$@"', "limit"), None)
        return
    try:
        yield MemoryLimit(("sh", "-c", f'echo $$ >{made}/cgroup.procs; exec "$@"', "limit"), made)
    finally:
        _remove(made)


def _make_cgroup(size: int) -> Path | None:
    """Return a new cgroup, or None if this process may not create one or it would have no memory controller."""
    lines = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    own = {controllers: path for _, controllers, path in lines}
    candidates = (
        (_V1 / own.get("memory", "").lstrip("/"), "memory.limit_in_bytes"),
        (_V1, "memory.limit_in_bytes"),
        ((_V2 / own.get("", "").lstrip("/")).parent, "memory.max"),
        (_V2, "memory.max"),
    )
    for parent, name in candidates:
        made = parent / f"queuelet-test-{uuid4().hex[:8]}"
        try:
            made.mkdir()
        except OSError:
            continue
        try:
            (made / name).write_text(str(size))
        except OSError:
            made.rmdir()
            continue
        return made
    return None


def _remove(cgroup: Path) -> None:
    """Remove a cgroup once the kernel has noticed that its processes are gone."""
    for _ in range(500):
        with suppress(OSError):
            cgroup.rmdir()
            return
        time.sleep(0.02)
    cgroup.rmdir()
