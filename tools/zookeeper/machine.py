"""Whether this machine can run ZooKeeper."""

from __future__ import annotations

import re
import shutil
import subprocess

PACKAGES = ("default-jdk-headless",)
"""All that is to be installed on Debian."""


OLDEST = 17


def why_not() -> str | None:
    """Return the sentence that says why this machine can't run ZooKeeper, None if it can."""
    needed = f"ZooKeeper and Curator need a JDK, {OLDEST} or newer"
    # A JRE alone can't run a source file.
    if not shutil.which("java") or not shutil.which("javac"):
        return f"{needed}: apt-get install --yes --no-install-recommends {' '.join(PACKAGES)}"
    told = subprocess.run(["javac", "-version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"javac (\d+)", told)
    if version is None or int(version[1]) < OLDEST:
        return f"{needed}, and this is {told.strip() or 'none that tells its version'}"
    return None
