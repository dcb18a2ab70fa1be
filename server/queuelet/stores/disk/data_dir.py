"""The data folder: its files, their permissions, and the lock that keeps other processes out."""

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
SQLITE_SUFFIXES = ("-wal", "-shm", "-journal")
"""The suffixes of the files that SQLite creates next to a database."""

RESERVE = "queuelet.reserve"
LOCK = "queuelet.lock"

_PRIVATE_FILE, _PRIVATE_FOLDER = 0o600, 0o700
"""Only the user that the server runs as may read messages."""


class DataDirLock:
    """Locks a data folder for this process. The kernel releases the lock when the process ends or is killed."""

    def __init__(self, folder: Path) -> None:
        """Lock the folder, and create it if it does not exist.

        Raises:
            StoreFailed: another process has locked it, or it cannot be used; the error says which.
        """
        try:
            folder.mkdir(_PRIVATE_FOLDER, parents=True, exist_ok=True)
            self._file = open_private(folder / LOCK, os.O_RDWR | os.O_CREAT)
        except FileExistsError as error:
            raise StoreFailed(f"{folder} is a file, not a folder; give another data folder") from error
        except OSError as error:
            raise StoreFailed(
                f"the data folder {folder} cannot be used: {error.strerror}; give a folder that this user can write to"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._file, 32).decode(errors="replace").strip()
            os.close(self._file)
            raise StoreFailed(
                f"the data folder {folder} is in use by another process{f', {holder}' if holder else ''}; "
                "give each server its own folder"
            ) from error
        if not os.fstat(self._file).st_nlink:
            os.close(self._file)
            raise StoreFailed(
                f"the data folder {folder} was removed by a `queuelet restore` that failed; run the command again"
            )
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"process {os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Release the lock."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def open_private(path: Path, flags: int) -> int:
    """Open a file as `os.open` does. If it is created, only this user may read and write it.

    Raises:
        StoreFailed: the path is a symbolic link.
        OSError: the file cannot be opened.
    """
    make_private(path)
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, _PRIVATE_FILE)


def make_private(path: Path) -> None:
    """Remove the permissions of other users from a file if it exists. Older versions made files that all can read.

    The file is not opened, because closing it would release the locks that SQLite has on it in this process.

    Raises:
        StoreFailed: the path is a symbolic link or not a regular file.
    """
    mode = require_file(path)
    if mode & 0o077:
        with suppress(OSError):  # it belongs to another user, or is on a read-only mount
            path.chmod(_PRIVATE_FILE)


def require_file(path: Path) -> int:
    """Return the permissions of a file, 0 if it does not exist.

    Raises:
        StoreFailed: the path is a symbolic link or not a regular file.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return 0
    if stat.S_ISLNK(mode):
        raise StoreFailed(f"{path} is a symbolic link; replace it with the file that it points to, or remove it")
    if not stat.S_ISREG(mode):
        raise StoreFailed(f"{path} is not a regular file; remove it")
    return stat.S_IMODE(mode)


def sync_folder(folder: Path) -> None:
    """Fsync a folder, so that created and renamed files survive a power loss."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_file(path: Path) -> None:
    """Fsync a file, so that its content survives a power loss."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(file)
    finally:
        os.close(file)
