"""PostgreSQLs with a part on a small disk, which becomes full and can be made larger. They need root on Linux."""

from __future__ import annotations

import os
import shutil
import subprocess
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from support.postgres_server import PostgresServer
from tools.postgres import NOBODY

_AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")


def why_not() -> str:
    """Return why there can be none on this machine; empty if there can."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return "needs root on Linux, and unshare"
    done = subprocess.run([*_NAMESPACE, "mount -t tmpfs tmpfs /mnt"], capture_output=True, text=True, check=False)
    return f"may not mount: {done.stderr.strip()}" if done.returncode else ""


_NAMESPACE = ("unshare", "--mount", "sh", "-c")
"""Runs a script with mounts of its own, which end with its processes."""


class _SmallDisk:
    """A small disk in a folder, which only the processes see that are started for it."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        folder.mkdir()
        self._folder = folder
        mount = f"mount -t tmpfs -o size={megabytes}M,mode=0700,uid={NOBODY},gid={NOBODY} tmpfs {folder}"
        # A process of its own holds the mount, because a full disk may end the database.
        self._holder = subprocess.Popen(
            [*_NAMESPACE, f"{mount} && echo mounted && exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._holder.stdout
        assert self._holder.stdout.readline() == b"mounted\n"

    @property
    def inside(self) -> tuple[str, ...]:
        """What a command begins with that sees the disk."""
        return ("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt")

    def enlarge(self, megabytes: int) -> None:
        """Give it another size."""
        subprocess.run([*self.inside, "mount", "-o", f"remount,size={megabytes}M", str(self._folder)], check=True)

    def remove(self) -> None:
        """Remove it with its files. The processes that use it have ended."""
        self._holder.communicate()


class _OnSmallDisk(PostgresServer):
    """A PostgreSQL that sees a small disk."""

    def __init__(self, megabytes: int) -> None:
        self._megabytes = megabytes
        self._disk: _SmallDisk | None = None
        super().__init__()

    @abstractmethod
    def _use(self, disk: _SmallDisk) -> None:
        """Put a part of the database on its disk before it is started for the first time."""

    @property
    def disk_folder(self) -> Path:
        """The folder of the disk."""
        return self.root / "small"

    def spawn(self, command: Sequence[str | Path], output: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start the database with the disk."""
        if self._disk is None:
            self._disk = _SmallDisk(self.disk_folder, self._megabytes)
            self._use(self._disk)
        spawned = [*self._disk.inside, *_AS_NOBODY, *command]
        return subprocess.Popen(spawned, stdout=output, stderr=output, start_new_session=True)

    def enlarge(self, megabytes: int) -> None:
        """Give the disk another size."""
        assert self._disk
        self._disk.enlarge(megabytes)

    def start_again(self) -> None:
        """Start it if it has ended, as the supervisor of a database does."""
        if self._process is not None and self._process.poll() is not None:
            self.start()

    def stop(self, *, keep: bool = False) -> None:
        """Stop it, and remove its files."""
        super().stop(keep=keep)
        if self._disk:
            self._disk.remove()


class SmallDatabase(_OnSmallDisk):
    """One PostgreSQL with a database `small` on a disk of its own. The log of the database is on another disk."""

    def __init__(self, megabytes: int) -> None:
        super().__init__(megabytes)
        self.sql(f"CREATE TABLESPACE small LOCATION '{self.disk_folder}'")
        self.sql("CREATE DATABASE small TABLESPACE small")

    @property
    def url(self) -> str:
        """The connection string."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/small"

    def _use(self, disk: _SmallDisk) -> None:
        """Use it later, by SQL."""


class SmallLog(_OnSmallDisk):
    """One PostgreSQL whose log is on a disk of its own, and is never removed."""

    def __init__(self, megabytes: int) -> None:
        super().__init__(megabytes)
        self.configure(wal_keep_size="1GB")

    def _use(self, disk: _SmallDisk) -> None:
        log, there = self.folder / "pg_wal", self.disk_folder
        script = f"cp -a {log}/. {there} && rm -r {log} && ln -s {there} {log}"
        subprocess.run([*disk.inside, *_AS_NOBODY, "sh", "-c", script], check=True)
