"""A wall clock that a test can step while programs run. All other clocks are unchanged."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_name("wall_clock.c")


class WallClock:
    """The wall clock of the programs that are started with `environment`."""

    def __init__(self, folder: Path) -> None:
        """Build the library that is loaded into the programs. Skips the test if that is not possible."""
        compiler = shutil.which("cc")
        if compiler is None or sys.platform != "linux":
            pytest.skip("stepping the wall clock of a program needs a C compiler (cc) and Linux")
        library, self._step = folder / "wall_clock.so", folder / "step"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, _SOURCE], check=True, timeout=60)
        self.seconds = 0.0
        """Seconds that it is ahead of the machine's."""
        self._step.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK_STEP": str(self._step)}

    def step(self, seconds: float) -> None:
        """Step it, for running programs too."""
        self.seconds += seconds
        with self._step.open("r+b") as file:
            file.write(int(self.seconds * 1e9).to_bytes(8, sys.byteorder, signed=True))

    def now(self) -> float:
        """Return its time in seconds since 1970."""
        return time.time() + self.seconds
