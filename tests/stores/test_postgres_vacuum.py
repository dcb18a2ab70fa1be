"""Removed messages that the database may not forget yet: how many there are, and that they are noticed to be gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from queuelet.stores.postgres import backend
from queuelet.stores.postgres.address import Address
from queuelet.stores.postgres.driver import connect
from support.patience import patient
from support.postgres_owner import Owner
from support.postgres_server import new_schema, shared_postgres


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(patient(30)):
        while not holds():  # noqa: ASYNC110  # a figure changes in the background
            await asyncio.sleep(0.02)


async def test_dead_rows_are_counted_while_a_transaction_holds_them_back_and_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The end is noticed although no more messages are removed, so that an alert ends by itself."""
    monkeypatch.setattr(backend, "_VACUUM_EVERY", 0.1)
    monkeypatch.setattr(backend, "_VACUUM_HELD_BACK_EVERY", 0.1)
    address, schema = Address(shared_postgres().url), new_schema()
    owner = await Owner(address, schema).open()
    session = await connect(address, schema=schema, seconds=patient(5))
    try:
        await owner.make_queue()
        await session.run("SET idle_in_transaction_session_timeout = 0")
        await session.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await session.fetch("SELECT count(*) FROM messages")
        for _ in range(5):
            added = await owner.add(1_000)
            assert owner.messages.take_many(1_000, 1 << 30)[0] == added
            await owner.commit()
        await until(lambda: owner.store.stats().dead_rows >= 5_000)
        await session.run("COMMIT")
        await until(lambda: owner.store.stats().dead_rows < 1_000)
    finally:
        session.terminate()
        await owner.store.close()
        shared_postgres().drop(schema)
