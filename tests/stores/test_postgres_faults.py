"""The PostgreSQL store when its database, its connection or another owner gets into its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from queuelet.core.budget import MemoryBudget
from queuelet.core.message import DeliveryRecord
from queuelet.definition import Durability, MessageState, StoreKind
from queuelet.errors import StoreFailed, StoreFull
from queuelet.stores.memory import MemoryStore
from queuelet.stores.postgres import backend
from queuelet.stores.postgres.address import Address, AddressFile
from support.counts import soaked
from support.patience import patient
from support.postgres_owner import QUEUE_ID, Owner
from support.postgres_server import PostgresServer, Standby, new_schema, shared_postgres
from support.queues import make_manager
from support.relay import Relay

CLOSED_WHILE_OPENING = soaked(30, 1_000)


@pytest.fixture(scope="module")
def own() -> Iterator[PostgresServer]:
    """A PostgreSQL that tests may kill and configure."""
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture
def schema() -> str:
    """The name of a schema that no other test uses."""
    return new_schema()


@pytest.fixture
async def owner(schema: str) -> AsyncIterator[Owner]:
    """An owner in a database without faults."""
    owner = await Owner(Address(shared_postgres().url), schema).open()
    await owner.make_queue()
    yield owner
    await owner.store.close()
    shared_postgres().drop(schema)


# Two servers


async def test_another_server_waits_for_the_lease_and_then_has_every_committed_message(
    owner: Owner, schema: str
) -> None:
    added = await owner.add(3)
    other = Owner(Address(shared_postgres().url), schema)
    await other.store.open()
    assert "another server owns the queues: test" in other.store.problem
    await owner.store.close()
    await other.until_open()
    assert await other.stored() == added
    await other.store.close()


async def test_a_store_that_is_closed_while_it_opens_leaves_no_lease_behind(owner: Owner, schema: str) -> None:
    """Otherwise the next server would wait until it ends."""
    await owner.store.close()
    rng = Random(1)
    for _ in range(CLOSED_WHILE_OPENING):
        other = Owner(Address(shared_postgres().url), schema, lease=600)
        opening = asyncio.ensure_future(other.store.open())
        await asyncio.sleep(rng.uniform(0, 0.1))
        await other.store.close()
        opening.cancel()
        left = shared_postgres().sql(f"SELECT max(expires) > clock_timestamp() FROM {schema}.owners")  # noqa: S608  # our own name
        assert left == "f"


async def test_an_owner_that_was_overtaken_commits_nothing(schema: str) -> None:
    # A long lease, so that no renewal notices it before the commit does.
    owner = await Owner(Address(shared_postgres().url), schema, lease=patient(60)).open()
    await owner.make_queue()
    added = await owner.add(2)
    shared_postgres().sql(f"UPDATE {schema}.owners SET expires = '-infinity'")  # noqa: S608  # as if the server had been frozen
    other = await Owner(Address(shared_postgres().url), schema).open()
    with pytest.raises(StoreFailed, match="outcome of the call is not known"):
        await owner.add()
    assert "another server owns the queues" in owner.failures[0]
    assert await other.stored() == added
    assert await other.add() > added
    await other.store.close()
    await owner.store.close()
    shared_postgres().drop(schema)


async def test_an_owner_without_progress_for_a_lease_gives_no_message(owner: Owner) -> None:
    """Another server may give it meanwhile."""
    await owner.add(2)
    await asyncio.sleep(0)
    owner.freeze()
    with pytest.raises(StoreFailed):
        owner.messages.checkout_many(1, 1 << 20)
    await owner.until_open()
    assert await owner.stored()


async def test_lease_tokens_and_numbers_grow_with_each_owner(owner: Owner, schema: str) -> None:
    token, seq = owner.store.first_token, (await owner.add())[0]
    await owner.store.close()
    other = await Owner(Address(shared_postgres().url), schema).open()
    assert other.store.first_token > token
    assert (await other.add())[0] > seq
    assert other.store.epoch == owner.store.epoch
    await other.store.close()


async def test_leases_of_messages_outlive_their_owner(owner: Owner, schema: str) -> None:
    first, *rest = await owner.add(3)
    messages = owner.messages
    messages.checkout_many(1, 0)
    messages.deliveries[first] = DeliveryRecord(MessageState.LEASED, 1, 7, 50, 40, "w\0rker")
    messages.mark_changed([first])
    await owner.store.close()
    other = await Owner(Address(shared_postgres().url), schema).open()
    assert other.messages.deliveries[first].consumer == "w\0rker"
    assert other.messages.discard(first) == len(b"%d" % first)
    await other.commit()
    assert await other.stored() == rest
    await other.store.close()


# The connection


async def test_a_connection_that_is_cut_loses_nothing(schema: str) -> None:
    with Relay(shared_postgres().port) as relay:
        address = Address(f"postgresql://postgres@{relay.address}/postgres")
        owner = await Owner(address, schema, lease=patient(2)).open()
        await owner.make_queue()
        acked: list[int] = []
        for _ in range(soaked(5, 500)):
            acked += await owner.add(3)
            owner.failures.clear()
            relay.cut()
            await owner.failed()
            await owner.until_open()
            assert await owner.stored() == acked
        await owner.store.close()


async def test_a_connection_that_is_silent_fails_the_store_within_a_lease(schema: str) -> None:
    with Relay(shared_postgres().port) as relay:
        owner = await Owner(Address(f"postgresql://postgres@{relay.address}/postgres"), schema).open()
        await owner.make_queue()
        acked = await owner.add(3)
        relay.silence()
        with pytest.raises(StoreFailed):
            await owner.add()
        await owner.until_open()
        assert await owner.stored() in (acked, [*acked, acked[-1] + 1])
        await owner.store.close()


async def test_a_changed_connection_string_is_used_at_the_next_connection(schema: str, tmp_path: Path) -> None:
    file = tmp_path / "uri"
    file.write_text("postgresql://me:old-secret@127.0.0.1:1/postgres\n")
    owner = Owner(AddressFile(file), schema)
    await owner.store.open()
    assert "127.0.0.1" in owner.store.problem
    assert "old-secret" not in owner.store.problem
    file.write_text(shared_postgres().url + "\n")
    await owner.until_open()
    await owner.store.close()


# The database


async def test_a_database_that_is_killed_loses_nothing_that_was_committed(own: PostgresServer, schema: str) -> None:
    owner = await Owner(Address(own.url), schema, lease=patient(2)).open()
    await owner.make_queue()
    acked: list[int] = []
    for _ in range(soaked(3, 200)):
        acked += await owner.add(5)
        own.kill()
        await owner.failed()
        owner.failures.clear()
        own.start()
        await owner.until_open()
        assert await owner.stored() == acked
    await owner.store.close()


async def test_a_commit_whose_wait_for_a_standby_is_cancelled_is_not_confirmed(
    own: PostgresServer, schema: str
) -> None:
    """PostgreSQL reports it as committed, with a warning, although no standby has it."""
    owner = await Owner(Address(own.url), schema, lease=patient(60)).open()
    await owner.make_queue()
    assert owner.store.durability is Durability.DISK
    own.configure(synchronous_standby_names="missing")
    try:
        adding = asyncio.ensure_future(owner.add())
        waiting = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        while own.sql(waiting) == "0":
            assert not adding.done()
            await asyncio.sleep(0.05)
        with pytest.raises(StoreFailed, match="outcome of the call is not known"):
            await adding
        assert "does not confirm a commit" in owner.failures[0]
    finally:
        own.configure(synchronous_standby_names="")
    await owner.until_open()
    assert len(await owner.stored()) <= 1
    await owner.store.close()


async def test_the_durability_is_that_of_the_database_at_each_commit(own: PostgresServer, schema: str) -> None:
    standby = Standby(own)
    try:
        owner = await Owner(Address(own.url), schema, lease=patient(60)).open()
        await owner.make_queue()
        seen = [owner.store.durability]
        own.configure(synchronous_standby_names="ANY 1 (standby)")
        await owner.add()
        seen.append(owner.store.durability)
        assert own.sql(f"SELECT is_replicated FROM {schema}.owners") == "t"  # noqa: S608  # our own names
        own.configure(synchronous_standby_names="")
        # Its response would say that it is replicated.
        with pytest.raises(StoreFailed, match="outcome of the call is not known"):
            await owner.add()
        assert "does not replicate commits any more" in owner.failures[0]
        await owner.until_open()
        await owner.add()
        assert [*seen, owner.store.durability] == [Durability.DISK, Durability.REPLICATED, Durability.DISK]
        assert own.sql(f"SELECT is_replicated FROM {schema}.owners") == "f"  # noqa: S608  # our own names
        await owner.store.close()
    finally:
        own.configure(synchronous_standby_names="")
        standby.stop()


async def test_no_add_is_answered_while_all_standbys_are_down(own: PostgresServer, schema: str) -> None:
    owner = await Owner(Address(own.url), schema).open()
    await owner.make_queue()
    acked = await owner.add()
    own.configure(synchronous_standby_names="missing")
    try:
        with pytest.raises(StoreFailed):
            await owner.add()
        assert owner.store.problem
    finally:
        own.configure(synchronous_standby_names="")
    await owner.until_open()
    assert set(acked) <= set(await owner.stored())
    await owner.store.close()


async def test_a_database_that_went_back_in_time_gets_a_new_epoch(schema: str) -> None:
    database = PostgresServer()
    try:
        owner = await Owner(Address(database.url), schema).open()
        await owner.make_queue()
        before = await owner.add()
        database.stop(keep=True)
        database.copy_to("older")
        database.start()
        owner.opened.clear()
        await owner.until_open()
        epoch = owner.store.epoch
        await owner.add()
        database.stop(keep=True)
        database.replace_by("older")
        owner.opened.clear()
        database.start()
        await owner.until_open()
        assert owner.store.epoch != epoch
        assert await owner.stored() == before
        await owner.store.close()
    finally:
        with suppress(ProcessLookupError):
            database.stop()


async def test_a_full_disk_of_the_database_refuses_messages_until_it_has_space(owner: Owner, schema: str) -> None:
    acked = await owner.add()
    sql = shared_postgres().sql
    sql(
        f"SET search_path = {schema}; CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END $$; "
        "CREATE TRIGGER refuse BEFORE INSERT ON messages EXECUTE FUNCTION refuse()"
    )
    adding = asyncio.ensure_future(owner.add())
    async with asyncio.timeout(patient(30)):
        while not owner.store.problem:  # noqa: ASYNC110  # it is noted in a callback
            await asyncio.sleep(0.01)
    assert owner.store.problem_reason == "STORE_FULL"
    with pytest.raises(StoreFull, match="disk of PostgreSQL is full"):
        owner.store.check_room()
    assert not adding.done()
    sql(f"DROP TRIGGER refuse ON {schema}.messages")
    acked += await adding
    assert await owner.stored() == acked
    async with asyncio.timeout(patient(30)):
        while owner.store.problem:  # it is noted in a callback
            await asyncio.sleep(0.05)
            await owner.add()


@pytest.mark.parametrize(("setting", "value"), [("fsync", "off"), ("full_page_writes", "off")])
async def test_a_database_that_would_lose_messages_in_a_crash_is_refused(
    own: PostgresServer, schema: str, setting: str, value: str
) -> None:
    own.configure(**{setting: value})
    try:
        owner = Owner(Address(own.url), schema)
        await owner.store.open()
        assert f"{setting}: {value} is not allowed" in owner.store.problem
        assert f"set {setting} = on" in owner.store.problem
        await owner.store.close()
    finally:
        own.configure(**{setting: "on"})


async def test_tables_of_a_newer_program_are_left_alone(owner: Owner, schema: str) -> None:
    shared_postgres().sql(f"UPDATE {schema}.schema_version SET version = 99")  # noqa: S608  # our own names
    other = Owner(Address(shared_postgres().url), schema)
    await other.store.open()
    assert "version 99, which is newer than this program" in other.store.problem
    await other.store.close()


# Rows


async def test_a_damaged_message_is_set_aside(owner: Owner, schema: str) -> None:
    added = await owner.add(3)
    await owner.store.close()
    shared_postgres().sql(f"UPDATE {schema}.messages SET body = 'x' WHERE place & 1099511627775 = {added[1]}")  # noqa: S608  # our own names
    other = await Owner(Address(shared_postgres().url), schema).open()
    assert await other.stored() == [added[0], added[2]]
    assert other.messages.damaged == 1
    await other.store.close()


async def test_the_rows_of_a_dropped_queue_are_deleted_in_the_background(owner: Owner, schema: str) -> None:
    await owner.add(2_500)
    owner.store.drop(QUEUE_ID)
    await owner.commit()
    async with asyncio.timeout(patient(30)):
        for table in ("messages", "dropped"):
            while shared_postgres().sql(f"SELECT count(*) FROM {schema}.{table}") != "0":  # noqa: ASYNC110, S608  # our own names
                await asyncio.sleep(0.05)


async def test_the_space_of_removed_messages_is_used_again(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the owner's own VACUUM, the table would grow until the database vacuums it, once a minute."""
    monkeypatch.setattr(backend, "_VACUUM_EVERY", 0.1)
    sizes: list[int] = []
    for _ in range(8):
        for _ in range(5):
            seqs = await owner.add(1_000)
            assert owner.messages.take_many(1_000, 1 << 30)[0] == seqs
            await owner.commit()
        owner.store._backend.table_bytes = 0  # noqa: SLF001  # to see the next VACUUM
        async with asyncio.timeout(patient(30)):
            while not owner.store.stats().table_bytes:  # it is in the background
                await asyncio.sleep(0.05)
                added = await owner.add()
                assert owner.messages.take_many(1, 1 << 30)[0] == added
        sizes.append(owner.store.stats().table_bytes)
    assert owner.store.stats().dead_rows < 10_000
    assert max(sizes[4:]) <= 1.5 * max(sizes[:4])


