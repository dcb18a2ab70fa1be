"""How much tests do: little by default, much in a soak."""

from __future__ import annotations

import os


def soaked(few: int, many: int) -> int:
    """Return the small count, in a soak the large one."""
    return many if os.environ.get("QUEUELET_SOAK") == "1" else few
