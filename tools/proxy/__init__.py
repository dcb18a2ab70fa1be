"""The proxy that tests put before a server: nginx. `python -m tools.proxy packages` prints its Debian package."""

from __future__ import annotations

import shutil

PROGRAM = "nginx"

PACKAGES = ("nginx-light",)
"""Debian packages to install."""

PATH = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"
"""Where nginx may be, because Debian's folder is not on every PATH."""


def why_not() -> str | None:
    """Return why this machine can't run the proxy, or None if it can."""
    if shutil.which(PROGRAM, path=PATH) is None:
        return f"the tests with a proxy need nginx: apt-get install --yes --no-install-recommends {' '.join(PACKAGES)}"
    return None
