"""Timeouts of tests: seconds on a quiet machine, times one factor.

The factor is `QUEUELET_PATIENCE`. If it is not set, tests/conftest.py measures it once for the whole run, because a
busy machine makes tests slower and must not make them fail. Timeouts only keep a defect from hanging a run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from time import perf_counter

VARIABLE = "QUEUELET_PATIENCE"

_MAX_FACTOR = 20.0
"""The largest factor that is measured. A slower machine needs a factor set by hand."""

_STARTS = 6
_USUAL_SECONDS = 0.3
"""Seconds that this many starts of Python take, two at a time, on two quiet cores."""

_PROGRAM = "import asyncio, json, sqlite3, ssl; sum(range(1_000_000))"


def patient(seconds: float) -> float:
    """Return the timeout for an action that takes at most `seconds` on a quiet machine."""
    return seconds * factor()


def factor() -> float:
    """Return the factor, 1 if none is set."""
    return float(os.environ.get(VARIABLE, "1"))


def calibrate() -> None:
    """Set the factor for this process and its children, unless it is set already."""
    if VARIABLE not in os.environ:
        os.environ[VARIABLE] = f"{_measured():.1f}"


def _measured() -> float:
    """Return how many times slower than normal programs start here, from 1 up."""
    began = perf_counter()
    for _ in range(_STARTS // 2):
        both = [subprocess.Popen([sys.executable, "-c", _PROGRAM]) for _ in range(2)]
        for process in both:
            process.wait()
    slowdown = (perf_counter() - began) / _USUAL_SECONDS
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    return min(max(1.0, slowdown, load), _MAX_FACTOR)