@pytest.mark.parametrize("was_loaded", [False, True], ids=["at first", "again"])
async def test_no_queue_is_said_to_be_missing_when_the_store_fails_while_its_queues_are_loaded(
    owner: Owner,
    was_loaded: bool,  # noqa: FBT001  # of pytest
) -> None:
    """A client would take it for deleted."""
    (seq,) = await owner.add()
    owner.messages.checkout_many(1, 0)
    owner.messages.deliveries[seq] = DeliveryRecord(MessageState.LEASED, 1, 7, 50, 40, "worker")
    owner.messages.mark_changed([seq])
    await owner.commit()
    store = owner.store
    manager = make_manager(store=lambda _: store if was_loaded else MemoryStore(MemoryBudget(1 << 30)))
    manager.stores = {StoreKind.POSTGRES: store}
    used = manager.budget.used

    def suspend(why: str) -> None:
        owner.failures.append(why)
        owner.opened.clear()
        manager.suspend(StoreKind.POSTGRES, StoreFailed(why))

    store._on_failed = suspend  # noqa: SLF001  # as a server does
    owner.freeze()
    with pytest.raises(StoreFailed):  # when the lease of the message ends
        manager.load(StoreKind.POSTGRES, now=100)
    for reference in ("a", QUEUE_ID):
        with pytest.raises(StoreFailed):
            manager.get(reference).advance(101)
    owner.failures.clear()
    await owner.until_open()
    manager.load(StoreKind.POSTGRES, now=102)
    assert manager.get("a").id == QUEUE_ID
    manager.delete(manager.get("a"))
    assert manager.budget.used == (0 if was_loaded else used)
