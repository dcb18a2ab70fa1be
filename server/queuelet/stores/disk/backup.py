"""Copies of a store: made while it is in use, and put in its place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast
from uuid import uuid4

import apsw

from queuelet.errors import StoreFailed
from queuelet.stores.disk.check import Progress, check_database, damaged_rows
from queuelet.stores.disk.copying import Copied, copy_sound
from queuelet.stores.disk.data_dir import BESIDE, DATABASE, FolderLock, open_private, sync_folder
from queuelet.stores.disk.database import (
    DAMAGE,
    PATIENCE_MS,
    REMEDY,
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
from queuelet.stores.disk.loading import MOST_TOKEN, TOKENS, load_contents
from queuelet.stores.disk.records import checked_int
from queuelet.stores.disk.schema import VERSION

_USE_ANOTHER = "it is no whole backup, use another"
"""What to do with a file that no store can be made of."""

_TRY_AGAIN = "the copy came out damaged, so make the backup again, on another disk if need be"


def _quietly(_: str) -> None:
    pass


def back_up(folder: Path, target: Path, progress: Progress = _quietly) -> Copied:
    """Copy the store of a folder, as it is at this moment, into a file; return what that holds.

    A server may run on the folder, and goes on: what it commits later is not in the copy. Its log grows meanwhile.
    It may be a folder that can only be read. Messages that are damaged are left out, and counted.

    Raises:
        StoreFailed: there is no store, or it is damaged; or the target is there already.
    """
    path = folder / DATABASE
    if not path.exists():
        raise StoreFailed(f"there is no store in {folder}: it has no file {DATABASE}")
    _require_free(target)
    # Another backup to the same name may be under way, in another container too.
    unfinished = target.with_name(f"{target.name}.unfinished-{uuid4().hex[:8]}")
    with explained(target), _finishing(unfinished, target):
        with inspecting(path) as connection:
            copied = _copy(connection, unfinished, target, progress)
        _require_whole(unfinished, path, REMEDY, progress)
        _require_free(target)
    return copied


def restore(backup: Path, folder: Path, *, force: bool = False, progress: Progress = _quietly) -> Copied:
    """Make the store of a folder from a backup; return what it holds.

    The backup may also be the file of another store, which may be in use: what its log holds is restored too. Messages
    that are damaged are left out, and counted.

    The store gets a new epoch, which tells everybody that what was done since the backup is lost, and gives no lease
    token that was given before. With `force` it takes the place of a store that is there, which is lost. At whatever
    moment the process dies, the folder holds one of the two, whole.

    Raises:
        StoreFailed: the backup is not a whole store, or that of the folder itself; or the folder is in use or holds a
            store, or cannot be written.
    """
    if not backup.is_file():
        raise StoreFailed(f"there is no backup {backup}")
    target = folder / DATABASE
    # The lock keeps a second restore out, so what is at this name was left by one that was killed.
    unfinished = folder / f"{DATABASE}.unfinished"
    with FolderLock(folder), explained(target):
        _require_replaceable(target, backup, force=force)
        _remove(unfinished)
        with _finishing(unfinished, target):
            # It may be named by a symbolic link, as the files of a data folder may not.
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
        raise StoreFailed(f"{target} is there already: give a name that is free")


def _require_replaceable(target: Path, backup: Path, *, force: bool) -> None:
    """Refuse to lose a store that nobody wants to lose, or with which the backup would be lost."""
    if not target.exists():
        return
    if backup.samefile(target):
        raise StoreFailed(
            f"{backup} is the file of that store itself, and no backup of it: "
            "make one with `queuelet backup`, or restore into another folder"
        )
    if not force:
        raise StoreFailed(
            f"{target.parent} holds a store already: give another folder, or --force to lose what is there"
        )


@contextmanager
def _finishing(unfinished: Path, target: Path) -> Iterator[None]:
    """Make an empty file, and give it the target's name once what is written there is whole and on the disk.

    However the block ends, nothing is left at the first name.
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


def _remove(path: Path) -> None:
    """Remove a database and what belongs to it, as far as it is there."""
    for suffix in ("", *BESIDE):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _require_sound_pages(connection: apsw.Connection, backup: Path, progress: Progress) -> None:
    """Refuse a file whose pages are wrong: one made to do harm may have rows that share pages, and fill the disk."""
    progress("reading every page of the backup")
    connection.pragma("cell_size_check", True)  # noqa: FBT003  # apsw's: the value of the setting
    errors = cast("list[tuple[str]]", connection.execute("PRAGMA integrity_check(1)").fetchall())
    if errors != [("ok",)]:
        raise StoreFailed(f"{backup} is not whole: {one_line(errors[0][0])}: {_USE_ANOTHER}")


def _copy(connection: apsw.Connection, unfinished: Path, target: Path, progress: Progress) -> Copied:
    """Copy an open database, its log included, into an empty file, but for messages that are damaged.

    Raises:
        apsw.Error: it is damaged.
        StoreFailed: it cannot be copied for another reason; the sentence names the target.
    """
    progress("copying")
    try:
        if version_of(connection) == VERSION:
            return copy_sound(connection, unfinished)
        # It has no checksums. Absolute, for a name that begins with `file:` would be taken for a URI.
        connection.execute("VACUUM INTO ?", (str(unfinished.absolute()),))
        return Copied(cast("int", value(connection, "SELECT coalesce(sum(depth), 0) FROM tallies")), 0)
    except DAMAGE:
        raise
    except apsw.Error as error:
        raise StoreFailed(f"{connection.filename} cannot be copied to {target}: {error}") from error


def _require_whole(copy: Path, path: Path, remedy: str, progress: Progress) -> None:
    """Look through the copy of a database. Raises `StoreFailed` about the latter's path if anything is wrong."""
    with inspecting(copy, _TRY_AGAIN) as connection:
        try:
            wrong = next(check_database(connection, progress), "")
        except UnicodeDecodeError as error:
            raise StoreFailed(f"{path} is damaged (a text in it is not UTF-8): {remedy}") from error
        if wrong:
            raise StoreFailed(f"{path} is not whole: {wrong}: {remedy}")
        progress("comparing checksums")
        for wrong in damaged_rows(connection):
            raise StoreFailed(f"{copy} cannot be used ({wrong}): {_TRY_AGAIN}")


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
            return checked_int(get_meta(connection, "first_free_token"), 0, MOST_TOKEN, "first_free_token")
        finally:
            connection.close()
    except (apsw.Error, OSError, StoreFailed, ValueError):
        return 0


def _begin_epoch(path: Path, backup: Path, tokens_given: int) -> None:
    """Make the copy of a backup a store of its own, once it was read as a server reads it."""
    try:
        connection = open_for_writing(path, keeps_old=False)
    except StoreFailed as error:  # it was of an older version, and has rows that this one cannot have
        if damage := damage_of(error):
            raise StoreFailed(f"{backup} is damaged ({one_line(damage)}): {_USE_ANOTHER}") from error
        raise
    try:
        with explained(backup, _USE_ANOTHER):
            contents = load_contents(connection)
        with connection:
            set_meta(connection, "epoch", str(uuid4()))
            # Where else tokens were given since the backup is not known: each opening reserves as many.
            set_meta(connection, "first_free_token", max(contents.first_token, tokens_given) + TOKENS)
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        connection.close()
