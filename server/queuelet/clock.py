"""The clock of this process: nanoseconds since 1970 that never step, whatever happens to the wall clock.

It starts at the wall time and then goes on with CLOCK_BOOTTIME, which also counts while the machine sleeps. Leases,
delays, times to live and waits are measured by it. So what it shows is off by as much as the wall clock was stepped
since; `shown` corrects that where it is cheap. A Disk store has it go on across restarts, see `continued`.
"""

from __future__ import annotations

import time
from pathlib import Path
from time import clock_gettime_ns, time_ns
from typing import NamedTuple

STEADY: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""The clock of the system that never steps; CLOCK_MONOTONIC where the platform has no CLOCK_BOOTTIME."""

END_OF_TIME = 7_258_118_400 * 1_000_000_000
"""2200-01-01: past it a time in nanoseconds would soon not fit 64 bits."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_NOTABLE = 1_000_000_000
"""A difference to the wall clock below this is not worth a correction, in nanoseconds."""

_MILLISECOND = 1_000_000


class Clock:
    """Progress of the steady clock since a time in nanoseconds since 1970."""

    __slots__ = ("offset",)

    def __init__(self) -> None:
        """Start at the wall time."""
        self.offset = time_ns() - clock_gettime_ns(STEADY)
        """What to add to the steady clock."""

    def now_ns(self) -> int:
        """Return the time in nanoseconds since 1970."""
        return clock_gettime_ns(STEADY) + self.offset

    def now(self) -> float:
        """Return the time in seconds since 1970."""
        return self.now_ns() / 1e9

    def behind_ns(self) -> int:
        """Return how far the wall clock is ahead of this one: by how much it was stepped; 0 if under a second."""
        behind = time_ns() - self.now_ns()
        return round(behind / _MILLISECOND) * _MILLISECOND if abs(behind) >= _NOTABLE else 0

    def shown(self, at: int) -> int:
        """Return the wall time of a time by this clock."""
        return at + self.behind_ns()


CLOCK = Clock()
"""The one of this process."""

now_ns = CLOCK.now_ns
now = CLOCK.now


class Mark(NamedTuple):
    """What lets the next process go on with a clock."""

    boot_id: str
    """Of the boot of the machine in which it holds; empty if the machine does not say."""
    offset: int
    """What that clock adds to the steady one, which starts again at each boot."""


def boot_id() -> str:
    """Return the id of this boot of the machine, empty if it does not say."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def continued(kept: Mark | None, newest: int, *, boot: str, steady: int, wall: int) -> Mark:
    """Return the mark of a clock that goes on after the one that was kept.

    In the same boot it is the same clock: the steps of the wall clock in between do not matter. After another boot,
    only the wall clock knows how long that took: the clock starts there, but not before the newest time that is stored.
    """
    if kept is not None and boot and kept.boot_id == boot and newest <= steady + kept.offset < END_OF_TIME:
        return kept
    return Mark(boot, max(wall, newest) - steady)
