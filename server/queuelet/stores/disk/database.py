"""Creates and opens database files, and refuses files that are damaged or not ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import apsw

from queuelet.errors import StoreFailed
from queuelet.printable import printable
from queuelet.stores.disk.data_dir import SQLITE_SUFFIXES, make_private, require_file, sync_folder
from queuelet.stores.disk.migrations import Progress, make_empty, migrate, read_schema, schema_of
from queuelet.stores.disk.schema import APPLICATION_ID, VERSION
from queuelet.stores.durable.rows import meta_row

NEEDS_BACKUP = (
    "restore an earlier backup with `queuelet restore --force`, or move the folder away to start with an empty store"
)
"""What to do with a file from which nothing can be read."""

REMEDY = "see what is wrong and what helps with `queuelet check`, or restore an earlier backup with `queuelet restore`"
"""What to do with a file that a server cannot use."""

DAMAGE = (apsw.NotADBError, apsw.CorruptError)
"""The errors of SQLite that report damage in the file and not a failing disk."""


class StoreDamaged(StoreFailed):
    """The database file is damaged. Opening it again does not help."""


_SIGNALS_STEPS = 100
"""The number of SQLite steps between two polls for signals. Few, because a step may copy a message of megabytes."""

BUSY_TIMEOUT_MS = 10_000
"""How long to wait for another process (a backup, a check) that locks the file for a moment, in milliseconds."""

_WRITER_CACHE = 16 * 1024
"""The page cache of the writer in KiB. The pages of one transaction should fit, or some are written twice."""

_MAX_CHARACTERS = 400
"""The most characters of an error that are reported."""

_LOG_BYTES = 8 * 1024 * 1024
"""The size in bytes to which SQLite truncates the write-ahead log when it restarts it."""


def _ignore_progress(_: str) -> None:
    pass


def open_for_writing(
    path: Path,
    *,
    vfs: str | None = None,
    synchronous: str = "FULL",
    keeps_old: bool = True,
    progress: Progress = _ignore_progress,
) -> apsw.Connection:
    """Open a database, or create it if it does not exist. A file of an older version is migrated first.

    Args:
        path: the file, in an existing folder.
        vfs: the name of the SQLite VFS, None for the default one.
        synchronous: SQLite's setting. Any other than FULL loses commits in a power loss; tests prove it.
        keeps_old: whether to keep the file of an older version under another name.
        progress: called with a text that describes the progress of the migration.

    Raises:
        StoreDamaged: the file is damaged.
        StoreFailed: the file is not a database of ours, is newer than this program, or cannot be read.
    """
    with explained(path):
        for suffix in ("", *SQLITE_SUFFIXES):
            make_private(path.with_name(path.name + suffix))
        if not path.exists():
            _make(path, vfs)
        check_header(path)
        version = _checked_version(path, vfs)
        if version < VERSION:
            migrate(path, version, vfs=vfs, keeps_old=keeps_old, progress=progress)
        connection = _connect(path, apsw.SQLITE_OPEN_READWRITE, vfs)
        try:
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            connection.pragma("synchronous", synchronous)
            connection.pragma("wal_autocheckpoint", 0)
            connection.pragma("journal_size_limit", _LOG_BYTES)
            connection.pragma("cache_size", -_WRITER_CACHE)
            # In a container there may be no folder for temporary files that can be written to.
            connection.pragma("temp_store", "MEMORY")
            check_schema(connection, path)
            connection.pragma("journal_mode", "WAL")
        except BaseException:
            connection.close()
            raise
    return connection


def _checked_version(path: Path, vfs: str | None) -> int:
    """Return the version of a file that `check_schema` accepts."""
    connection = _connect(path, apsw.SQLITE_OPEN_READWRITE, vfs)
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # closing it must not change the file
        return check_schema(connection, path)
    finally:
        connection.close()


def open_for_reading(path: Path, *, vfs: str | None = None, remedy: str = REMEDY) -> apsw.Connection:
    """Open a database read-only. Raises as `open_for_writing` does."""
    with explained(path, remedy):
        require_file(path)
        connection = _connect(path, apsw.SQLITE_OPEN_READONLY, vfs)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    return connection


@contextmanager
def inspecting(path: Path, remedy: str = NEEDS_BACKUP) -> Iterator[apsw.Connection]:
    """Open a database of ours, with its log, to check or copy it, even in a read-only folder.

    SQLite needs a log and a shared memory file next to the database even for reading, and creates them. If it cannot,
    the database is opened as immutable, so no process may change it until it is closed. A signal, such as that of ^C,
    interrupts a long statement.

    Args:
        path: the file.
        remedy: what to do if the file is damaged or not ours.

    Raises:
        StoreFailed: as `open_for_reading` does; or the folder is read-only and there is a log to read, or the file was
            changed while it was open.
    """
    with explained(path, remedy):
        require_file(path)
        check_header(path, remedy)
        connection = open_for_reading(path, remedy=remedy)
        try:
            permission_error = _write_permission_error(connection)
            if permission_error is None:
                check_schema(connection, path, remedy)
                _poll_signals(connection)
                yield connection
                return
        finally:
            connection.close()
        if os.access(path.parent, os.W_OK):
            raise permission_error
        with _immutable(path) as connection:
            check_schema(connection, path, remedy)
            _poll_signals(connection)
            yield connection


def one_line(error: object) -> str:
    """Return an error of SQLite, which may quote content of the file, as one line that is safe on a terminal."""
    return printable("; ".join(str(error).splitlines()))[:_MAX_CHARACTERS]


def damage_of(error: BaseException) -> str:
    """Return the text of an error, or of its cause, that reports damage in the file; empty if it reports none."""
    for each in (error, error.__cause__):
        if isinstance(each, DAMAGE):
            return str(each)
    return ""


def value(connection: apsw.Connection, statement: str, *bindings: object) -> Any:  # noqa: ANN401  # any type of SQLite
    """Return the first column of the first row, None if there is no row."""
    rows = connection.execute(statement, bindings).fetchall()
    return rows[0][0] if rows else None


def get_meta(connection: apsw.Connection, name: str) -> Any:  # noqa: ANN401  # a text or an integer
    """Return the value of a row of `meta`, None if there is no such row."""
    return value(connection, "SELECT value FROM meta WHERE name = ?", name)


def set_meta(connection: apsw.Connection, name: str, content: str | int) -> None:
    """Write a row of `meta`."""
    connection.execute("REPLACE INTO meta VALUES (?, ?, ?)", meta_row(name, content))


def damaged(path: Path, error: Exception, remedy: str) -> StoreDamaged:
    """Return the error for damage that SQLite or the decoding of a text found in a file."""
    found = "a text in it is not UTF-8" if isinstance(error, UnicodeDecodeError) else one_line(error)
    return StoreDamaged(f"{path} is damaged ({found}); {remedy}")


@contextmanager
def explained(path: Path, remedy: str = REMEDY) -> Iterator[None]:
    """Turn errors of SQLite and of the system into `StoreFailed` with the path; `StoreDamaged` has the remedy too."""
    try:
        yield
    except (*DAMAGE, UnicodeDecodeError) as error:
        raise damaged(path, error, remedy) from error
    except (apsw.Error, OSError) as error:
        raise StoreFailed(f"{path} cannot be used: {error}") from error


def check_header(path: Path, remedy: str = REMEDY) -> None:
    """Refuse a file that does not start like a SQLite database. Raises `StoreFailed`, apsw.Error or OSError."""
    with path.open("rb") as file:
        head = file.read(100)
    if len(head) < 100:  # noqa: PLR2004  # the size of SQLite's header
        raise apsw.NotADBError("it is empty or truncated")
    if not head.startswith(b"SQLite format 3\0"):
        raise StoreDamaged(f"{path} is not a Queuelet database, or its beginning is damaged; {remedy}")


def check_schema(connection: apsw.Connection, path: Path, remedy: str = REMEDY) -> int:
    """Return the version of a database. Refuse one of another program, of a newer version, or with other tables.

    Raises:
        StoreFailed: the database is refused; the error says why.
        apsw.Error: the database cannot be read.
    """
    application = connection.pragma("application_id")
    if application != APPLICATION_ID:
        raise StoreFailed(f"{path} is a SQLite database, but not one of Queuelet's; {remedy}")
    version = version_of(connection)
    if version > VERSION:
        raise StoreFailed(
            f"{path} has version {version}, but this Queuelet reads only up to version {VERSION}; "
            "run the newer Queuelet that wrote it, or restore an older backup with `queuelet restore`"
        )
    if version <= 0:
        raise StoreDamaged(f"{path} is damaged (it has no version); {remedy}")
    if differing := read_schema(connection) ^ schema_of(version):
        kind, name, *_ = min(differing, key=str)
        raise StoreDamaged(
            f"{path} is not a valid store: it does not have exactly the tables of version {version} (see its "
            f"{printable(kind)[:80]} {printable(name)[:80]}); {remedy}"
        )
    return version


def _connect(path: Path, flags: int, vfs: str | None) -> apsw.Connection:
    """Open a database. Its folder may be given by a symbolic link, but the file must not be one."""
    name = path.parent.resolve() / path.name
    return _hardened(apsw.Connection(str(name), flags=flags | apsw.SQLITE_OPEN_NOFOLLOW, vfs=vfs))


def _hardened(connection: apsw.Connection) -> apsw.Connection:
    """Disable triggers, views and the like on a connection, because the file may be crafted by an attacker."""
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0)
    return connection


def version_of(connection: apsw.Connection) -> int:
    """Return the version in the header of an open database."""
    return cast("int", connection.pragma("user_version"))


def _write_permission_error(connection: apsw.Connection) -> apsw.Error | None:
    """Try to read; return the error if that needs write permission, None if it does not. Raises apsw.Error."""
    try:
        connection.pragma("schema_version")
    except (apsw.CantOpenError, apsw.ReadOnlyError) as error:
        return error
    return None


def _poll_signals(connection: apsw.Connection) -> None:
    """Return to Python often during statements, because it handles signals only while its own code runs."""
    connection.set_progress_handler(lambda: False, _SIGNALS_STEPS)


@contextmanager
def _immutable(path: Path) -> Iterator[apsw.Connection]:
    """Open a database as immutable: it is read without locks and without its log, which must be empty.

    A process that has the store open has created a log and a shared memory file next to it, which every user who can
    read the database can read. So if SQLite did not find them, no process of this machine has the store open.

    Raises:
        StoreFailed: there is a log, or the file was changed while it was open.
    """
    before = _stamp(path)
    if before[-1]:
        raise StoreFailed(
            f"{path.parent} cannot be written to, so the log {path.name}-wal, which has the newest messages, cannot be "
            f"read; run this where the folder can be written to, or copy {path.name} and {path.name}-wal to a folder "
            "that can be written to and run it on that"
        )
    connection = _hardened(
        apsw.Connection(
            f"{path.absolute().as_uri()}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        )
    )
    try:
        yield connection
    finally:
        connection.close()
    if _stamp(path) != before:
        raise StoreFailed(f"{path} was changed while it was read; run this again on the machine of the server")


def _stamp(path: Path) -> tuple[int, int, int]:
    """Return values that change if a database is written: its modification time, its size, and the size of its log."""
    log = path.with_name(f"{path.name}-wal")
    status = path.stat()
    return status.st_mtime_ns, status.st_size, log.stat().st_size if log.exists() else 0


def _make(path: Path, vfs: str | None) -> None:
    """Create an empty store under a temporary name, and rename it once it is complete."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        raise StoreFailed(f"{path} is missing, but its log {log.name} exists; {NEEDS_BACKUP}")
    unfinished = path.with_suffix(".new")
    connection = make_empty(unfinished, vfs)
    try:
        set_meta(connection, "epoch", str(uuid4()))
        connection.execute("COMMIT")
    finally:
        connection.close()
    unfinished.rename(path)
    sync_folder(path.parent)


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """Run a block in a transaction. An error is raised unchanged, even if SQLite has rolled back by itself."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
