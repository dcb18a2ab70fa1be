"""Creates the tables, and migrates those of an older version, under a lock so that only one server does."""

from __future__ import annotations

from queuelet.errors import StoreFailed
from queuelet.ids import new_uuid
from queuelet.stores.postgres.driver import Connection, DatabaseError, Transaction
from queuelet.stores.postgres.schema import COMMIT_GROUP, SHARD, TABLES, VERSION

_MISSING = {"42P01", "3F000"}
"""The SQLSTATEs for a table or a schema that does not exist."""

_NO_HOLDER = "00000000-0000-0000-0000-000000000000"


async def prepare(connection: Connection, schema: str) -> None:
    """Create the tables of a schema, or migrate them, unless they are as this program needs them.

    That is the usual case, in which nothing is locked: an owner that is being taken over may still write.

    Raises:
        StoreFailed: the tables are of a newer program.
        DatabaseError: the database failed, or does not allow it.
    """
    if await version_of(connection) == VERSION:
        return
    async with connection.transaction() as transaction:
        # The key has the name of the schema, so that several of them in one database do not wait for each other.
        await transaction.fetch("SELECT pg_advisory_xact_lock(hashtextextended('queuelet.' || $1, 0))", schema)
        await _create(transaction, schema)


async def version_of(connection: Connection | Transaction) -> int:
    """Return the version of the tables; 0 if there are none. Raises `StoreFailed` if it is newer than this program."""
    try:
        rows = await connection.fetch("SELECT version FROM schema_version")
    except DatabaseError as error:
        if error.code in _MISSING:
            return 0
        raise
    version = int(rows[0][0]) if rows else 0
    if version > VERSION:
        raise StoreFailed(f"the tables have version {version}, which is newer than this program; use a newer one")
    return version


async def _create(transaction: Transaction, schema: str) -> None:
    exists = await transaction.fetch("SELECT to_regclass($1)", f"{schema}.schema_version")
    if exists[0][0] is not None:
        return  # another server was faster
    # An administrator may have created the schema for a user who may not.
    if not await transaction.fetch("SELECT 1 FROM pg_namespace WHERE nspname = $1", schema):
        await transaction.run(f"CREATE SCHEMA {schema}")
    await transaction.run(TABLES)
    await transaction.run(COMMIT_GROUP)
    await transaction.fetch("INSERT INTO schema_version VALUES ($1)", VERSION)
    await transaction.fetch(
        "INSERT INTO owners VALUES ($1, 0, 0, $2, '', '-infinity', $3, 0, false, 0, 0, '', 0)",
        SHARD,
        _NO_HOLDER,
        new_uuid(),
    )
