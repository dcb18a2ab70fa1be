"""The browser of the console's tests: Chromium. `python -m tools.browser packages` prints its Debian package."""

from __future__ import annotations

import shutil

PROGRAM = "chromium"

PACKAGES = ("chromium",)
"""Debian packages to install."""

PATH = "/usr/bin:/usr/local/bin"
"""Where Chromium may be."""

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
)
"""Flags for a browser that runs as root, without a screen, and that sends no requests of its own."""


def program() -> str | None:
    """Return the path of Chromium, or None if there is none."""
    return shutil.which(PROGRAM, path=PATH)


def why_not() -> str | None:
    """Return why this machine can't run the browser, or None if it can."""
    if program() is None:
        return (
            "the tests of the console need Chromium: "
            f"apt-get install --yes --no-install-recommends {' '.join(PACKAGES)}"
        )
    return None
