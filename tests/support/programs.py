"""The programs that tests with Kubernetes need."""

from __future__ import annotations

import pytest

from tools.control_plane import binaries


def need(*names: str, made_by: str = "make test does it, or make binaries") -> None:
    """Fail if a program is missing, because building it would take longer than a test may."""
    missing = [name for name in names if not binaries.find(name)]
    if missing:
        pytest.fail(f"{', '.join(missing)} must be built first: {made_by}")
