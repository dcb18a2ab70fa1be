"""A server whose queues are in three PostgreSQL nodes, while nodes, agents, connections and waits for standbys fail.

The oracle is that of the tests that kill servers: no acknowledged message is lost, none comes back, tokens grow, and
the order is exact.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.counts import soaked
from support.postgres_quorum import Quorum
from support.quorum_load import load

pytestmark = [pytest.mark.xdist_group("quorum"), pytest.mark.timeout(soaked(300, 7_200))]


@pytest.fixture(scope="module")
def quorum() -> Iterator[Quorum]:
    """The three nodes, all well at the beginning of each test."""
    with Quorum() as nodes:
        yield nodes


def test_a_primary_that_is_killed_loses_nothing(quorum: Quorum) -> None:
    kills = soaked(3, 200)
    with load(quorum) as there:
        for _ in range(kills):
            quorum.primary.kill_postgres()
            there.until_resumed()
            quorum.until_healthy()
        there.finish(f"{kills} primaries killed")
