"""Room on the disk: how much there is, and a reserve that is given up when there is none.

Acknowledging a message writes too, before it frees anything. So that a full disk can be emptied, a file of some size
stands by; once it is deleted there is room enough for what removes messages.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from queuelet.stores.disk.data_dir import make_private, open_private


def free_bytes(folder: Path) -> int:
    """Return how much room there is on a folder's disk, in bytes."""
    return shutil.disk_usage(folder).free


class Reserve:
    """A file that keeps room."""

    def __init__(self, path: Path, size: int) -> None:
        """Take where it is, and its size in bytes; 0 for no reserve."""
        self._path = path
        self.size = size

    def make(self) -> bool:
        """Take the room unless it is taken already, and tell whether there was enough. Raises OSError."""
        make_private(self._path)
        if self._path.exists() and self._path.stat().st_size == self.size:
            return True
        # As much again is left: a disk that is full right after would not be worth the back and forth.
        if free_bytes(self._path.parent) < 2 * self.size:
            self.drop()
            return False
        try:
            with os.fdopen(open_private(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
                if self.size:
                    os.posix_fallocate(file.fileno(), 0, self.size)
                os.fsync(file.fileno())
        except OSError as error:
            self.drop()
            if error.errno == errno.ENOSPC:
                return False
            raise
        return True

    def drop(self) -> None:
        """Give the room up."""
        self._path.unlink(missing_ok=True)
