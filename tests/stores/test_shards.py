"""Shards: which server takes and gives up which, and the stores of several shards in the same tables."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuelet.core.budget import MemoryBudget
from queuelet.definition import QueueDefinition, StoreKind
from queuelet.server.directory import shard_of
from queuelet.stores.durable.places import MAX_NUMBER
from queuelet.stores.postgres.address import Address
from queuelet.stores.postgres.check import check_tables
from queuelet.stores.postgres.driver import connect
from queuelet.stores.postgres.members import Members, Plan, ShardRow, plan
from queuelet.stores.postgres.migrations import OtherShards, prepare, version_of
from queuelet.stores.postgres.numbers import MAX_SHARDS, numbers_of, ordinals_of, places_of
from queuelet.stores.postgres.registry import Registry
from queuelet.stores.postgres.schema import VERSION
from queuelet.stores.postgres.settings import PostgresSettings
from queuelet.stores.postgres.store import PostgresStore
from support.patience import patient
from support.postgres_server import new_schema, shared_postgres

# What a server decides


def members(servers: str, *owners: str) -> Members:
    """Return members: a letter for each server, and the owner of each shard.

    A shard without an owner is `-`. The lease of an owner in capitals has lapsed.
    """
    rows = [
        ShardRow(
            shard=shard,
            address=owner.lower(),
            holder=UUID(int=0),
            epoch=1,
            store_epoch="e",
            seconds_left=None if owner == "-" else -1.0 if owner.isupper() else 5.0,
        )
        for shard, owner in enumerate(owners)
    ]
    return Members(servers=tuple(servers), shards=tuple(rows))


def decided(here: str, servers: str, owners: str, left_over: tuple[int, ...] = ()) -> Plan:
    """Return what a server does, with the taken shards in order."""
    held = [shard for shard, owner in enumerate(owners) if owner == here]
    found = plan(members(servers, *owners), here, held, left_over)
    return Plan(take=tuple(sorted(found.take)), give=found.give)


@pytest.mark.parametrize(
    ("here", "servers", "owners", "takes", "gives"),
    [
        ("a", "a", "----", 4, ()),
        ("a", "ab", "aaaa", 0, (2, 3)),
        ("b", "ab", "aa--", 2, ()),
        ("a", "abc", "aabb", 0, (1,)),
        ("b", "abc", "aabb", 0, ()),
        ("a", "abc", "a-bb", 0, ()),
        ("c", "abc", "a-bb", 1, ()),
        ("b", "ab", "a", 0, ()),
        ("b", "b", "a", 0, ()),
        # The dead owner's entry has not expired yet, but its lease on a shard has: its part is free for the others.
        ("a", "ab", "aaBB", 2, ()),
        ("a", "abc", "aBBc", 1, ()),
    ],
)
def test_a_server_takes_its_part_and_leaves_the_others_theirs(
    here: str, servers: str, owners: str, takes: int, gives: tuple[int, ...]
) -> None:
    found = decided(here, servers, owners)
    assert len(found.take) == takes
    assert found.give == gives


def test_a_shard_that_no_other_server_takes_is_taken_by_one_that_has_its_part() -> None:
    assert decided("a", "abc", "a-bb") == Plan()
    assert decided("a", "abc", "a-bb", (1,)) == Plan(take=(1,))


@given(
    count=st.integers(1, 12),
    events=st.lists(st.tuples(st.sampled_from(["join", "leave", "die"]), st.integers(0, 5)), max_size=12),
    order=st.randoms(use_true_random=False),
)
def test_after_joins_and_leaves_all_servers_have_even_parts_and_nothing_moves_any_more(
    count: int, events: list[tuple[str, int]], order: object
) -> None:
    owners: list[str] = ["-"] * count
    servers = {"a"}
    for event, number in events:
        name = "abcdef"[number]
        if event == "join":
            servers.add(name)
        elif len(servers) > 1 and name in servers:
            servers.discard(name)
            lapsed = name.upper() if event == "die" else "-"
            owners = [lapsed if owner == name else owner for owner in owners]
        for _ in range(4 * count + 4):
            if not _round(servers, owners, order):
                break
        else:
            raise AssertionError("the servers never stop moving shards")
        parts = Counter({name: owners.count(name) for name in servers})
        assert sum(parts.values()) == count
        assert max(parts.values()) - min(parts.values()) <= 1


def _round(servers: set[str], owners: list[str], order: object) -> bool:
    """Have each server decide once, one after the other; return whether something has moved."""
    has_moved = False
    for here in order.sample(sorted(servers), len(servers)):  # type: ignore[attr-defined]  # a `random.Random`
        found = decided(here, "".join(sorted(servers)), "".join(owners))
        for shard in found.take:
            owners[shard] = here
        for shard in found.give:
            owners[shard] = "-"
        has_moved = has_moved or bool(found.take or found.give)
    return has_moved


# Numbers


@given(count=st.integers(1, MAX_SHARDS))
def test_the_numbers_of_shards_do_not_overlap_and_one_shard_has_all(count: int) -> None:
    ranges = [numbers_of(shard, count) for shard in range(count)]
    assert ranges[0].start == 1
    assert ranges[-1].stop - 1 <= MAX_NUMBER
    assert all(one.stop == next_one.start for one, next_one in pairwise(ranges))
    assert places_of(count - 1, count)[1] < 1 << 63
    assert numbers_of(0, 1) == range(1, MAX_NUMBER + 1)


def test_the_shard_of_a_name_never_changes() -> None:
    """The shard of a queue is in its row, but servers look for queues that do not exist by their names."""
    assert [shard_of(name, 8) for name in ("orders", "a", "größe")] == [6, 3, 1]


# Stores in the same tables


@pytest.fixture
async def schema() -> AsyncIterator[str]:
    """A schema without tables."""
    schema = new_schema()
    yield schema
    shared_postgres().drop(schema)


def settings(schema: str, shard: int = 0, shards: int = 2, *, waits: bool = False) -> PostgresSettings:
    """Return the settings of a shard's store."""
    return PostgresSettings(
        address=Address(shared_postgres().url),
        schema=schema,
        name=f"server-{shard}",
        lease_seconds=60,
        connect_seconds=patient(3),
        shard=shard,
        shards=shards,
        waits_for_lease=waits,
    )


