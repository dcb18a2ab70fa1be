"""The owner of the queues is frozen for three leases and thawed under load, while another server takes over."""

from __future__ import annotations

import signal
import sys
import time

import pytest

from support.counts import soaked
from support.postgres_server import own_schema, shared_postgres
from support.two_owners import two_owners

LEASE = 1.0
"""Seconds."""

TIMES = soaked(3, 100)


_NOTING = """
    CREATE TABLE written (n bigserial, epoch bigint, holder uuid, commits bigint);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF new.commits > old.commits THEN
            INSERT INTO written (epoch, holder, commits) VALUES (new.epoch, new.holder, new.commits);
        END IF;
        RETURN new;
    END $$;
    CREATE TRIGGER note AFTER UPDATE ON owners FOR EACH ROW EXECUTE FUNCTION note();
"""
"""Notes which owner made each commit, in their order: each commit locks the row of the owner."""

_WRONG = """
    SELECT count(*) FROM (
        SELECT epoch, holder, commits, lag(epoch) OVER w AS e, lag(holder) OVER w AS h, lag(commits) OVER w AS c
        FROM written WINDOW w AS (ORDER BY n)
    ) AS each WHERE commits <> c + 1 OR epoch < e OR (epoch = e) <> (holder = h)
"""
"""How many commits came from an owner that had been overtaken, or were made twice."""

_EPOCHS = "SELECT count(DISTINCT epoch) FROM written"


@pytest.mark.timeout(soaked(300, 7_200))
def test_an_owner_that_is_frozen_under_load_writes_nothing_and_gives_no_lease_after_it_was_overtaken() -> None:
    with own_schema() as usual, two_owners((*usual, "--postgres-lease", f"{LEASE:g}")) as there:
        use = f"SET search_path = {usual[usual.index('--postgres-schema') + 1]}; "
        shared_postgres().sql(use + _NOTING)
        for _ in range(TIMES):
            there.until_acked()
            owner = there.owner
            there.servers[owner].signal(signal.SIGSTOP)
            try:
                time.sleep(3 * LEASE)
                there.until_acked(1 - owner)
            finally:
                there.servers[owner].signal(signal.SIGCONT)
            there.until_acked()
        there.finish()
        assert shared_postgres().sql(use + _WRONG) == "0", "an overtaken owner has written"
        assert int(shared_postgres().sql(use + _EPOCHS)) > TIMES
        record = there.record
        sys.stdout.write(
            f"\n{TIMES} owners frozen: {len(record.added):,} messages added, {len(record.deliveries):,} deliveries, "
            f"{len(record.acked):,} acknowledged\n"
        )
