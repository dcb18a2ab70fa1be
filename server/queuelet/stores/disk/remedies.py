"""Decides what users can do about a damaged file, which depends on the tables that are damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from queuelet.stores.disk.database import DAMAGE, NEEDS_BACKUP, damaged, version_of
from queuelet.stores.disk.loading import load_store
from queuelet.stores.disk.schema import VERSION

SET_ASIDE = (
    "the server sets damaged messages aside and delivers the others; `queuelet backup` makes a copy without them"
)
"""What to do if nothing but messages, with their ranks and deliveries, and saved responses is damaged."""

SALVAGE = (
    "copy what can be read with `queuelet backup --salvage`, then replace the store by the copy with "
    "`queuelet restore --force`"
)
"""What to do if pages of messages or of saved responses, an index or the counts are damaged."""

NOT_SALVAGED = f"{NEEDS_BACKUP}; `queuelet backup --salvage` cannot skip this damage"
"""What to do if something is damaged that the store needs for all its messages."""


def can_salvage(connection: apsw.Connection) -> bool:
    """Return whether everything can be read that `queuelet backup --salvage` cannot skip."""
    if version_of(connection) != VERSION:
        return False  # a file without checksums is only copied whole
    try:
        load_store(connection, salvages=True)
    except (*DAMAGE, UnicodeDecodeError):
        return False
    return True


def remedy_for(connection: apsw.Connection, *, is_file_damaged: bool) -> str:
    """Return what to do about a store that `queuelet check` found to be damaged.

    Args:
        connection: the open database.
        is_file_damaged: whether there is damage in addition to rows with a wrong checksum.
    """
    if not can_salvage(connection):
        return NOT_SALVAGED
    return SALVAGE if is_file_damaged else SET_ASIDE


@contextmanager
def backing_up(connection: apsw.Connection, path: Path, *, salvage: bool) -> Iterator[None]:
    """Turn an error that reports damage into `StoreDamaged`, with what to do after this backup failed."""
    try:
        yield
    except (*DAMAGE, UnicodeDecodeError) as error:
        raise damaged(path, error, SALVAGE if not salvage and can_salvage(connection) else NOT_SALVAGED) from error
