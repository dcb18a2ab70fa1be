"""The tables in the database, in the version that this program writes.

Messages are stored under their places (`durable/places.py`), as in the Disk store, and so are the small tables of what
few messages have. `owners` says which server may write: see `owner.py`. Each commit is one call of `commit_group`, so
that it takes one round trip, and its first statement is the fence. A changed table gets another `VERSION`, and a
migration from the one before.
"""

from __future__ import annotations

import re

from queuelet.stores.durable.places import SEQ_BITS

VERSION = 2
"""The version of the tables below, which is in the table `schema_version`."""

CHANNEL = "queuelet_owners"
"""The channel of NOTIFY for changes of `owners` and `servers`; the payload is the name of the schema."""

FENCED = "QL001"
"""The SQLSTATE that `commit_group` raises if another server has become the owner."""

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def checked_schema(name: str) -> str:
    """Return the name of a schema. Raises ValueError if it would have to be quoted."""
    if not _NAME.fullmatch(name) or name.startswith("pg_"):
        raise ValueError(f"{name[:80]} is not allowed; use lower-case letters, digits and _, such as queuelet")
    return name


SERVERS = """
-- The servers that share the queues. Each one renews its row.
CREATE TABLE servers (
    address text PRIMARY KEY,
    holder uuid NOT NULL,
    expires timestamptz NOT NULL
) WITH (fillfactor = 20);
"""

TABLES = f"""
CREATE TABLE schema_version (version integer NOT NULL);

-- Which server may write to a shard, one row for each shard. `commits` grows with each commit and never shrinks.
CREATE TABLE owners (
    shard integer PRIMARY KEY,
    epoch bigint NOT NULL,
    commits bigint NOT NULL,
    holder uuid NOT NULL,
    address text NOT NULL,
    expires timestamptz NOT NULL,
    store_epoch text NOT NULL,
    timeline bigint NOT NULL,
    is_replicated boolean NOT NULL,
    first_free_token bigint NOT NULL,
    highest_first_seq bigint NOT NULL,
    clock_boot_id text NOT NULL,
    clock_offset bigint NOT NULL
) WITH (fillfactor = 20);
{SERVERS}
CREATE TABLE queues (
    ordinal bigint PRIMARY KEY,
    number bigint NOT NULL UNIQUE,
    queue_id text NOT NULL UNIQUE,
    created bigint NOT NULL,
    revision bigint NOT NULL,
    definition text NOT NULL,
    id_prefix bytea NOT NULL,
    checksum bigint NOT NULL,
    shard integer NOT NULL
);

CREATE TABLE tallies (
    ordinal bigint PRIMARY KEY,
    depth bigint NOT NULL,
    bytes bigint NOT NULL,
    counts text NOT NULL,
    checksum bigint NOT NULL
) WITH (fillfactor = 20);

CREATE TABLE dropped (number bigint PRIMARY KEY, checksum bigint NOT NULL);

CREATE TABLE messages (
    place bigint PRIMARY KEY,
    own_id bytea,
    checksum bigint NOT NULL,
    body bytea NOT NULL
) WITH (autovacuum_vacuum_insert_threshold = -1);
-- Not compressed, so that its size is known without reading it.
ALTER TABLE messages ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX own_ids ON messages ((place >> {SEQ_BITS}), own_id) WHERE own_id IS NOT NULL;

CREATE TABLE damaged (place bigint PRIMARY KEY, found bigint NOT NULL, reason text NOT NULL);

CREATE TABLE ranks (
    place bigint PRIMARY KEY,
    priority bigint NOT NULL,
    due bigint NOT NULL,
    created bigint NOT NULL,
    ttl bigint NOT NULL,
    checksum bigint NOT NULL
);

-- `consumer` is not text, which may not contain zeros.
CREATE TABLE deliveries (
    place bigint PRIMARY KEY,
    state bigint NOT NULL,
    count bigint NOT NULL,
    token bigint NOT NULL,
    until bigint NOT NULL,
    since bigint NOT NULL,
    consumer bytea NOT NULL,
    superseded text NOT NULL,
    reason bigint NOT NULL,
    history bytea NOT NULL,
    by_stream bigint NOT NULL,
    checksum bigint NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE answers (
    number bigint NOT NULL,
    key bytea NOT NULL,
    until bigint NOT NULL,
    answer bytea NOT NULL,
    checksum bigint NOT NULL,
    kept bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (number, key)
);
"""

