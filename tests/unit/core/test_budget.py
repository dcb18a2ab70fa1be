"""The memory that the process may use, and the watermark."""

from __future__ import annotations

from pathlib import Path

import pytest

from queuelet.core.budget import MemoryBudget
from queuelet.errors import MemoryExhausted
from queuelet.server.memory import available_bytes, resident_bytes

MEMINFO = "MemTotal:       16000 kB\nMemFree:  1 kB\n"


def machine(root: Path, files: dict[str, str]) -> Path:
    """Write the cgroup and memory files of a machine."""
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 16_000 * 1024),
        ({"sys/fs/cgroup/memory.max": "1048576\n"}, 1_048_576),
        ({"sys/fs/cgroup/memory.max": "max\n"}, 16_000 * 1024),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "2097152\n"}, 2_097_152),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 16_000 * 1024),
    ],
    ids=["no cgroup", "cgroup v2", "cgroup v2 without limit", "cgroup v1", "cgroup v1 without limit"],
)
def test_the_cgroup_s_limit_counts_or_else_the_machine_s_memory(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    assert available_bytes(machine(tmp_path, files)) == expected


MOUNT_1 = "31 23 0:27 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n"
MOUNT_1_CPU = "30 23 0:26 / /sys/fs/cgroup/cpu rw shared:8 - cgroup cgroup rw,cpu\n"
MOUNT_2 = "29 23 0:25 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
IN_A_POD = "29 23 0:25 /kubepods/pod1/one /sys/fs/cgroup ro - cgroup2 cgroup rw\n"


@pytest.mark.parametrize(
    ("mounts", "own", "limits", "expected"),
    [
        (MOUNT_2, "0::/a/b", {"a/b/memory.max": "4096"}, 4096),
        (MOUNT_2, "0::/a/b", {"a/memory.max": "4096", "a/b/memory.max": "max"}, 4096),
        (MOUNT_2, "0::/a/b", {"memory.max": "2048", "a/memory.max": "8192", "a/b/memory.max": "4096"}, 2048),
        (MOUNT_2, "0::/a/b", {"a/b/memory.max": "4096", "a/c/memory.max": "1024"}, 4096),
        (MOUNT_2, "0::/", {"memory.max": "4096"}, 4096),
        (MOUNT_1, "9:cpu,memory:/a/b", {"memory/a/memory.limit_in_bytes": "4096"}, 4096),
        (MOUNT_1, "9:cpu,memory:/a/b", {"memory/a/b/memory.limit_in_bytes": "4096"}, 4096),
        (MOUNT_1_CPU + MOUNT_1, "9:memory:/a\n0::/a", {"memory/a/memory.limit_in_bytes": "4096"}, 4096),
        (IN_A_POD, "0::/kubepods/pod1/one", {"memory.max": "4096"}, 4096),
        (IN_A_POD, "0::/kubepods/pod1/one/deep", {"deep/memory.max": "4096"}, 4096),
        (IN_A_POD, "0::/", {"memory.max": "4096"}, 4096),
        (MOUNT_2, "0::/../x", {"memory.max": "4096"}, 4096),
    ],
    ids=[
        "own, v2",
        "one above, v2",
        "the least of all, v2",
        "not a neighbour's, v2",
        "root, v2",
        "one above, v1",
        "own, v1",
        "both versions",
        "a part is mounted",
        "below a part that is mounted",
        "a namespace of its own",
        "outside of the namespace",
    ],
)
def test_the_limits_of_the_process_s_own_cgroup_and_of_those_above_count(
    tmp_path: Path, mounts: str, own: str, limits: dict[str, str], expected: int
) -> None:
    files = {f"sys/fs/cgroup/{name}": text for name, text in limits.items()}
    files |= {"proc/self/mountinfo": mounts, "proc/self/cgroup": f"{own}\n"}
    assert available_bytes(machine(tmp_path, files)) == expected


def test_bytes_of_incomplete_requests_count_towards_the_watermark() -> None:
    budget = MemoryBudget(1_000, used=100)
    budget.incoming = 800
    budget.check(100)
    with pytest.raises(MemoryExhausted, match="900 of the 1,000 bytes"):
        budget.check(101)


def test_this_machine_has_memory_and_this_process_uses_some() -> None:
    assert 0 < resident_bytes() < available_bytes()


def test_exceeding_the_watermark_is_refused_with_figures_and_a_remedy() -> None:
    budget = MemoryBudget(1_000, used=900)
    budget.check(100)
    with pytest.raises(MemoryExhausted, match=r"900 of the 1,000 bytes .* --memory-watermark"):
        budget.check(101)
