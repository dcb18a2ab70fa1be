"""What the PostgreSQL store reads, and that a call which it repeats changes nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import pytest

from queuelet.core.message import DeliveryRecord
from queuelet.core.storage import Messages, NotLoaded
from queuelet.definition import MessageState, QueueDefinition, StoreKind
from queuelet.errors import StoreFailed
from queuelet.stores.durable import checksums
from queuelet.stores.durable.messages import DurableMessages
from queuelet.stores.postgres.address import Address
from queuelet.stores.postgres.driver import Row
from queuelet.stores.postgres.reader import PostgresReader
from support.patience import patient
from support.postgres_owner import Owner
from support.postgres_server import new_schema, shared_postgres
from support.turns_relay import TurnsRelay

FIRST, SECOND, THIRD = (b"%08d-1111-4222-8333-444455556666" % number for number in range(3))

T = TypeVar("T")


@pytest.fixture
async def owner() -> AsyncIterator[Owner]:
    """An owner whose queue has no messages."""
    schema = new_schema()
    owner = await Owner(Address(shared_postgres().url), schema).open()
    await owner.make_queue()
    yield owner
    await owner.store.close()
    shared_postgres().drop(schema)


async def loads_of(work: Callable[[], T]) -> tuple[T, int]:
    """Repeat some work until it has what it reads; return its result, and how often it had to wait."""
    waits = 0
    while True:
        try:
            return work(), waits
        except NotLoaded as missing:
            waits += 1
            await asyncio.shield(asyncio.ensure_future(missing.loading))


def count_statements(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which each statement is added that reads for calls which consumers wait for."""
    connection = owner.store._backend.reader  # noqa: SLF001  # only tests count
    assert connection
    fetch, statements = connection.fetch, []

    async def counted(statement: str, *arguments: object, seconds: float | None = None) -> list[Row]:
        statements.append(statement)
        return await fetch(statement, *arguments, seconds=seconds)

    monkeypatch.setattr(connection, "fetch", counted)
    return statements


def add(owner: Owner, own_id: bytes = b"", size: int = 10) -> int:
    """Add a message without waiting for its commit."""
    messages = owner.messages
    seq = messages.tally.next_seq
    messages.tally.next_seq = seq + 1
    messages.append(seq, bytes(size), own_id)
    return seq


def number_of(owner: Owner) -> int:
    """Return the number under which the rows of the queue are stored."""
    messages = owner.messages
    assert isinstance(messages, DurableMessages)
    return messages.record.number


async def test_ids_that_were_announced_are_read_at_once_while_others_are_added(owner: Owner) -> None:
    """Otherwise a batch would be repeated after its first messages were added."""
    await loads_of(lambda: owner.messages.require((), [FIRST, SECOND]))
    add(owner, FIRST)
    assert owner.messages.seq_of(SECOND) is None


async def test_many_ids_are_read_in_one_round_trip(owner: Owner) -> None:
    first, second = add(owner, FIRST), add(owner, SECOND)
    await owner.commit()
    _, waits = await loads_of(lambda: owner.messages.require((), [FIRST, SECOND, THIRD]))
    assert waits == 1
    assert [owner.messages.seq_of(each) for each in (FIRST, SECOND, THIRD)] == [first, second, None]
    assert owner.messages.get(second) == bytes(10)


