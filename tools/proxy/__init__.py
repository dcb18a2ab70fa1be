"""The proxy that tests put before a server: nginx. `python -m tools.proxy packages` prints Debian's package of it."""

from __future__ import annotations

import shutil

PROGRAM = "nginx"

PACKAGES = ("nginx-light",)
"""All that is to be installed on Debian."""

PATH = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"
"""Where it may be: Debian's is not on everybody's PATH."""


def why_not() -> str | None:
    """Return the sentence that says why this machine can't run the proxy, None if it can."""
    if shutil.which(PROGRAM, path=PATH) is None:
        return f"the tests with a proxy need nginx: apt-get install --yes --no-install-recommends {' '.join(PACKAGES)}"
    return None
