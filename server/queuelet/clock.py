"""The clock of this process: nanoseconds since 1970 that never jump, even if the wall clock is set.

It starts at the wall time and then advances with CLOCK_BOOTTIME, which also counts while the machine is suspended.
Leases, delays, times to live and waits are measured with it. If the wall clock is set later, this clock differs from it
by that much; `shown` corrects times for display. A Disk store continues the same clock after a restart: see
`continued`.
"""

from __future__ import annotations

import time
from pathlib import Path
from time import clock_gettime_ns, time_ns
from typing import NamedTuple

from queuelet.limits import END_OF_TIME, SECOND_NS

STEADY: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""The system's clock that never jumps; CLOCK_MONOTONIC if the platform has no CLOCK_BOOTTIME."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_NOTABLE = SECOND_NS
"""A smaller difference from the wall clock is not corrected, in nanoseconds."""

_MILLISECOND = 1_000_000


class Clock:
    """The steady clock, shifted so that it counts from 1970. It starts at the wall time."""

    __slots__ = ("offset",)

    def __init__(self) -> None:
        self.offset = time_ns() - clock_gettime_ns(STEADY)
        """The nanoseconds to add to the steady clock."""

    def now_ns(self) -> int:
        """Return the time in nanoseconds since 1970."""
        return clock_gettime_ns(STEADY) + self.offset

    def now(self) -> float:
        """Return the time in seconds since 1970."""
        return self.now_ns() / 1e9

    def behind_ns(self) -> int:
        """Return how far the wall clock is ahead because it was set, in nanoseconds; 0 if less than a second."""
        behind = time_ns() - self.now_ns()
        return round(behind / _MILLISECOND) * _MILLISECOND if abs(behind) >= _NOTABLE else 0

    def shown(self, at: int) -> int:
        """Return the wall-clock time that corresponds to a time of this clock, both in nanoseconds."""
        return at + self.behind_ns()


CLOCK = Clock()
"""The clock of this process."""

now_ns = CLOCK.now_ns
now = CLOCK.now


class Mark(NamedTuple):
    """What the next process needs in order to continue a clock."""

    boot_id: str
    """The boot of the machine in which `offset` is valid; empty if the machine has no boot ID."""
    offset: int
    """What the clock adds to the steady clock, in nanoseconds. The steady clock restarts at every boot."""


def boot_id() -> str:
    """Return the ID of the machine's current boot; empty if the machine has none."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def continued(kept: Mark | None, newest: int, *, boot: str, steady: int, wall: int) -> Mark:
    """Return the mark of the clock that continues a stored one.

    Within the same boot the clock is simply the same, even if the wall clock was set in between. After a reboot the
    clock starts at the wall time, because nothing else knows how long the reboot took, but never before the newest
    stored time. All times are in nanoseconds.

    Args:
        kept: the stored mark, if there is one.
        newest: the newest stored time.
        boot: the ID of the current boot.
        steady: the steady clock's current time.
        wall: the wall clock's current time.
    """
    if kept is not None and boot and kept.boot_id == boot and newest <= steady + kept.offset < END_OF_TIME:
        return kept
    return Mark(boot, max(wall, newest) - steady)
