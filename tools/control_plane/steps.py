"""Progress on standard error, with the time each step took."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


def say(text: str, who: str = "control plane") -> None:
    """Print one line of progress."""
    print(f"{who}: {text}", file=sys.stderr, flush=True)


class Steps:
    """The steps of one task, with how long each took in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        """Seconds by step, in order."""

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step."""
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began

    def __str__(self) -> str:
        """Format as part of a sentence."""
        steps = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items())
        return f"{sum(self.seconds.values()):.1f} s ({steps})"
