"""The data folder: its files, and the lock that keeps a second process out."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Self

from queuelet.errors import StoreFailed

DATABASE = "queuelet.db"
LOG = "queuelet.db-wal"
BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite appends to a database's name to name the files that belong to it."""

RESERVE = "queuelet.reserve"
LOCK = "queuelet.lock"

_PRIVATE_FILE, _PRIVATE_FOLDER = 0o600, 0o700
"""Messages are for the user alone that the server runs as."""


class FolderLock:
    """Holds a folder for this process. The kernel lets go of it when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Take the folder, which is made if it is not there.

        Raises:
            StoreFailed: another process has it, or it cannot be used; the sentence says which.
        """
        try:
            folder.mkdir(_PRIVATE_FOLDER, parents=True, exist_ok=True)
            self._file = open_private(folder / LOCK, os.O_RDWR | os.O_CREAT)
        except FileExistsError as error:
            raise StoreFailed(f"{folder} is a file, and messages need a folder: give another data folder") from error
        except OSError as error:
            raise StoreFailed(
                f"the data folder {folder} cannot be used: {error.strerror}. It must be a folder this user can write to"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._file, 32).decode(errors="replace").strip()
            os.close(self._file)
            raise StoreFailed(
                f"the data folder {folder} is in use by another process{f', {holder}' if holder else ''}: "
                "each server needs a folder of its own"
            ) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"process {os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go of the folder."""
        os.close(self._file)

    def __enter__(self) -> Self:
        """Hold the folder."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of it."""
        self.release()


def open_private(path: Path, flags: int) -> int:
    """Open a file as `os.open` does; if it is made, it is for this user alone.

    Raises:
        StoreFailed: it is a symbolic link.
        OSError: it cannot be opened.
    """
    make_private(path)
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, _PRIVATE_FILE)


def make_private(path: Path) -> None:
    """Take the rights of others from a file, if it is there and is this user's. Older versions let all read.

    The file is not opened: to close it would end the locks that SQLite has on it in this process.

    Raises:
        StoreFailed: it is a symbolic link, or no file.
    """
    mode = require_file(path)
    if mode & 0o077:
        with suppress(OSError):  # it is another user's, or on a read-only mount
            path.chmod(_PRIVATE_FILE)


def require_file(path: Path) -> int:
    """Return the rights of a file, 0 if there is none. Raises `StoreFailed` if it is a symbolic link, or no file."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return 0
    if stat.S_ISLNK(mode):
        raise StoreFailed(f"{path} is a symbolic link; put the file there that it points to, or remove it")
    if not stat.S_ISREG(mode):
        raise StoreFailed(f"{path} is not a regular file; remove it")
    return stat.S_IMODE(mode)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder survive a loss of power."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_file(path: Path) -> None:
    """Have the content of a file survive a loss of power."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(file)
    finally:
        os.close(file)