async def opened(settings: PostgresSettings) -> PostgresStore:
    """Return an open store."""
    store = PostgresStore(settings, budget=MemoryBudget(1 << 50))
    await store.open()
    assert not store.problem, store.problem
    return store


async def test_stores_of_two_shards_write_at_once_and_each_loads_only_its_queues(schema: str) -> None:
    stores = await asyncio.gather(*(opened(settings(schema, shard)) for shard in range(2)))
    ids: list[list[str]] = []
    for shard, store in enumerate(stores):
        ids.append([str(uuid4()) for _ in range(3)])
        for number, queue_id in enumerate(ids[-1]):
            definition = QueueDefinition(store=StoreKind.POSTGRES, name=f"{shard}-{number}")
            messages = store.new(queue_id, 1, definition)
            messages.append(1, b"%d" % shard)
    await asyncio.gather(*(commit for store in stores if (commit := store.commit()) is not None))
    await asyncio.gather(*(store.close() for store in stores))
    checked = await check_tables(Address(shared_postgres().url), schema, lambda _: None)
    assert not checked.problems
    stores = await asyncio.gather(*(opened(settings(schema, shard)) for shard in range(2)))
    assert [[each.queue_id for each in store.queues()] for store in stores] == ids
    assert all(len(each.messages) == 1 for store in stores for each in store.queues())
    rows = shared_postgres().sql(f"SELECT shard, number, ordinal FROM {schema}.queues").splitlines()  # noqa: S608  # our own name
    for shard, number, ordinal in (map(int, row.split("|")) for row in rows):
        assert number in numbers_of(shard, 2)
        assert ordinal in ordinals_of(shard)
    assert len({store.epoch for store in stores}) == 1
    await asyncio.gather(*(store.close() for store in stores))


async def test_a_store_that_does_not_wait_leaves_a_shard_to_its_owner(schema: str) -> None:
    owner = await opened(settings(schema))
    other = PostgresStore(settings(schema), budget=MemoryBudget(1 << 50))
    await other.open()
    assert "another server owns the queues: server-0" in other.problem
    assert other.is_owned_by_another
    await other.close()
    await owner.close()


async def test_tables_with_another_number_of_shards_are_left_alone(schema: str) -> None:
    connection = await connect(Address(shared_postgres().url), schema=schema, seconds=patient(5))
    try:
        await prepare(connection, schema, 3)
        await prepare(connection, schema, 3)
        with pytest.raises(OtherShards, match=r"--shards: 1 is not possible.* have 3, .* with --shards 3"):
            await prepare(connection, schema, 1)
    finally:
        connection.terminate()


async def test_tables_of_version_1_are_migrated_while_their_owner_goes_on(schema: str) -> None:
    owner = await opened(settings(schema, shards=1))
    shared_postgres().sql(f"DROP TABLE {schema}.servers; UPDATE {schema}.schema_version SET version = 1")  # noqa: S608  # our own name
    connections = [await connect(Address(shared_postgres().url), schema=schema, seconds=patient(5)) for _ in range(2)]
    try:
        await asyncio.gather(*(prepare(connection, schema, 1) for connection in connections))
        assert await version_of(connections[0]) == VERSION
        assert await connections[0].fetch("SELECT * FROM servers") == []
        owner.new(str(uuid4()), 1, QueueDefinition(store=StoreKind.POSTGRES, name="a"))
        commit = owner.commit()
        assert commit is not None
        await commit
    finally:
        for connection in connections:
            connection.terminate()
        await owner.close()


async def test_a_registry_lists_servers_until_they_leave_and_others_hear_of_it(schema: str) -> None:
    heard = asyncio.Event()
    one = Registry(settings(schema, 0), heard.set)
    two = Registry(settings(schema, 1), lambda: None)
    try:
        await one.beat()
        heard.clear()
        assert (await two.beat()).servers == ("server-0", "server-1")
        await asyncio.wait_for(heard.wait(), patient(10))
        heard.clear()
        assert (await two.beat(is_leaving=True)).servers == ("server-0",)
        await asyncio.wait_for(heard.wait(), patient(10))
        assert await one.find(str(uuid4())) is None
    finally:
        await one.close()
        await two.close()
