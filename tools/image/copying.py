"""Copies files as COPY does: root owns the copies, and mode and time are preserved."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

Has = Callable[[str], bool]
"""Returns whether to copy a path, relative to the source folder."""


def copy(top: Path, sources: Sequence[str], root: Path, place: str, has: Has) -> None:
    """Copy files, and the contents of folders, to a path in a root folder."""
    into = root / place.strip("/")
    for source in sources:
        found = top / source.strip("/")
        if found.is_dir():
            into.mkdir(parents=True, exist_ok=True)
            for path in _within(found, top, has):
                _copy_one(path, into / path.relative_to(found))
            _stamp(found, into)
        else:
            target = into / found.name if place.endswith("/") else into
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy_one(found.resolve(), target)


def digest(top: Path, sources: Sequence[str], has: Has) -> str:
    """Return a digest of the names, modes and contents that would be copied."""
    hashed = hashlib.sha256()
    for source in sources:
        found = top / source.strip("/")
        for path in _within(found, top, has) if found.is_dir() else [found.resolve()]:
            status = path.lstat()
            hashed.update(f"{path.relative_to(top)} {status.st_mode:o}\n".encode())
            if stat.S_ISLNK(status.st_mode):
                hashed.update(os.fsencode(path.readlink()))
            elif stat.S_ISREG(status.st_mode):
                hashed.update(hashlib.sha256(path.read_bytes()).digest())
    return hashed.hexdigest()


def _within(folder: Path, top: Path, has: Has) -> Iterator[Path]:
    """Yield the contents of a folder, each folder before its contents."""
    for path in sorted(folder.iterdir()):
        if has(str(path.relative_to(top))):
            yield path
            if path.is_dir() and not path.is_symlink():
                yield from _within(path, top, has)


def _copy_one(path: Path, target: Path) -> None:
    if path.is_symlink():
        target.unlink(missing_ok=True)
        target.symlink_to(path.readlink())
    elif path.is_dir():
        target.mkdir(exist_ok=True)
    else:
        shutil.copyfile(path, target)
    _stamp(path, target)


def _stamp(path: Path, target: Path) -> None:
    shutil.copystat(path, target, follow_symlinks=False)
    os.chown(target, 0, 0, follow_symlinks=False)
