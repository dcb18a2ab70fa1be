"""`queuelet check` on queues in PostgreSQL, and what `backup` and `restore` say about them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from queuelet.core.message import DeliveryRecord, Rank
from queuelet.definition import MessageState
from queuelet.errors import StoreFailed
from queuelet.stores.durable.damage import Checked
from queuelet.stores.durable.places import SEQ_BITS
from queuelet.stores.postgres.address import Address
from queuelet.stores.postgres.check import RESTORE, SET_ASIDE, check_tables
from support.commands import Cli
from support.postgres_harness import QUEUE_ID, PostgresHarness
from support.postgres_owner import Owner
from support.postgres_server import PostgresServer, new_schema, shared_postgres

MARK = b"the body of the fifth message"


@pytest.fixture
def harness() -> Iterator[PostgresHarness]:
    """A store with ten messages in one queue."""
    harness = PostgresHarness()
    messages = harness.open()
    for seq in range(1, 10):
        messages.append(seq, MARK if seq == 5 else b"message %d" % seq)
    messages.keep(10, b"ranked", Rank(1, 2, 3, 4))
    messages.store_response(b"key", 10, b"response")
    messages.deliveries[10] = DeliveryRecord(MessageState.LEASED, 1, 7, 50, 40, "worker")
    messages.mark_changed([10])
    messages.tally.next_seq = 11
    harness.commit()
    yield harness
    harness.close()


def checked(harness: PostgresHarness) -> Checked:
    """Check the store of a harness, which goes on using it."""
    return asyncio.run(check_tables(Address(shared_postgres().url), harness.schema, lambda _: None))


def change(harness: PostgresHarness, statement: str) -> None:
    """Change the tables of a harness."""
    shared_postgres().sql(f"SET search_path = {harness.schema}; {statement}")


def test_a_store_in_use_has_no_problems(harness: PostgresHarness) -> None:
    assert checked(harness) == Checked([], "")
    harness.messages.take()
    harness.commit()
    assert checked(harness) == Checked([], "")


@pytest.mark.parametrize(
    ("statement", "problems", "remedy"),
    [
        (
            "UPDATE messages SET body = set_byte(body, 3, get_byte(body, 3) # 1) WHERE place & 7 = 5",
            [f"message 5 of queue {QUEUE_ID} is damaged: its checksum is wrong"],
            SET_ASIDE,
        ),
        (
            "UPDATE ranks SET due = due + 1",
            ["a row of ranks is damaged: its checksum is wrong (key PLACE10)"],
            SET_ASIDE,
        ),
        (
            "UPDATE deliveries SET consumer = 'another'",
            ["a row of deliveries is damaged: its checksum is wrong (key PLACE10)"],
            SET_ASIDE,
        ),
        ("UPDATE answers SET answer = ''", ["a row of answers is damaged: its checksum is wrong (key 1)"], SET_ASIDE),
        (
            "UPDATE queues SET definition = replace(definition, 'orders', 'orderz')",
            ["a row of queues is damaged: its checksum is wrong (key 1)"],
            RESTORE,
        ),
        (
            "DELETE FROM messages WHERE place & 7 = 5",
            [f"queue {QUEUE_ID} holds 9 messages of 78 bytes, but its counts say 10 of 107"],
            RESTORE,
        ),
        (
            "DELETE FROM messages WHERE place & 15 = 10",
            [
                f"queue {QUEUE_ID} holds 9 messages of 101 bytes, but its counts say 10 of 107",
                "1 rows of ranks belong to no message",
                "1 rows of deliveries belong to no message",
            ],
            RESTORE,
        ),
        (
            "DELETE FROM queues",
            [
                "10 rows of messages belong to no queue",
                "1 rows of ranks belong to no queue",
                "1 rows of deliveries belong to no queue",
                "1 rows of answers belong to no queue",
            ],
            RESTORE,
        ),
        ("DELETE FROM owners", ["the store has no epoch"], RESTORE),
    ],
)
def test_each_problem_is_named_with_what_to_do(
    harness: PostgresHarness, statement: str, problems: list[str], remedy: str
) -> None:
    place = (1 << SEQ_BITS) + 10
    change(harness, statement)
    found = checked(harness)
    assert found.problems == [each.replace("PLACE10", str(place)) for each in problems]
    assert found.remedy == remedy


def test_a_damaged_message_that_was_set_aside_is_named_as_such(harness: PostgresHarness) -> None:
    change(harness, "UPDATE messages SET body = 'x' WHERE place & 7 = 5")
    assert [seq for seq, _ in harness.restart().after(0, 100, 1 << 30)] == [1, 2, 3, 4, 6, 7, 8, 9, 10]
    harness.commit()
    assert checked(harness).problems == [
        f"message 5 of queue {QUEUE_ID} is damaged, and set aside: its checksum is wrong"
    ]


def test_many_messages_are_read_in_slices(harness: PostgresHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("queuelet.stores.postgres.check._ROWS", 3)
    monkeypatch.setattr("queuelet.stores.postgres.check._BYTES", 20)
    change(harness, "UPDATE messages SET body = 'x' WHERE place & 3 = 1")
    assert len(checked(harness).problems) == 4  # the counts and three messages


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        ("DROP TABLE schema_version", "there are no queues in schema test"),
        ("UPDATE schema_version SET version = 99", "version 99, which is newer than this program"),
    ],
)
def test_what_cannot_be_checked_is_refused(harness: PostgresHarness, prepare: str, why: str) -> None:
    change(harness, prepare)
    with pytest.raises(StoreFailed, match=why):
        checked(harness)


@pytest.mark.parametrize("is_ignored", [False, True], ids=["the database notices", "only the checksum of the row does"])
async def test_a_byte_that_was_flipped_on_the_disk_of_the_database_is_found(*, is_ignored: bool) -> None:
    database = PostgresServer()
    try:
        owner = await Owner(Address(database.url), "queuelet").open()
        await owner.make_queue()
        owner.messages.append(1, MARK)
        owner.messages.tally.next_seq = 2
        await owner.commit()
        await owner.store.close()
        database.sql("CHECKPOINT")
        database.sql(f"ALTER SYSTEM SET ignore_checksum_failure = {'on' if is_ignored else 'off'}")
        database.stop(keep=True)
        flip(database.folder)
        database.start()
        found = await check_tables(Address(database.url), "queuelet", lambda _: None)
        if is_ignored:
            assert found == Checked([f"message 1 of queue {QUEUE_ID} is damaged: its checksum is wrong"], SET_ASIDE)
        else:
            assert found.remedy == RESTORE
            assert "the table messages cannot be read: PostgreSQL: invalid page" in found.problems[0]
            owner = Owner(Address(database.url), "queuelet")
            await owner.store.open()
            if not owner.store.problem:  # otherwise it was noticed at once
                with suppress(StoreFailed):
                    await owner.stored()
            assert "stop the server, then restore a backup of the database" in (
                owner.store.problem or owner.failures[0]
            )
            await owner.store.close()
    finally:
        database.stop()


def flip(folder: Path) -> None:
    """Flip a bit of the marked body in the files of a database."""
    flipped = 0
    for file in (folder / "base").rglob("*"):
        if file.is_file() and (at := file.read_bytes().find(MARK)) >= 0:
            with file.open("r+b") as content:
                content.seek(at)
                content.write(bytes([MARK[0] ^ 1]))
            flipped += 1
    assert flipped == 1


def test_the_command_prints_problems_and_exits_with_1(harness: PostgresHarness, tmp_path: Path) -> None:
    file = tmp_path / "uri"
    file.write_text(shared_postgres().url)
    arguments = ("check", "--postgres-file", str(file), "--postgres-schema", harness.schema)
    where = {"postgres_file": str(file), "postgres_schema": harness.schema}
    sound = Cli("")(*arguments)
    assert (sound.code, sound.json) == (0, {**where, "problems": [], "remedy": ""})
    change(harness, "UPDATE messages SET body = 'x' WHERE place & 7 = 5")
    damaged = Cli("")(*arguments)
    assert damaged.code == 1
    assert len(damaged.json["problems"]) == 2
    missing = Cli("")(*arguments[:-1], new_schema())
    assert (missing.code, missing.out) == (1, b"")
    assert "there are no queues in schema" in missing.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("backup", "--postgres-file", "uri", "copy"), "pg_dump, or the backups of CloudNativePG"),
        (("restore", "--postgres", "postgresql://db", "copy"), "with the tools of the database"),
        (("check",), "give one of them"),
        (("check", "--data-dir", ".", "--postgres-file", __file__), "give one of them"),
        (("check", "--postgres-file", __file__, "--postgres-schema", "A"), "use lower-case letters"),
    ],
)
def test_a_command_that_is_not_for_postgres_or_lacks_a_store_says_what_to_use(
    arguments: tuple[str, ...], words: str
) -> None:
    refused = Cli("")(*arguments)
    assert refused.code == 2
    assert words in refused.err


def test_the_queues_of_a_dump_are_complete_and_get_the_epoch_that_its_administrator_sets(
    harness: PostgresHarness,
) -> None:
    """As docs/postgres.md says."""
    server, schema = shared_postgres(), harness.schema
    dumped = server.root / f"{schema}.sql"
    harness.loop.run_until_complete(harness.store.close())
    dumped.write_text(server.run("pg_dump", f"--dbname={server.url}", f"--schema={schema}"))
    server.drop(schema)
    server.run("psql", f"--dbname={server.url}", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={dumped}")
    change(harness, "UPDATE owners SET store_epoch = gen_random_uuid()")
    epoch, token = harness.store.epoch, harness.store.first_token
    harness.store = harness._start()  # noqa: SLF001  # as after a restart
    assert [seq for seq, _ in harness.messages.after(0, 100, 1 << 30)] == list(range(1, 11))
    assert harness.store.epoch != epoch
    assert harness.store.first_token > token
    assert checked(harness) == Checked([], "")