COMMIT_GROUP = f"""
CREATE TYPE answer_row AS (number bigint, key bytea, until bigint, answer bytea, checksum bigint);

CREATE FUNCTION commit_group(
    p_shard integer, p_epoch bigint, p_holder uuid, p_commits bigint, p_lease double precision,
    p_dropped_queues bigint[], p_dropped dropped[], p_queues queues[], p_removed bigint[],
    p_places bigint[], p_own_ids bytea[], p_checksums bigint[], p_bodies bytea[],
    p_damaged damaged[], p_deliveries_gone bigint[], p_deliveries deliveries[], p_ranks_gone bigint[], p_ranks ranks[],
    p_answers_gone answer_row[], p_answers answer_row[], p_tallies tallies[]
) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE owners SET commits = commits + 1, expires = clock_timestamp() + make_interval(secs => p_lease)
        WHERE shard = p_shard AND epoch = p_epoch AND holder = p_holder AND commits = p_commits;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'another server owns the queues' USING ERRCODE = '{FENCED}';
    END IF;
    IF cardinality(p_dropped_queues) > 0 THEN
        DELETE FROM queues WHERE ordinal = ANY (p_dropped_queues);
        DELETE FROM tallies WHERE ordinal = ANY (p_dropped_queues);
    END IF;
    IF cardinality(p_removed) > 0 THEN
        DELETE FROM messages WHERE place = ANY (p_removed);
    END IF;
    IF cardinality(p_deliveries_gone) > 0 THEN
        DELETE FROM deliveries WHERE place = ANY (p_deliveries_gone);
    END IF;
    IF cardinality(p_ranks_gone) > 0 THEN
        DELETE FROM ranks WHERE place = ANY (p_ranks_gone);
    END IF;
    IF cardinality(p_answers_gone) > 0 THEN
        DELETE FROM answers USING unnest(p_answers_gone) gone
            WHERE answers.number = gone.number AND answers.key = gone.key;
    END IF;
    IF cardinality(p_dropped) > 0 THEN
        INSERT INTO dropped SELECT * FROM unnest(p_dropped);
    END IF;
    IF cardinality(p_queues) > 0 THEN
        INSERT INTO queues SELECT * FROM unnest(p_queues)
            ON CONFLICT (ordinal) DO UPDATE SET number = excluded.number, revision = excluded.revision,
                definition = excluded.definition, checksum = excluded.checksum;
    END IF;
    -- Not an array of rows, because encoding one takes both sides longer.
    IF cardinality(p_places) > 0 THEN
        INSERT INTO messages SELECT * FROM unnest(p_places, p_own_ids, p_checksums, p_bodies);
    END IF;
    IF cardinality(p_damaged) > 0 THEN
        INSERT INTO damaged SELECT * FROM unnest(p_damaged)
            ON CONFLICT (place) DO UPDATE SET found = excluded.found, reason = excluded.reason;
    END IF;
    IF cardinality(p_deliveries) > 0 THEN
        INSERT INTO deliveries SELECT * FROM unnest(p_deliveries)
            ON CONFLICT (place) DO UPDATE SET state = excluded.state, count = excluded.count, token = excluded.token,
                until = excluded.until, since = excluded.since, consumer = excluded.consumer,
                superseded = excluded.superseded, reason = excluded.reason, history = excluded.history,
                by_stream = excluded.by_stream, checksum = excluded.checksum;
    END IF;
    IF cardinality(p_ranks) > 0 THEN
        INSERT INTO ranks SELECT * FROM unnest(p_ranks)
            ON CONFLICT (place) DO UPDATE SET priority = excluded.priority, due = excluded.due,
                created = excluded.created, ttl = excluded.ttl, checksum = excluded.checksum;
    END IF;
    IF cardinality(p_answers) > 0 THEN
        DELETE FROM answers USING unnest(p_answers) new
            WHERE answers.number = new.number AND answers.key = new.key;
        INSERT INTO answers (number, key, until, answer, checksum) SELECT * FROM unnest(p_answers);
    END IF;
    IF cardinality(p_tallies) > 0 THEN
        INSERT INTO tallies SELECT * FROM unnest(p_tallies)
            ON CONFLICT (ordinal) DO UPDATE SET depth = excluded.depth, bytes = excluded.bytes,
                counts = excluded.counts, checksum = excluded.checksum;
    END IF;
    -- It may change at any time, and decides what this commit survives.
    RETURN current_setting('synchronous_standby_names');
END
$$;
"""  # noqa: S608  # only our own code of an error

VACUUMED = ("messages", "deliveries", "ranks", "answers", "tallies", "owners")
"""The tables from which rows are removed, or whose rows are written again, all the time."""
