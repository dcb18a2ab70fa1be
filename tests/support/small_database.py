"""A PostgreSQL whose messages are on a small disk, which becomes full and can be made larger. Needs root on Linux."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from support.postgres_server import PostgresServer
from tools.postgres import NOBODY


def why_not() -> str:
    """Return why there can be none on this machine; empty if there can."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return "needs root on Linux, and unshare"
    done = subprocess.run([*_NAMESPACE, "mount -t tmpfs tmpfs /mnt"], capture_output=True, text=True, check=False)
    return f"may not mount: {done.stderr.strip()}" if done.returncode else ""


_NAMESPACE = ("unshare", "--mount", "sh", "-c")
"""Runs a script with mounts of its own, which end with its processes."""


class SmallDatabase(PostgresServer):
    """One PostgreSQL with a database `small` on a disk of its own. The log of the database is on another disk."""

    def __init__(self, megabytes: int) -> None:
        self._megabytes = megabytes
        super().__init__()
        self.sql(f"CREATE TABLESPACE small LOCATION '{self._disk}'")
        self.sql("CREATE DATABASE small TABLESPACE small")

    @property
    def url(self) -> str:
        """The connection string."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/small"

    def spawn(self, command: Sequence[str | Path], output: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start the database with the disk."""
        self._disk.mkdir()
        script = (
            f"mount -t tmpfs -o size={self._megabytes}M,mode=0700,uid={NOBODY},gid={NOBODY} tmpfs {self._disk} && "
            f'exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups -- "$@"'
        )
        spawned = [*_NAMESPACE, script, "sh", *command]
        process = subprocess.Popen(spawned, stdout=output, stderr=output, start_new_session=True)
        self._namespace = f"--mount=/proc/{process.pid}/ns/mnt"
        return process

    def enlarge(self, megabytes: int) -> None:
        """Give the disk another size."""
        remount = ("mount", "-o", f"remount,size={megabytes}M", str(self._disk))
        subprocess.run(["nsenter", self._namespace, *remount], check=True)

    @property
    def _disk(self) -> Path:
        return self.root / "small"