async def test_many_calls_with_ids_share_few_round_trips(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    add(owner, FIRST)
    await owner.commit()
    statements = count_statements(owner, monkeypatch)
    ids = [b"%08d-2222-4222-8333-444455556666" % number for number in range(64)]

    def find(own_id: bytes) -> Callable[[], int | None]:
        return lambda: owner.messages.seq_of(own_id)

    found = await asyncio.gather(*(loads_of(find(own_id)) for own_id in ids))
    assert found == [(None, 1)] * 64
    assert len(statements) <= 2


async def test_calls_on_many_queues_share_few_round_trips(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    queues = [owner.messages]
    for number in range(1, 20):
        queue_id = f"6f9c0000-0000-4000-8000-1000000000{number:02}"
        queues.append(owner.store.new(queue_id, 1, QueueDefinition(store=StoreKind.POSTGRES, name="b")))
    await owner.commit()
    # Each has the same ID, so that none may be confused with another.
    for number, messages in enumerate(queues):
        messages.append(number + 1, b"%d" % number, FIRST)
        messages.tally.next_seq = number + 2
    await owner.commit()
    statements = count_statements(owner, monkeypatch)

    def find(messages: Messages) -> Callable[[], tuple[int | None, int | None]]:
        return lambda: (messages.seq_of(FIRST), messages.seq_of(SECOND))

    found = await asyncio.gather(*(loads_of(find(messages)) for messages in queues))
    assert [seqs for seqs, _ in found] == [(number + 1, None) for number in range(20)]
    assert len(statements) <= 4


async def test_an_id_that_was_unknown_is_found_once_a_message_with_it_is_committed(owner: Owner) -> None:
    add(owner, FIRST)
    await owner.commit()
    assert await loads_of(lambda: owner.messages.seq_of(SECOND)) == (None, 1)
    added = add(owner, SECOND)
    await owner.commit()
    assert await loads_of(lambda: owner.messages.seq_of(SECOND)) == (added, 1)


async def test_a_message_that_is_removed_while_it_is_read_stays_removed(owner: Owner) -> None:
    seqs = [add(owner) for _ in range(3)]
    await owner.commit()
    messages = owner.messages
    with pytest.raises(NotLoaded) as missing:
        messages.after(0, 9, 1 << 20)
    assert messages.take() == (seqs[0], bytes(10))
    await asyncio.gather(owner.commit(), asyncio.shield(asyncio.ensure_future(missing.value.loading)))
    found, _ = await loads_of(lambda: messages.after(0, 9, 1 << 20))
    assert [seq for seq, _ in found] == seqs[1:]
    assert (await loads_of(lambda: messages.get(seqs[0])))[0] is None


async def test_a_message_that_is_added_while_others_are_read_is_found(owner: Owner) -> None:
    seqs = [add(owner) for _ in range(3)]
    await owner.commit()
    with pytest.raises(NotLoaded) as missing:
        owner.messages.after(0, 9, 1 << 20)
    seqs.append(add(owner))
    await owner.commit()
    await asyncio.shield(asyncio.ensure_future(missing.value.loading))
    found, _ = await loads_of(lambda: owner.messages.after(0, 9, 1 << 20))
    assert [seq for seq, _ in found] == seqs


async def test_a_read_that_was_requested_before_a_clear_is_not_found_by_a_later_queue(owner: Owner) -> None:
    """The number under which it read is used again once its rows are deleted."""
    add(owner, FIRST)
    await owner.commit()
    number = number_of(owner)
    with pytest.raises(NotLoaded) as missing:
        owner.messages.seq_of(FIRST)
    owner.messages.clear()
    await asyncio.shield(asyncio.ensure_future(missing.value.loading))
    async with asyncio.timeout(patient(30)):
        while number_of(owner) != number:
            owner.messages.clear()
            await owner.commit()
            await asyncio.sleep(0.01)  # rows are deleted in the background
    add(owner, SECOND)
    await owner.commit()
    assert (await loads_of(lambda: owner.messages.seq_of(FIRST)))[0] is None


async def test_reads_that_were_requested_before_a_clear_hold_no_memory(owner: Owner) -> None:
    budget = owner.store._budget  # noqa: SLF001  # only tests look
    idle = budget.used
    seqs = [add(owner, FIRST if not number else b"") for number in range(3_000)]
    await owner.commit()
    requests: list[Callable[[], object]] = [
        lambda: owner.messages.seq_of(FIRST),
        lambda: owner.messages.require(seqs[2_000:], [FIRST]),
        lambda: owner.messages.after(0, 1_000, 1 << 20),
    ]
    requested = []
    for request in requests:
        with pytest.raises(NotLoaded) as missing:
            request()
        requested.append(asyncio.ensure_future(missing.value.loading))
    owner.messages.clear()
    await asyncio.gather(*requested)
    assert budget.used == idle


async def test_a_read_that_ends_after_the_store_was_closed_holds_no_memory(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    seqs = [add(owner) for _ in range(1_000)]
    await owner.commit()
    await owner.store.close()
    other = await Owner(owner.store._settings.address, owner.store._settings.schema).open()  # noqa: SLF001  # of a test
    connection = other.store._backend.reader  # noqa: SLF001  # only tests delay
    assert connection
    fetch, closings = connection.fetch, []

    async def fetch_and_close(statement: str, *arguments: object, seconds: float | None = None) -> list[Row]:
        rows = await fetch(statement, *arguments, seconds=seconds)
        closings.append(asyncio.create_task(other.store.close()))  # it runs while the rows are verified
        return rows

    monkeypatch.setattr(connection, "fetch", fetch_and_close)
    with pytest.raises(NotLoaded) as missing:
        other.messages.require(seqs)
    reader = other.store._open_shared.reader  # noqa: SLF001  # as above
    assert isinstance(reader, PostgresReader)
    reading = set(reader._tasks)  # noqa: SLF001  # as above
    with pytest.raises(StoreFailed):
        await asyncio.shield(asyncio.ensure_future(missing.value.loading))
    await asyncio.gather(*closings)
    await asyncio.wait(reading)
    assert other.store._budget.used == 0  # noqa: SLF001  # as above


async def test_a_consumer_that_keeps_up_never_waits_for_a_read(owner: Owner) -> None:
    seqs = [add(owner) for _ in range(3_000)]
    await owner.commit()
    assert await loads_of(lambda: owner.messages.take_many(3_000, 1 << 30)[0]) == (seqs, 0)


async def test_a_backlog_is_loaded_ahead_of_its_consumer(owner: Owner) -> None:
    """Only the first call waits, because the window is filled again before it is empty."""
    seqs = [add(owner, size=100) for _ in range(6_000)]
    await owner.commit()
    await owner.store.close()
    other = await Owner(owner.store._settings.address, owner.store._settings.schema).open()  # noqa: SLF001  # of a test
    taken: list[int] = []
    total = 0
    while len(taken) < len(seqs):
        few, waits = await loads_of(lambda: other.messages.take_many(100, 1 << 20)[0])
        taken += few
        total += waits
        await other.commit()
    assert taken == seqs
    assert total <= 3
    await other.store.close()


async def test_each_group_of_changes_takes_one_round_trip() -> None:
    schema = new_schema()
    with TurnsRelay(shared_postgres().port) as relay:
        address = Address(f"postgresql://postgres@{relay.address}/postgres")
        owner = await Owner(address, schema, lease=600).open()
        await owner.make_queue()
        first = await owner.add()
        owner.messages.take()
        await owner.commit()
        before = relay.turns
        for _ in range(20):
            assert await owner.add(50) > first
            owner.messages.take_many(20, 1 << 20)
            await owner.commit()
        assert relay.turns - before == 40
        await owner.store.close()
    shared_postgres().drop(schema)


# Rows of removed messages stay in the table and its index until the next VACUUM.


async def scanned_rows(schema: str) -> int:
    """Return how many rows of messages were scanned so far, removed ones too, once no server is connected any more."""
    server = shared_postgres()
    async with asyncio.timeout(patient(30)):
        # The database counts what a connection did when it ends.
        left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'queuelet'"
        while server.sql(left) != "0":  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.02)
    table = f"relid = '{schema}.messages'::regclass"
    return sum(
        int(server.sql(f"SELECT coalesce(sum({column}), 0) FROM {view} WHERE {table}"))  # noqa: S608  # our own names
        for view, column in (("pg_stat_user_tables", "seq_tup_read"), ("pg_stat_user_indexes", "idx_tup_read"))
    )


async def test_a_server_that_takes_over_scans_no_rows_of_removed_messages(owner: Owner) -> None:
    settings = owner.store._settings  # noqa: SLF001  # of a test
    seqs = await owner.add(1_500)
    assert len(owner.messages.take_many(1_450, 1 << 20)[0]) == 1_450
    await owner.commit()
    await owner.add()  # so that a group is written that knows of the removals
    await owner.store.close()
    before = await scanned_rows(settings.schema)
    other = await Owner(settings.address, settings.schema).open()
    assert (await loads_of(lambda: other.messages.take_many(50, 1 << 20)[0]))[0] == seqs[1_450:]
    await other.store.close()
    assert await scanned_rows(settings.schema) - before <= 500


async def test_a_server_that_takes_over_reads_no_messages_unless_some_are_not_in_line(owner: Owner) -> None:
    settings = owner.store._settings  # noqa: SLF001  # of a test
    await owner.add(300)
    await owner.store.close()
    before = await scanned_rows(settings.schema)
    other = await Owner(settings.address, settings.schema).open()
    assert len(other.messages) == 300
    assert await loads_of(lambda: other.messages.seq_of(FIRST)) == (None, 0)  # no message has an ID of its own
    await other.store.close()
    assert await scanned_rows(settings.schema) == before


async def first_after_many_removals(owner: Owner, change: Callable[[Messages, int], None]) -> tuple[int, int]:
    """Check the first message out, remove many after it, and change the first; then kill the server.

    Return the number of the first message, and that of the first one in line of the server that takes over.
    """
    settings = owner.store._settings  # noqa: SLF001  # of a test
    seqs = await owner.add(1_500)
    messages = owner.messages
    assert messages.checkout_many(1, 0)[0] == seqs[:1]
    change(messages, seqs[0])
    assert messages.take_many(1_400, 1 << 20)[0] == seqs[1:1_401]
    await owner.commit()
    await owner.add()
    owner.store._backend._abandon()  # noqa: SLF001  # as if the process were killed
    await owner.store.close()
    other = await Owner(settings.address, settings.schema).open()
    found = await loads_of(lambda: other.messages.first_many(1, 0)[0])
    assert len(other.messages) == 101
    await other.store.close()
    return seqs[0], found[0][0]


def give(messages: Messages, seq: int) -> None:
    """Record a delivery."""
    messages.deliveries[seq] = DeliveryRecord(state=MessageState.LEASED)


async def test_a_message_that_was_checked_out_is_in_line_for_the_server_that_takes_over(owner: Owner) -> None:
    first, found = await first_after_many_removals(owner, lambda *_: None)
    assert found == first


async def test_a_message_whose_lease_was_not_written_is_in_line_for_the_server_that_takes_over(owner: Owner) -> None:
    def lease(messages: Messages, seq: int) -> None:
        give(messages, seq)
        messages.mark_leased([seq])

    first, found = await first_after_many_removals(owner, lease)
    assert found == first


async def test_a_message_whose_lease_was_written_is_not_in_line_for_the_server_that_takes_over(owner: Owner) -> None:
    def lease(messages: Messages, seq: int) -> None:
        give(messages, seq)
        messages.mark_changed([seq])

    first, found = await first_after_many_removals(owner, lease)
    assert found == first + 1_401


@pytest.mark.parametrize("is_returned", [True, False])
async def test_a_message_whose_lease_has_ended_is_in_line_for_the_server_that_takes_over(
    owner: Owner,
    is_returned: bool,  # noqa: FBT001  # pytest passes it
) -> None:
    settings = owner.store._settings  # noqa: SLF001  # of a test
    seqs = await owner.add(1_500)
    messages = owner.messages
    assert messages.checkout_many(1, 0)[0] == seqs[:1]
    give(messages, seqs[0])
    messages.mark_changed(seqs[:1])
    await owner.commit()
    assert messages.take_many(1_400, 1 << 20)[0] == seqs[1:1_401]
    await owner.commit()
    await owner.add()
    del messages.deliveries[seqs[0]]
    messages.mark_changed(seqs[:1])
    if is_returned:
        messages.return_to_line(seqs[0])
    await owner.commit()
    owner.store._backend._abandon()  # noqa: SLF001  # as if the process were killed
    await owner.store.close()
    other = await Owner(settings.address, settings.schema).open()
    found, _ = await loads_of(lambda: other.messages.first_many(2, 1 << 20)[0])
    assert found == [seqs[0], seqs[1_401]]
    await other.store.close()


# Reads and other calls


async def test_a_browse_delays_no_consumer(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    seqs = [add(owner, size=10_000) for _ in range(1_000)]  # more than the window holds
    await owner.commit()
    browser = owner.store._backend.browser  # noqa: SLF001  # only tests delay it
    assert browser
    fetch, may_read = browser.fetch, asyncio.Event()

    async def slow(statement: str, *arguments: object, seconds: float | None = None) -> list[Row]:
        await may_read.wait()
        return await fetch(statement, *arguments, seconds=seconds)

    monkeypatch.setattr(browser, "fetch", slow)
    browse = asyncio.ensure_future(loads_of(lambda: owner.messages.after(seqs[499], 1, 1 << 20)))
    taken, waits = await loads_of(lambda: owner.messages.take_many(1_000, 1 << 30)[0])
    assert (taken, waits > 0, browse.done()) == (seqs, True, False)
    may_read.set()
    await browse


async def test_other_calls_get_their_turn_while_many_rows_are_verified(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    seqs = [add(owner, size=10_000) for _ in range(1_000)]
    await owner.commit()
    rows = most = 0
    verify = checksums.of_message

    def counted(place: int, own_id: bytes | None, body: bytes) -> int:
        nonlocal rows
        rows += 1
        return verify(place, own_id, body)

    monkeypatch.setattr(checksums, "of_message", counted)
    reading = asyncio.ensure_future(loads_of(lambda: owner.messages.require(seqs)))
    while not reading.done():
        seen = rows
        await asyncio.sleep(0)
        most = max(most, rows - seen)
    await reading
    assert 0 < most <= 250
