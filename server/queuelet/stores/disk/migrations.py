"""Migrates a file of an older version: a new file is written next to it and then renamed to its name.

If the process is killed at any moment, the file under that name is either the old one or the complete new one. The old
file is kept under a name with its version, so that an older Queuelet can use it again.

Each older version has its tables here, and a step that copies their rows into those of the next version. A step copies
rows without validating them, because they are validated when the new file is loaded.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any, cast

import apsw

from queuelet.errors import StoreFailed
from queuelet.stores.disk.data_dir import SQLITE_SUFFIXES, open_private, sync_file, sync_folder
from queuelet.stores.disk.reserve import free_bytes
from queuelet.stores.disk.schema import APPLICATION_ID, PAGE_BYTES, TABLES, VERSION
from queuelet.stores.durable.checksums import of_message, of_rank
from queuelet.stores.durable.places import SEQ_BITS
from queuelet.stores.durable.rows import delivery_checksum, dropped_row, meta_row, queue_row, response_row, tally_row

Progress = Callable[[str], None]
"""Called with a text for users that describes the present step."""

_SAY_EVERY = 2.0
"""How often to report the progress of a copy, in seconds."""

_SLACK = 4 * 1024 * 1024
"""How much a file may grow in a migration, in addition to an eighth of its size, in bytes."""

_TABLES_1 = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID",
    """CREATE TABLE queues (
        ordinal INTEGER PRIMARY KEY, -- in order of creation
        number INTEGER NOT NULL UNIQUE,
        queue_id TEXT NOT NULL UNIQUE,
        created INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        definition TEXT NOT NULL,
        id_prefix BLOB NOT NULL
    ) STRICT""",
    """CREATE TABLE tallies (
        ordinal INTEGER PRIMARY KEY,
        depth INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        counts TEXT NOT NULL
    ) STRICT""",
    "CREATE TABLE dropped (number INTEGER PRIMARY KEY) STRICT",
    "CREATE TABLE messages (place INTEGER PRIMARY KEY, own_id BLOB, body BLOB NOT NULL) STRICT",
    f"CREATE INDEX own_ids ON messages (place >> {SEQ_BITS}, own_id) WHERE own_id IS NOT NULL",
    """CREATE TABLE ranks (
        place INTEGER PRIMARY KEY,
        priority INTEGER NOT NULL,
        due INTEGER NOT NULL,
        created INTEGER NOT NULL,
        ttl INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE deliveries (
        place INTEGER PRIMARY KEY,
        state INTEGER NOT NULL,
        count INTEGER NOT NULL,
        token INTEGER NOT NULL,
        until INTEGER NOT NULL,
        since INTEGER NOT NULL,
        consumer TEXT NOT NULL,
        superseded TEXT NOT NULL,
        reason INTEGER NOT NULL,
        history BLOB NOT NULL
    ) STRICT""",
    """CREATE TABLE answers (
        kept INTEGER PRIMARY KEY, -- in the order in which they were kept
        number INTEGER NOT NULL,
        key BLOB NOT NULL,
        until INTEGER NOT NULL,
        answer BLOB NOT NULL,
        UNIQUE (number, key)
    ) STRICT""",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Table:
    """How the rows of one table are converted to the next version."""

    rows: str
    """The statement that reads the rows."""
    becomes: Callable[..., Sequence[Any]]
    """Returns the row to insert, given the columns of a row that was read."""
    columns: str = ""
    """The columns to insert, empty for all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Step:
    """The migration from one version to the next."""

    tables: Sequence[str]
    """The statements that create the tables of the older version."""
    copies: Mapping[str, _Table]


_STEPS: Mapping[int, _Step] = {
    # Version 2 adds checksums, a mark for leases taken by a stream, and a table of damaged messages.
    1: _Step(
        tables=_TABLES_1,
        copies={
            "meta": _Table(rows="SELECT name, value FROM meta", becomes=meta_row),
            "queues": _Table(rows="SELECT * FROM queues ORDER BY ordinal", becomes=queue_row),
            "tallies": _Table(rows="SELECT * FROM tallies ORDER BY ordinal", becomes=tally_row),
            "dropped": _Table(rows="SELECT number FROM dropped ORDER BY number", becomes=dropped_row),
            "messages": _Table(
                rows="SELECT place, own_id, body FROM messages ORDER BY place",
                becomes=lambda place, own_id, body: (place, own_id, of_message(place, own_id, body), body),
            ),
            "ranks": _Table(rows="SELECT * FROM ranks ORDER BY place", becomes=lambda *row: (*row, of_rank(*row))),
            "deliveries": _Table(
                rows="SELECT *, 0 FROM deliveries ORDER BY place", becomes=lambda *row: (*row, delivery_checksum(*row))
            ),
            "answers": _Table(
                rows="SELECT number, key, until, answer FROM answers ORDER BY kept",
                becomes=response_row,
                columns=" (number, key, until, answer, checksum)",
            ),
        },
    )
}


def tables_of(version: int) -> Sequence[str]:
    """Return the statements that create the tables of a version, from 1 to `VERSION`."""
    return TABLES if version == VERSION else _STEPS[version].tables


@cache
def schema_of(version: int) -> frozenset[tuple[str, str, str, str | None]]:
    """Return the contents of `sqlite_schema` for a version: the type, name, table and statement of each object."""
    with closing(apsw.Connection(":memory:")) as connection:
        for table in tables_of(version):
            connection.execute(table)
        return read_schema(connection)


def read_schema(connection: apsw.Connection) -> frozenset[tuple[str, str, str, str | None]]:
    """Return the contents of `sqlite_schema` of an open database. Raises apsw.Error."""
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
    return frozenset(cast("list[tuple[str, str, str, str | None]]", rows))


def make_empty(path: Path, vfs: str | None, version: int = VERSION) -> apsw.Connection:
    """Create an empty database of a version, and return a connection to it with an open transaction."""
    for suffix in ("", *SQLITE_SUFFIXES):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    os.close(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))  # SQLite's other files get its permissions
    connection = apsw.Connection(str(path), vfs=vfs)
    connection.pragma("synchronous", "FULL")
    connection.pragma("page_size", PAGE_BYTES)
    connection.pragma("auto_vacuum", "INCREMENTAL")
    connection.pragma("temp_store", "MEMORY")
    connection.execute("BEGIN")
    for table in tables_of(version):
        connection.execute(table)
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", version)
    return connection


