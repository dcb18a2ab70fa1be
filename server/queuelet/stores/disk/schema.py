"""The tables of a store's database, in the version that this program writes.

Messages are stored under their places (`durable/places.py`). What few messages have (a rank, a delivery) is in small
tables under the same place, because those are read whole when a store is opened, while bodies are not.

`check_schema` requires exactly these statements, so even a comment inside one must not be changed without a new
version. To change the tables: copy `TABLES` into `migrations.py`, increment `VERSION`, change the tables here, and
write the migration from the previous version. A test opens a file that each version wrote.
"""

from __future__ import annotations

from queuelet.stores.durable.places import SEQ_BITS

APPLICATION_ID = 0x51756C74
"""`Qult`: the application ID in the header, which distinguishes our files from other SQLite databases."""

VERSION = 2
"""The version of the tables below, also in the header."""

PAGE_BYTES = 4_096
"""The page size. Small, because SQLite writes whole pages and most messages are small."""

TABLES = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY NOT NULL, checksum INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    # A queue that is cleared gets a new number, and the rows under its old one are deleted in the background.
    """CREATE TABLE queues (
        ordinal INTEGER PRIMARY KEY, -- in order of creation
        number INTEGER NOT NULL UNIQUE,
        queue_id TEXT NOT NULL UNIQUE,
        created INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        definition TEXT NOT NULL,
        id_prefix BLOB NOT NULL,
        checksum INTEGER NOT NULL
    ) STRICT""",
    # Written with every change to a queue's messages, so not in one row with the definition, which may be large.
    """CREATE TABLE tallies (
        ordinal INTEGER PRIMARY KEY,
        depth INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        counts TEXT NOT NULL,
        checksum INTEGER NOT NULL
    ) STRICT""",
    "CREATE TABLE dropped (number INTEGER PRIMARY KEY, checksum INTEGER NOT NULL) STRICT",
    """CREATE TABLE messages (
        place INTEGER PRIMARY KEY,
        own_id BLOB,
        checksum INTEGER NOT NULL,
        body BLOB NOT NULL
    ) STRICT""",
    f"CREATE INDEX own_ids ON messages (place >> {SEQ_BITS}, own_id) WHERE own_id IS NOT NULL",
    # Damaged messages that were set aside. Their rows stay where they are and are never changed.
    "CREATE TABLE damaged (place INTEGER PRIMARY KEY, found INTEGER NOT NULL, reason TEXT NOT NULL) STRICT",
    """CREATE TABLE ranks (
        place INTEGER PRIMARY KEY,
        priority INTEGER NOT NULL,
        due INTEGER NOT NULL,
        created INTEGER NOT NULL,
        ttl INTEGER NOT NULL,
        checksum INTEGER NOT NULL
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
        history BLOB NOT NULL,
        by_stream INTEGER NOT NULL DEFAULT 0, -- whether a Consume stream took the lease
        checksum INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE answers (
        kept INTEGER PRIMARY KEY, -- in the order in which they were kept
        number INTEGER NOT NULL,
        key BLOB NOT NULL,
        until INTEGER NOT NULL,
        answer BLOB NOT NULL,
        checksum INTEGER NOT NULL,
        UNIQUE (number, key)
    ) STRICT""",
)
