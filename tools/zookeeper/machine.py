"""Checks whether this machine can run ZooKeeper."""

from __future__ import annotations

import re
import shutil
import subprocess

PACKAGES = ("default-jdk-headless",)
"""Debian packages to install."""


OLDEST = 17


def why_not() -> str | None:
    """Return why this machine can't run ZooKeeper, or None if it can."""
    needed = f"ZooKeeper and Curator need a JDK, {OLDEST} or newer"
    # A JRE is not enough, because only a JDK runs a source file.
    if not shutil.which("java") or not shutil.which("javac"):
        return f"{needed}: apt-get install --yes --no-install-recommends {' '.join(PACKAGES)}"
    output = subprocess.run(["javac", "-version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"javac (\d+)", output)
    if version is None or int(version[1]) < OLDEST:
        return f"{needed}; this is {output.strip() or 'one without a version'}"
    return None