def migrate(path: Path, version: int, *, vfs: str | None, keeps_old: bool, progress: Progress) -> None:
    """Migrate a file of an older version to this version.

    Args:
        path: the file, which no server uses.
        version: its version.
        vfs: the name of the SQLite VFS, None for the default one.
        keeps_old: whether to keep the old file under another name.
        progress: called with a text that describes the progress.

    Raises:
        StoreFailed: the disk has too little space, or another process is reading the file.
        apsw.Error, OSError: the file is damaged, or the disk failed. The old file is unchanged.
    """
    _require_space(path)
    _fold_log(path, vfs)
    if keeps_old:
        progress(f"the old file is kept as {_keep_old(path, version)}")
    unfinished = path.with_name(f"{path.name}.next")
    for each in range(version, VERSION):
        _write_next(path, unfinished, each, vfs, progress)
        for suffix in SQLITE_SUFFIXES:
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        # Otherwise a power loss could bring the old log back, next to the new file.
        sync_folder(path.parent)
        unfinished.rename(path)
        sync_folder(path.parent)
    progress(f"the store now has version {VERSION}")


def _require_space(path: Path) -> None:
    log = path.with_name(f"{path.name}-wal")
    size = path.stat().st_size + (log.stat().st_size if log.exists() else 0)
    needed = size + size // 8 + _SLACK
    free = free_bytes(path.parent)
    if free < needed:
        raise StoreFailed(
            f"{path} has an older version, and the disk has too little space to migrate it: {free:,} bytes are free "
            f"and {needed:,} are needed. Nothing was changed; free disk space and start again"
        )


def _fold_log(path: Path, vfs: str | None) -> None:
    """Copy the log of a store into its database, which is complete without the log then."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)) as connection:
        connection.pragma("schema_version")  # SQLite opens the log with the first read
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.BusyError as error:
            raise StoreFailed(
                f"{path} has an older version and cannot be migrated while a backup or a check reads it; "
                "start again when that has ended"
            ) from error
    sync_file(path)


def _keep_old(path: Path, version: int) -> Path:
    """Give an old file a second, free name, and return that."""
    for number in range(1, 1_000):
        kept = path.with_name(f"{path.name}.version-{version}" + (f".{number}" if number > 1 else ""))
        if not kept.exists():
            break
        if kept.samefile(path):  # left by a start that was killed
            return kept
    try:
        os.link(path, kept)
    except OSError:  # some file systems have no hard links
        _require_space(path)
        part = kept.with_name(f"{kept.name}.unfinished")
        part.unlink(missing_ok=True)
        with path.open("rb") as old, os.fdopen(open_private(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as new:
            shutil.copyfileobj(old, new)
        sync_file(part)
        part.rename(kept)
    sync_folder(path.parent)
    return kept


def _write_next(path: Path, unfinished: Path, version: int, vfs: str | None, progress: Progress) -> None:
    """Write the file of the next version, and fsync it."""
    copies = _STEPS[version].copies
    with (
        closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)) as old,
        closing(make_empty(unfinished, vfs, version + 1)) as new,
    ):
        try:
            for name, table in copies.items():
                marks = None
                for row in _with_progress(old.execute(table.rows), name, version, progress):
                    values = table.becomes(*row)
                    marks = marks or ",".join("?" * len(values))
                    new.execute(f"INSERT INTO {name}{table.columns} VALUES ({marks})", values)  # noqa: S608
        except (apsw.ConstraintError, TypeError, ValueError, OverflowError) as error:
            raise apsw.CorruptError(f"a row has invalid values: {error}") from error
        new.execute("COMMIT")
    sync_file(unfinished)


def _with_progress(rows: Iterator[Any], table: str, version: int, progress: Progress) -> Iterator[Any]:
    """Yield the rows, and report their number every few seconds and at the end."""
    count, said = 0, monotonic()
    for count, row in enumerate(rows, 1):
        yield row
        if monotonic() - said > _SAY_EVERY:
            said = monotonic()
            progress(f"writing version {version + 1}: {count:,} rows of {table}")
    if count:
        progress(f"writing version {version + 1}: all {count:,} rows of {table}")
