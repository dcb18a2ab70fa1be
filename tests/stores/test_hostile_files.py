"""Crafted files: a restore refuses them with an error, or restores only valid rows."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest

from queuelet.core.message import Rank
from queuelet.errors import StoreFailed
from queuelet.stores.disk.backup import back_up, restore
from queuelet.stores.disk.check import check_store
from queuelet.stores.disk.data_dir import DATABASE
from queuelet.stores.disk.schema import PAGE_BYTES
from queuelet.stores.disk.verified_rows import with_checksum
from support.counts import soaked
from support.disk_harness import DiskHarness
from support.logged_process import clean_environment

VERSION_1 = Path(__file__).with_name("disk_version_1")
COUNT = 20


@pytest.fixture
def harness() -> Iterator[DiskHarness]:
    harness = DiskHarness()
    messages = harness.open()
    for seq in range(1, COUNT):
        messages.append(seq, b"message %d" % seq * seq * 20)
    messages.keep(COUNT, b"ranked", Rank(1, 2, 3, 4))
    messages.store_response(b"key", 10, b"response")
    messages.tally.next_seq = COUNT + 1
    harness.commit()
    yield harness
    harness.close()


@pytest.fixture
def backup(harness: DiskHarness, tmp_path: Path) -> Path:
    assert back_up(harness.folder, tmp_path / "backup.db").messages == COUNT
    return tmp_path / "backup.db"


def edit(path: Path, *statements: str) -> None:
    """Change a file as an attacker can."""
    with closing(apsw.Connection(str(path))) as connection:
        for statement in statements:
            connection.execute(statement)


def replace(path: Path, table: str, change: Callable[[list[Any]], None]) -> None:
    """Change the first row of a table, and update its checksum."""
    with closing(apsw.Connection(str(path))) as connection:
        row: list[Any] = list(connection.execute(f"SELECT * FROM {table}").fetchall()[0])  # noqa: S608
        connection.execute(f"DELETE FROM {table} WHERE rowid = (SELECT min(rowid) FROM {table})")  # noqa: S608
        kept = [row.pop(0)] if table == "answers" else []
        row.pop()
        change(row)
        row = [*kept, *with_checksum(table, tuple(row))]
        connection.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)  # noqa: S608


HOSTILE = {
    "trigger": "CREATE TRIGGER evil AFTER UPDATE ON meta BEGIN DELETE FROM messages; END",
    "view": "ALTER TABLE messages RENAME TO hidden; CREATE VIEW messages AS SELECT * FROM hidden",
    "endless view": """
        DROP TABLE damaged;
        CREATE VIEW damaged AS WITH RECURSIVE n(place) AS (SELECT 1 UNION ALL SELECT place + 1 FROM n LIMIT 100000000)
        SELECT place, 1 AS found, 'x' AS reason FROM n
    """,
    "another table": "CREATE TABLE more (what)",
    "another index": "CREATE INDEX slow ON messages (body)",
    "a virtual table": "CREATE VIRTUAL TABLE words USING fts5(word)",
    "another definition": "ALTER TABLE messages ADD COLUMN more TEXT",
    "a missing table": "DROP TABLE ranks",
    "a generated column": "ALTER TABLE meta ADD COLUMN more INTEGER AS (1)",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_backup_with_other_tables_is_refused_and_the_store_stays(
    harness: DiskHarness, backup: Path, tmp_path: Path, what: str
) -> None:
    edit(backup, HOSTILE[what])
    harness.loop.run_until_complete(harness.store.close())
    before = (harness.folder / DATABASE).read_bytes()
    with pytest.raises(StoreFailed, match=r"it does not have exactly the tables of version 2.*use another") as refused:
        restore(backup, harness.folder, force=True)
    assert "\n" not in str(refused.value)
    assert (harness.folder / DATABASE).read_bytes() == before
    (tmp_path / "server").mkdir()
    shutil.copyfile(backup, tmp_path / "server" / DATABASE)
    with pytest.raises(StoreFailed, match="exactly the tables"):
        harness.move_to(tmp_path / "server")


@pytest.mark.parametrize("text", ["CREATE TABLE ranks", '"name": "orders"'], ids=["tables", "a definition"])
@pytest.mark.parametrize("version", [1, 2])
def test_a_backup_with_text_that_is_not_utf8_is_refused(
    harness: DiskHarness, backup: Path, tmp_path: Path, version: int, text: str
) -> None:
    if version == 1:
        shutil.copytree(VERSION_1, tmp_path / "old")
        with closing(apsw.Connection(str(tmp_path / "old" / DATABASE))) as connection:
            connection.execute("VACUUM INTO ?", (str(tmp_path / "old.db"),))
        backup, text = tmp_path / "old.db", text.replace("orders", "states")
    data = backup.read_bytes()
    assert text.encode() in data
    backup.write_bytes(data.replace(text.encode(), text.encode()[:-1] + b"\xff"))
    with pytest.raises(StoreFailed, match="use another") as refused:
        restore(backup, tmp_path / "new")
    assert "\n" not in str(refused.value)


def set_column(column: int, value: object) -> Callable[[list[Any]], None]:
    def change(row: list[Any]) -> None:
        row[column] = value

    return change


WRONG_VALUES: dict[str, tuple[str, Callable[[list[Any]], None]]] = {
    "next_seq": ("tallies", set_column(3, '{"next_seq": 100000000000000000000}')),
    "next_seq below the messages": ("tallies", set_column(3, '{"next_seq": -1}')),
    "counts that are no object": ("tallies", set_column(3, "[]")),
    "deep counts": ("tallies", set_column(3, "[" * 100_000)),
    "depth": ("tallies", set_column(1, 1 << 62)),
    "bytes": ("tallies", set_column(2, -1)),
    "number": ("queues", set_column(1, 1 << 50)),
    "ordinal": ("queues", set_column(0, -5)),
    "no id": ("queues", set_column(2, "")),
    "revision": ("queues", set_column(4, (1 << 63) - 1)),
    "definition": ("queues", set_column(5, '{"name": 1}')),
    "id prefix": ("queues", set_column(6, b"x")),
}


@pytest.mark.parametrize("what", WRONG_VALUES)
def test_a_backup_with_values_that_a_server_refuses_is_refused(backup: Path, tmp_path: Path, what: str) -> None:
    replace(backup, *WRONG_VALUES[what])
    with pytest.raises(StoreFailed, match="use another") as refused:
        restore(backup, tmp_path / "new")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["first_free_token", "highest_first_seq"])
def test_a_backup_whose_reserved_numbers_leave_none_is_refused(backup: Path, tmp_path: Path, name: str) -> None:
    edit(backup, f"DELETE FROM meta WHERE name = '{name}'")  # noqa: S608
    with closing(apsw.Connection(str(backup))) as connection:
        connection.execute("INSERT INTO meta VALUES (?, ?, ?)", with_checksum("meta", (name, (1 << 63) - 1)))
    with pytest.raises(StoreFailed, match=rf"{name} is .* and must be an integer.*use another"):
        restore(backup, tmp_path / "new")


def test_wrong_values_of_version_1_are_refused_too(tmp_path: Path) -> None:
    """It has no checksums, so its values are validated instead."""
    shutil.copytree(VERSION_1, tmp_path / "old")
    edit(tmp_path / "old" / DATABASE, """UPDATE tallies SET counts = '{"next_seq": 100000000000000000000}'""")
    with pytest.raises(StoreFailed, match=r"next_seq is 100000000000000000000.*use another"):
        restore(tmp_path / "old" / DATABASE, tmp_path / "new")
    assert not (tmp_path / "new" / DATABASE).exists()


def test_the_tokens_in_the_replaced_store_are_not_trusted(harness: DiskHarness, backup: Path) -> None:
    harness.loop.run_until_complete(harness.store.close())
    edit(harness.folder / DATABASE, "UPDATE meta SET value = 'many' WHERE name = 'first_free_token'")
    assert restore(backup, harness.folder, force=True).messages == COUNT
    assert len(harness.restart()) == COUNT


def test_messages_that_share_their_pages_do_not_fill_the_disk(harness: DiskHarness, tmp_path: Path) -> None:
    """A small crafted file may have one long message thousands of times."""
    harness.messages.append(COUNT + 1, b"x" * 20_000)
    harness.messages.append(COUNT + 2, b"y" * 20_000)
    harness.messages.tally.next_seq = COUNT + 3
    harness.commit()
    copy = tmp_path / "copy.db"
    back_up(harness.folder, copy)
    with closing(apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        rows = connection.execute(
            "SELECT pageno FROM dbstat WHERE name = 'messages' AND pagetype = 'overflow' AND path LIKE '%000000' "
            "ORDER BY path"
        ).fetchall()
    first, second = (int(str(page)) for (page,) in rows[-2:])
    data = copy.read_bytes()
    assert data.count(second.to_bytes(4)) > 0
    copy.write_bytes(data.replace(second.to_bytes(4), first.to_bytes(4)))
    with pytest.raises(StoreFailed, match="use another"):
        restore(copy, tmp_path / "new")


@pytest.mark.parametrize("seed", range(soaked(15, 2_000)))
@pytest.mark.parametrize("version", [1, 2])
def test_a_backup_with_any_bytes_is_refused_or_the_restored_store_is_undamaged(
    harness: DiskHarness, backup: Path, tmp_path: Path, seed: int, version: int
) -> None:
    random = Random(seed)
    if version == 1:
        backup = tmp_path / "old.db"
        shutil.copyfile(VERSION_1 / DATABASE, backup)
    data = bytearray(backup.read_bytes())
    pages = len(data) // PAGE_BYTES
    for _ in range(random.choice((1, 3, 30))):
        # The header of a page is at its beginning, and the tables' definitions are in the first page.
        page = random.choice((0, random.randrange(pages)))
        at = page * PAGE_BYTES + random.choice((random.randrange(120), random.randrange(PAGE_BYTES)))
        data[at] = random.choice((0, 255, data[at] ^ 1 << random.randrange(8), random.randrange(256)))
    backup.write_bytes(data)
    refused = ""
    try:
        restored = restore(backup, tmp_path / "new")
    except StoreFailed as error:
        refused = str(error)
    if refused:
        assert not (tmp_path / "new" / DATABASE).exists()
        assert "\n" not in refused
        return
    assert not check_store(tmp_path / "new").problems
    harness.loop.run_until_complete(harness.store.close())
    harness.folder = tmp_path / "new"
    harness.store = harness.restarted()
    assert sum(len(queue.messages) for queue in harness.store.queues()) == restored.messages


def test_the_command_refuses_a_hostile_file_in_one_line(backup: Path, tmp_path: Path) -> None:
    edit(backup, HOSTILE["trigger"])
    command = [sys.executable, "-m", "queuelet", "restore", "--data-dir", str(tmp_path / "new"), str(backup)]
    ended = subprocess.run(command, check=False, capture_output=True, env=clean_environment())
    assert (ended.returncode, ended.stdout, ended.stderr.count(b"\n")) == (1, b"", 1)
    assert b"trigger evil" in ended.stderr
