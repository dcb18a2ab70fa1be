"""What the PostgreSQL store reads, and that a call which it repeats changes nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import pytest

from queuelet.core.storage import NotLoaded
from queuelet.stores.postgres.address import Address
from queuelet.stores.postgres.driver import Row
from support.postgres_owner import Owner
from support.postgres_server import new_schema, shared_postgres

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
    """Return a list to which each statement that reads is added."""
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
