"""Copies of a store: made while it is in use, and put in its place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import time_ns
from uuid import uuid4

import apsw

from queuelet.errors import StoreFailed
from queuelet.stores.disk.check import Progress, check_database
from queuelet.stores.disk.contents import TOKENS
from queuelet.stores.disk.database import (
    DAMAGE,
    PATIENCE_MS,
    explained,
    get_meta,
    inspecting,
    open_for_reading,
    open_for_writing,
    set_meta,
    value,
)
from queuelet.stores.disk.folder import BESIDE, DATABASE, FolderLock, sync_folder


def _quietly(_: str) -> None:
    pass


def back_up(folder: Path, target: Path, progress: Progress = _quietly) -> int:
    """Copy the store of a folder, as it is at this moment, into a file; return how many messages that holds.

    A server may run on the folder, and goes on: what it commits later is not in the copy. Its log grows meanwhile.
    It may be a folder that can only be read.

    Raises:
        StoreFailed: there is no store, or it is damaged; or the target is there already.
    """
    path = folder / DATABASE
    if not path.exists():
        raise StoreFailed(f"there is no store in {folder}: it has no file {DATABASE}")
    if target.exists():
        raise StoreFailed(f"{target} is there already: give a name that is free")
    with explained(target), _unfinished(target) as unfinished:
        with inspecting(path) as connection:
            progress("copying")
            # Absolute, for a name that begins with `file:` would be taken for a URI.
            connection.execute("VACUUM INTO ?", (str(unfinished.absolute()),))
        return _checked(unfinished, progress)


def restore(backup: Path, folder: Path, *, force: bool = False, progress: Progress = _quietly) -> int:
    """Make the store of a folder from a backup; return how many messages it holds.

    It gets a new epoch, which tells everybody that what was done since the backup is lost, and gives no lease token
    that was given before. With `force` it takes the place of a store that is there, which is lost. At whatever moment
    the process dies, the folder holds one of the two, whole.

    Raises:
        StoreFailed: the backup is not a whole store, the folder is in use or holds a store, or cannot be written.
    """
    if not backup.is_file():
        raise StoreFailed(f"there is no backup {backup}")
    with FolderLock(folder), explained(folder / DATABASE):
        if (folder / DATABASE).exists() and not force:
            raise StoreFailed(f"{folder} holds a store already: give another folder, or --force to lose what is there")
        with _unfinished(folder / DATABASE) as unfinished:
            messages = _checked(backup, progress)
            progress("copying")
            shutil.copyfile(backup, unfinished)
            _begin_epoch(unfinished, _tokens_given(folder / DATABASE))
            _fold_log(folder / DATABASE)
            _drop_log(folder / DATABASE)
            return messages


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """Give a name beside the target, and the target's once what is there is whole and on the disk."""
    unfinished = target.with_name(f"{target.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        yield unfinished
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.rename(target)
        sync_folder(target.parent)
    finally:
        for suffix in ("", *BESIDE):
            unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)


def _checked(path: Path, progress: Progress) -> int:
    """Return how many messages a store's file holds. Raises `StoreFailed` if anything is wrong with it."""
    with inspecting(path) as connection:
        wrong = next(check_database(connection, progress), "")
        if wrong:
            raise StoreFailed(f"{path} is not whole: {wrong}")
        count: int = value(connection, "SELECT coalesce(sum(depth), 0) FROM tallies")
        return count


def _fold_log(path: Path) -> None:
    """Put the log of a store that no server uses into its file, which then is whole without.

    A damaged file is left as it is: with its log it is no whole store either.

    Raises:
        StoreFailed: the file is being read, or the disk fails or is full.
    """
    if not path.exists():
        return
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.set_busy_timeout(PATIENCE_MS)
            connection.pragma("schema_version")  # it is the first read that finds the log
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            connection.close()
    except DAMAGE:
        pass
    except apsw.BusyError as error:
        raise StoreFailed(f"{path} is being read, by a backup or a check: restore when that has ended") from error
    except apsw.Error as error:
        raise StoreFailed(
            f"{path} cannot be made whole before it is replaced ({error}): "
            "if nothing of it is needed, move the folder's files away and restore without --force"
        ) from error


def _drop_log(path: Path) -> None:
    """Remove what belongs to a store's file but the file, lest it be taken for what belongs to the next one."""
    for suffix in BESIDE:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    # Otherwise a loss of power could bring the log back beside the file that comes now.
    sync_folder(path.parent)


def _tokens_given(path: Path) -> int:
    """Return the first token that the store of a file has not given, 0 where there is none or it cannot tell."""
    try:
        connection = open_for_reading(path)
        try:
            return get_meta(connection, "first_free_token") or 0
        finally:
            connection.close()
    except (apsw.Error, OSError, StoreFailed):
        return 0


def _begin_epoch(path: Path, tokens_given: int) -> None:
    connection = open_for_writing(path)
    try:
        with connection:
            set_meta(connection, "epoch", str(uuid4()))
            # Where else tokens were given since the backup is not known: each opening reserves as many.
            kept = get_meta(connection, "first_free_token") or 0
            set_meta(connection, "first_free_token", max(time_ns(), kept, tokens_given) + TOKENS)
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        connection.close()
