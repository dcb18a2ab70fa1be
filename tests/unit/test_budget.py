"""How much memory there is to use."""

from __future__ import annotations

from pathlib import Path

import pytest

from queuelet.budget import MemoryBudget, available_bytes, resident_bytes
from queuelet.errors import MemoryExhausted

MEMINFO = "MemTotal:       16000 kB\nMemFree:  1 kB\n"


def machine(root: Path, files: dict[str, str]) -> Path:
    """Lay out the files of a machine."""
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


def test_this_machine_has_memory_and_this_process_uses_some() -> None:
    assert 0 < resident_bytes() < available_bytes()


def test_past_the_watermark_is_refused_with_figures_and_a_remedy() -> None:
    budget = MemoryBudget(1_000, used=900)
    budget.check(100)
    with pytest.raises(MemoryExhausted, match=r"900 of the 1,000 bytes .* --memory-watermark"):
        budget.check(101)
