"""The free space of the disk, and a reserve that is released when the disk is full.

Acknowledging a message has to write before it frees anything, so a full disk could never be emptied. The reserve is a
file without content: deleting it gives SQLite the space to commit removals.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from queuelet.stores.disk.data_dir import make_private, open_private


def free_bytes(folder: Path) -> int:
    """Return the free space of a folder's file system, in bytes."""
    return shutil.disk_usage(folder).free


class Reserve:
    """A file that occupies `size` bytes of disk space; 0 for no reserve."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self.size = size

    def create(self) -> bool:
        """Create the file unless it exists; return whether there was enough space. Raises OSError."""
        make_private(self._path)
        if self._path.exists() and self._path.stat().st_size == self.size:
            return True
        # Require twice the size, because otherwise the disk would be full again right after.
        if free_bytes(self._path.parent) < 2 * self.size:
            self.release()
            return False
        try:
            with os.fdopen(open_private(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
                if self.size:
                    os.posix_fallocate(file.fileno(), 0, self.size)
                os.fsync(file.fileno())
        except OSError as error:
            self.release()
            if error.errno == errno.ENOSPC:
                return False
            raise
        return True

    def release(self) -> None:
        """Release the space."""
        self._path.unlink(missing_ok=True)
