"""The memory budget: how much memory messages may take before Add is refused."""

from __future__ import annotations

import os
from pathlib import Path

from queuelet.errors import MemoryExhausted

MESSAGE_OVERHEAD = 160
"""What a message in memory takes beyond its encoded bytes, in bytes: its objects and its places in index and line.

Measured at 1,000,000 messages; tests/unit/test_memory_overhead.py holds it true.
"""


class MemoryBudget:
    """Counts the bytes that the server answers for, and knows when they are too many.

    It counts what is stored and what waits, not the process's resident memory, which does not shrink when objects are
    freed: a server that refused by that would go on refusing after its queues were emptied.
    """

    __slots__ = ("used", "watermark")

    def __init__(self, watermark: int, used: int = 0) -> None:
        """Take the bound, and what is used already, both in bytes."""
        self.watermark = watermark
        self.used = used

    def check(self, cost: int) -> None:
        """Raise `MemoryExhausted` if `cost` more bytes would pass the watermark."""
        if self.used + cost > self.watermark:
            raise MemoryExhausted(
                f"the server has used {self.used:,} of the {self.watermark:,} bytes it may use for messages: "
                "take messages out, or raise --memory-watermark",
                used=self.used,
                watermark=self.watermark,
            )


def resident_bytes() -> int:
    """Return the memory this process has in use, in bytes; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * _page_size()


def available_bytes(root: Path = Path("/")) -> int:
    """Return how much memory this process may use: its cgroup's limit, or else the machine's memory, in bytes.

    cgroup v2 keeps the limit in `memory.max`, v1 in `memory.limit_in_bytes`; both hold a huge number or `max` for none.
    """
    machine = _machine_bytes(root)
    for name in ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = (root / name).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            return min(int(text), machine)
    return machine


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
