"""Sizes of tests: small by default, large in a soak."""

from __future__ import annotations

import os
from typing import TypeVar

from hypothesis import settings

T = TypeVar("T")


def soaked(few: T, many: T) -> T:
    """Return the small count, or in a soak the large one."""
    return many if os.environ.get("QUEUELET_SOAK") == "1" else few


def on_a_disk() -> settings:
    """Return the settings of a state machine on a real disk, which is several times slower than memory."""
    return settings(deadline=None, max_examples=settings().max_examples // 4)
