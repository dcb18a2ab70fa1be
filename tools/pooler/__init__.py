"""The pooler that tests put before a PostgreSQL: pgbouncer. `python -m tools.pooler packages` prints its package."""

from __future__ import annotations

import os
import shutil

PACKAGES = ("pgbouncer",)
"""Debian packages to install."""


def program() -> str | None:
    """Return the path of pgbouncer, None if this machine has none. Debian's folder is not on every PATH."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def why_not() -> str | None:
    """Return why this machine can't run the pooler, or None if it can."""
    if program() is None:
        return f"the tests with a pooler need pgbouncer: apt-get install --yes --no-install-recommends {PACKAGES[0]}"
    return None
