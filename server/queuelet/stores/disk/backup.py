"""Backup and restore: copy a store while it is in use, and make a store from a copy."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast
from uuid import uuid4

import apsw

from queuelet.errors import StoreFailed
from queuelet.stores.disk.check import Progress, check_database, damaged_rows
from queuelet.stores.disk.copying import Copied, copy_sound
from queuelet.stores.disk.data_dir import DATABASE, LOCK, SQLITE_SUFFIXES, DataDirLock, open_private, sync_folder
from queuelet.stores.disk.database import (
    BUSY_TIMEOUT_MS,
    DAMAGE,
    NEEDS_BACKUP,
    damage_of,
    explained,
    get_meta,
    inspecting,
    one_line,
    open_for_reading,
    open_for_writing,
    set_meta,
    value,
    version_of,
)
from queuelet.stores.disk.loading import load_store
from queuelet.stores.disk.remedies import SALVAGE, backing_up
from queuelet.stores.disk.schema import VERSION
from queuelet.stores.durable.loaded import MAX_TOKEN, TOKENS
from queuelet.stores.durable.rows import checked_int

_USE_ANOTHER = "use another backup"
"""What to do with a file from which no store can be made."""

_TRY_AGAIN = "run the command again, on another disk if necessary"
"""What to do if the copy that was written is damaged."""


def _ignore_progress(_: str) -> None:
    pass


def back_up(folder: Path, target: Path, progress: Progress = _ignore_progress, *, salvage: bool = False) -> Copied:
    """Copy the present state of a folder's store into a file.

    A server may use the store at the same time. What it commits later is not in the copy, and its log grows until the
    copy is complete. The folder may be read-only.

    Args:
        folder: the data folder.
        target: the file to create.
        progress: called with a text for users before each step.
        salvage: whether to copy what can be read if pages of messages or of saved responses are damaged, instead of
            nothing.

    Returns:
        How many messages the copy has, and how many damaged ones were left out.

    Raises:
        StoreFailed: there is no store or it is damaged, or the target already exists.
    """
    path = folder / DATABASE
    if not path.exists():
        raise StoreFailed(f"there is no store in {folder}: it has no file {DATABASE}")
    _require_free(target)
    # Another backup to the same name may be running, even in another container.
    unfinished = target.with_name(f"{target.name}.unfinished-{uuid4().hex[:8]}")
    with explained(target), _finishing(unfinished, target):
        with inspecting(path) as connection, backing_up(connection, path, salvage=salvage):
            copied = _copy(connection, unfinished, target, progress, salvage=salvage)
        _require_whole(unfinished, path, NEEDS_BACKUP if salvage else SALVAGE, progress)
        _require_free(target)
    return copied


def restore(backup: Path, folder: Path, *, force: bool = False, progress: Progress = _ignore_progress) -> Copied:
    """Make the store of a folder from a backup.

    The backup may also be the database of another store, which may be in use; the contents of its log are restored too.

    The store gets a new epoch, because changes since the backup are lost, and it never issues a lease token that was
    issued before. If the process is killed at any moment, the folder has either the old store or the new one.

    Args:
        backup: the file to restore.
        folder: the data folder.
        force: whether to replace a store that the folder already has.
        progress: called with a text for users before each step.

    Returns:
        How many messages the store has, and how many damaged ones were left out.

    Raises:
        StoreFailed: the backup is damaged, or is the database of the folder itself; or the folder is in use, already
            has a store, or cannot be written.
    """
    if not backup.is_file():
        raise StoreFailed(f"there is no backup {backup}")
    target = folder / DATABASE
    # The lock excludes a second restore, so an existing file with this name was left by a restore that was killed.
    unfinished = folder / f"{DATABASE}.unfinished"
    new_folders = [each for each in (folder, *folder.parents) if not each.exists()]
    with DataDirLock(folder), _removing_on_error(new_folders, target), explained(target):
        _require_replaceable(target, backup, force=force)
        _remove(unfinished)
        with _finishing(unfinished, target):
            # Unlike the files of a data folder, the backup may be given by a symbolic link.
            with inspecting(backup.resolve(), _USE_ANOTHER) as connection:
                _require_sound_pages(connection, backup, progress)
                copied = _copy(connection, unfinished, target, progress)
            _require_whole(unfinished, backup, _USE_ANOTHER, progress)
            _begin_epoch(unfinished, backup, _tokens_given(target))
            _fold_log(target)
            _drop_log(target)
    return copied


def _require_free(target: Path) -> None:
    if os.path.lexists(target):
        raise StoreFailed(f"{target} already exists; give a name that is free")


def _require_replaceable(target: Path, backup: Path, *, force: bool) -> None:
    """Refuse to replace a store without `force`, or with its own database."""
    if not target.exists():
        return
    if backup.samefile(target):
        raise StoreFailed(
            f"{backup} is the database of that store and not a backup; "
            "make one with `queuelet backup`, or restore into another folder"
        )
    if not force:
        raise StoreFailed(f"{target.parent} already has a store; give another folder, or --force to replace the store")


@contextmanager
def _finishing(unfinished: Path, target: Path) -> Iterator[None]:
    """Create an empty file, and rename it to the target once the block has written it and it is synced.

    No file is left under the first name, even if the block raises.
    """
    os.close(open_private(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    try:
        yield
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.rename(target)
        sync_folder(target.parent)
    finally:
        _remove(unfinished)


@contextmanager
def _removing_on_error(new_folders: Sequence[Path], target: Path) -> Iterator[None]:
    """If the block raises and there is no store, remove folders that were created for it, with the lock.

    Args:
        new_folders: the data folder and its parents, if they were created, the innermost first.
        target: the database of the data folder.
    """
    try:
        yield
    except BaseException:
        if new_folders and not target.exists():
            with suppress(OSError):  # another process has put a file there
                (target.parent / LOCK).unlink()
                for folder in new_folders:
                    folder.rmdir()
        raise


def _remove(path: Path) -> None:
    """Remove a database and the files that SQLite creates next to it, if they exist."""
    for suffix in ("", *SQLITE_SUFFIXES):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _require_sound_pages(connection: apsw.Connection, backup: Path, progress: Progress) -> None:
    """Refuse a file with invalid pages, because the rows of a crafted file may share pages and fill the disk."""
    progress("reading every page of the backup")
    connection.pragma("cell_size_check", True)  # noqa: FBT003  # apsw's: the value of the setting
    errors = cast("list[tuple[str]]", connection.execute("PRAGMA integrity_check(1)").fetchall())
    if errors != [("ok",)]:
        raise StoreFailed(f"{backup} is damaged: {one_line(errors[0][0])}; {_USE_ANOTHER}")


def _copy(
    connection: apsw.Connection, unfinished: Path, target: Path, progress: Progress, *, salvage: bool = False
) -> Copied:
    """Copy an open database, including its log, into an empty file, without damaged messages.

    Raises:
        apsw.Error: the database is damaged.
        StoreFailed: it cannot be copied for another reason; the error names the target.
    """
    progress("copying")
    try:
        if version_of(connection) == VERSION:
            return copy_sound(connection, unfinished, salvage=salvage)
        # Older versions have no checksums. The path is absolute, because SQLite takes `file:...` for a URI.
        connection.execute("VACUUM INTO ?", (str(unfinished.absolute()),))
        return Copied(cast("int", value(connection, "SELECT coalesce(sum(depth), 0) FROM tallies")), 0)
    except DAMAGE:
        raise
    except apsw.Error as error:
        raise StoreFailed(f"{connection.filename} cannot be copied to {target}: {error}") from error


def _require_whole(copy: Path, path: Path, remedy: str, progress: Progress) -> None:
    """Check the copy of a database. Raises `StoreFailed` with the path of the original if anything is wrong."""
    with inspecting(copy, _TRY_AGAIN) as connection:
        try:
            wrong = next(check_database(connection, progress), "")
        except UnicodeDecodeError as error:
            raise StoreFailed(f"{path} is damaged (a text in it is not UTF-8); {remedy}") from error
        if wrong:
            raise StoreFailed(f"{path} is damaged: {wrong}; {remedy}")
        progress("comparing checksums")
        for wrong in damaged_rows(connection):
            raise StoreFailed(f"the copy {copy} is damaged ({wrong}); {_TRY_AGAIN}")


def _fold_log(path: Path) -> None:
    """Copy the log of a store that no server uses into its database, which is complete without the log then.

    A damaged database is left as it is, because the log would not make it complete.

    Raises:
        StoreFailed: the database is being read, or the disk fails or is full.
    """
    if not path.exists():
        return
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            connection.pragma("schema_version")  # SQLite opens the log with the first read
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            connection.close()
    except DAMAGE:
        pass
    except apsw.BusyError as error:
        raise StoreFailed(f"{path} is being read by a backup or a check; restore when that has ended") from error
    except apsw.Error as error:
        raise StoreFailed(
            f"the log of {path} cannot be copied into it before it is replaced ({error}); "
            "if you do not need that store, move the folder's files away and restore without --force"
        ) from error


def _drop_log(path: Path) -> None:
    """Remove the log and other files of a database, because SQLite would use them with the one that replaces it."""
    for suffix in SQLITE_SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    # Otherwise a power loss could bring the log back, next to the new database.
    sync_folder(path.parent)


def _tokens_given(path: Path) -> int:
    """Return the first token that a store has not issued, 0 if there is no store or it cannot be read."""
    try:
        connection = open_for_reading(path)
        try:
            return checked_int(get_meta(connection, "first_free_token"), 0, MAX_TOKEN, "first_free_token")
        finally:
            connection.close()
    except (apsw.Error, OSError, StoreFailed, ValueError):
        return 0


def _begin_epoch(path: Path, backup: Path, tokens_given: int) -> None:
    """Give the copy of a backup its own epoch and tokens, after loading it as a server does."""
    try:
        connection = open_for_writing(path, keeps_old=False)
    except StoreFailed as error:  # it has an older version, with rows that this version does not allow
        if damage := damage_of(error):
            raise StoreFailed(f"{backup} is damaged ({one_line(damage)}); {_USE_ANOTHER}") from error
        raise
    try:
        with explained(backup, _USE_ANOTHER):
            contents = load_store(connection)
        with connection:
            set_meta(connection, "epoch", str(uuid4()))
            # The tokens that were issued since the backup are not known, but each opening reserves at most `TOKENS`.
            set_meta(connection, "first_free_token", max(contents.first_token, tokens_given) + TOKENS)
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        connection.close()
