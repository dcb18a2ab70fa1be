"""The tables of a store's database, of the version that this program writes.

A message's place is its queue's number and its own sequence number in one integer, so the messages of a queue are
neighbours in their table, in the order in which they were added. What most messages do not have (a rank, a delivery)
stands in small tables of its own under the same place: they are read whole when a store is opened, and bodies are not.

A file must have exactly these tables, to the letter (`check_schema`): so a comment inside a statement is not changed
without another version either. To change the tables: move `TABLES` as they are into `migrations.py`, raise `VERSION`,
change them here, and write the step from the version before. A test opens a file that each version wrote.
"""

from __future__ import annotations

APPLICATION_ID = 0x51756C74
"""`Qult`: what tells our files from other SQLite databases, in the header of each."""

VERSION = 2
"""Of the tables below, in the header too."""

PAGE_BYTES = 4_096
"""The size of a page. What is written is whole pages, and most messages are small."""

SEQ_BITS = 40
"""How many bits of a place are the sequence number; the 23 above it are the number of the queue."""

MOST_NUMBERS = (1 << 63 - SEQ_BITS) - 1
"""The highest number of a queue. Numbers are used again once nothing is left under them."""

TABLES = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY NOT NULL, checksum INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    # A queue that is cleared gets another number, and what is under the old one is deleted when there is time.
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
    # Written with every change of a queue's messages, and so apart from the definition, which may be large.
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
    # Messages that were set aside because they are damaged. Their rows stay where they are, and are not touched again.
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


def first_place(number: int) -> int:
    """Return the place below all messages of a queue."""
    return number << SEQ_BITS


def end_place(number: int) -> int:
    """Return the place past all messages of a queue."""
    return number + 1 << SEQ_BITS
