"""Whole pages of a database that are overwritten with random bytes, in every table and index."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import apsw
import pytest

from queuelet.core.message import DeliveryRecord, Rank
from queuelet.definition import MessageState
from queuelet.errors import StoreFailed
from queuelet.stores.disk.backup import back_up, restore
from queuelet.stores.disk.check import check_store
from queuelet.stores.disk.data_dir import DATABASE
from queuelet.stores.disk.database import StoreDamaged
from queuelet.stores.disk.remedies import NOT_SALVAGED, SALVAGE, SET_ASIDE
from queuelet.stores.disk.schema import PAGE_BYTES
from support.commands import Cli
from support.counts import soaked
from support.disk_harness import DiskHarness

COUNT = 400


@pytest.fixture
def harness() -> Iterator[DiskHarness]:
    harness = DiskHarness()
    yield harness
    harness.close()


def fill(harness: DiskHarness, random: Random) -> dict[int, bytes]:
    """Store messages with ranks, deliveries and saved responses, close the store, and return the bodies."""
    messages = harness.open()
    bodies = {seq: random.randbytes(random.choice((20, 200, 600, 3_000, 9_000))) for seq in range(1, COUNT + 1)}
    for seq, body in bodies.items():
        if seq % 5 == 0:
            messages.keep(seq, body, Rank(1, 2, 3, 4))
        else:
            messages.append(seq, body)
    messages.tally.next_seq = COUNT + 1
    for number in range(200):
        messages.store_response(b"key %d" % number, 1 << 62, random.randbytes(50))
    messages.checkout_many(20, 1 << 30)
    for seq in (1, 2, 3):
        messages.deliveries[seq] = DeliveryRecord(MessageState.LEASED, 1, 99)
    messages.mark_changed([1, 2, 3])
    harness.commit()
    harness.loop.run_until_complete(harness.store.close())
    return bodies


def pages(path: Path) -> dict[tuple[str, str], list[int]]:
    """Return the offsets of all pages by table or index and kind: leaf, internal or overflow."""
    found: dict[tuple[str, str], list[int]] = {}
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        for name, kind, offset in connection.execute("SELECT name, pagetype, pgoffset FROM dbstat"):
            found.setdefault((str(name), str(kind)), []).append(int(str(offset)))
    return found


def rows_on(path: Path, offset: int) -> int:
    """Return the number of rows on a page."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        return int(str(connection.execute("SELECT ncell FROM dbstat WHERE pgoffset = ?", (offset,)).fetchall()[0][0]))


def overwrite(path: Path, offset: int, random: Random) -> None:
    """Overwrite a page, its header, or a part of it, with random bytes."""
    size = random.choice((8, 64, PAGE_BYTES))
    start = offset if size == 8 else offset + random.randrange(PAGE_BYTES - size + 1)
    data = bytearray(path.read_bytes())
    data[start : start + size] = random.randbytes(size)
    path.write_bytes(data)


def served(harness: DiskHarness, folder: Path) -> tuple[dict[int, bytes], int]:
    """Open the store and read every message. Return the bodies, and how many messages are damaged.

    If the file is too damaged, none are readable. The error must then say what to do.
    """
    try:
        messages = harness.move_to(folder)
        bodies = {seq: body for seq in range(1, COUNT + 1) if (body := messages.get(seq)) is not None}
    except StoreFailed as error:
        refused = error.message
    else:
        return bodies, messages.damaged
    assert re.search(r"is damaged|is not a valid store|its beginning is damaged", refused)
    assert "`queuelet check`" in refused
    assert "`queuelet restore`" in refused
    return {}, COUNT


@pytest.mark.parametrize("seed", range(soaked(60, 3_000)))
def test_a_page_of_random_bytes_alters_no_message_hides_none_and_raises_only_what_says_what_to_do(
    harness: DiskHarness, tmp_path: Path, seed: int
) -> None:
    random = Random(seed)
    bodies = fill(harness, random)
    path = harness.folder / DATABASE
    kinds = sorted(pages(path).items())
    (table, _), offsets = kinds[seed % len(kinds)]
    for _ in range(random.choice((1, 1, 3))):
        overwrite(path, random.choice(offsets), random)
    try:
        found = check_store(harness.folder).problems
    except StoreFailed as error:
        found = [error.message]
    copied = None
    try:
        copied = back_up(harness.folder, tmp_path / "salvaged.db", salvage=True)
    except StoreFailed:
        assert found
    if copied:
        assert copied.messages + copied.damaged >= COUNT, "what is not copied is counted"
        restore(tmp_path / "salvaged.db", tmp_path / "new")
        readable, damaged = served(harness, tmp_path / "new")
        assert (len(readable), damaged) == (copied.messages, 0)
        assert readable.items() <= bodies.items()
        assert copied.messages == COUNT or found
    delivered, damaged = served(harness, path.parent)
    assert delivered.items() <= bodies.items()
    assert len(delivered) + damaged >= COUNT, f"no message is hidden by damage to {table}"
    assert found or len(delivered) == COUNT, "check finds what harms a message"


@pytest.mark.parametrize("seed", range(soaked(5, 100)))
def test_what_is_outside_of_damaged_pages_of_messages_can_be_salvaged(
    harness: DiskHarness, tmp_path: Path, seed: int
) -> None:
    random = Random(seed)
    bodies = fill(harness, random)
    path = harness.folder / DATABASE
    damaged_pages = random.sample(pages(path)[("messages", "leaf")], 3)
    lost = sum(rows_on(path, offset) for offset in damaged_pages)
    data = bytearray(path.read_bytes())
    for offset in damaged_pages:
        data[offset : offset + PAGE_BYTES] = bytes(PAGE_BYTES)
    path.write_bytes(data)
    with pytest.raises(StoreDamaged, match=r"`queuelet backup --salvage`"):
        back_up(harness.folder, tmp_path / "copy.db")
    copied = back_up(harness.folder, tmp_path / "copy.db", salvage=True)
    assert copied == (COUNT - lost, lost), "only the rows on the damaged pages are lost"
    restore(tmp_path / "copy.db", tmp_path / "new")
    readable, damaged = served(harness, tmp_path / "new")
    assert (len(readable), damaged) == (copied.messages, 0)
    assert readable.items() <= bodies.items()
    messages = harness.messages
    assert messages.ranks.keys() | messages.deliveries.keys() <= readable.keys()


def test_a_store_without_damage_is_salvaged_whole(harness: DiskHarness, tmp_path: Path) -> None:
    fill(harness, Random(1))
    assert back_up(harness.folder, tmp_path / "copy.db", salvage=True) == (COUNT, 0)


def spoil(path: Path, table: str, kind: str = "leaf") -> None:
    """Overwrite a page of a table or an index with random bytes."""
    (offset, *_) = pages(path)[(table, kind)]
    data = bytearray(path.read_bytes())
    data[offset : offset + PAGE_BYTES] = Random(3).randbytes(PAGE_BYTES)
    path.write_bytes(data)


NEEDED = ("meta", "queues", "tallies", "dropped", "damaged", "ranks", "deliveries")


@pytest.mark.parametrize("table", NEEDED)
def test_damage_to_a_table_that_all_messages_need_is_not_skipped(
    harness: DiskHarness, tmp_path: Path, table: str
) -> None:
    fill(harness, Random(2))
    spoil(harness.folder / DATABASE, table)
    found = check_store(harness.folder)
    assert f"the table {table} cannot be read" in found.problems
    assert found.remedy == NOT_SALVAGED
    for salvage in (False, True):
        with pytest.raises(StoreDamaged, match=r"is damaged .*; restore an earlier backup") as refused:
            back_up(harness.folder, tmp_path / "copy.db", salvage=salvage)
        assert refused.value.message.endswith(NOT_SALVAGED)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("table", "kind", "copied"),
    [
        ("messages", "leaf", (393, 7)),
        ("messages", "internal", (0, COUNT)),
        ("own_ids", "leaf", (COUNT, 0)),
        ("answers", "leaf", (COUNT, 0)),
        ("answers", "internal", (COUNT, 0)),
        ("sqlite_autoindex_answers_1", "leaf", (COUNT, 0)),
        ("sqlite_autoindex_queues_1", "leaf", (COUNT, 0)),
    ],
)
def test_damage_that_can_be_skipped_is_salvaged_as_check_and_backup_advise(
    harness: DiskHarness, tmp_path: Path, table: str, kind: str, copied: tuple[int, int]
) -> None:
    fill(harness, Random(2))
    spoil(harness.folder / DATABASE, table, kind)
    assert check_store(harness.folder).remedy == SALVAGE
    if not table.startswith("sqlite_autoindex"):  # a copy does not read those
        with pytest.raises(StoreDamaged, match="is damaged") as refused:
            back_up(harness.folder, tmp_path / "copy.db")
        assert refused.value.message.endswith(SALVAGE)
    assert back_up(harness.folder, tmp_path / "copy.db", salvage=True) == copied
    assert restore(tmp_path / "copy.db", harness.folder, force=True) == (copied[0], 0)
    assert check_store(harness.folder) == ([], "")


def test_single_damaged_messages_need_nothing_but_a_backup(harness: DiskHarness, tmp_path: Path) -> None:
    bodies = fill(harness, Random(2))
    path = harness.folder / DATABASE
    data = path.read_bytes()
    path.write_bytes(data.replace(bodies[7][-20:], bytes(20)))
    problems, remedy = check_store(harness.folder)
    assert len(problems) == 1
    assert remedy == SET_ASIDE
    assert back_up(harness.folder, tmp_path / "copy.db") == (COUNT - 1, 1)
    assert len(served(harness, harness.folder)[0]) == COUNT - 1


def test_commands_do_not_advise_each_other_in_a_circle_if_nothing_can_be_salvaged(
    harness: DiskHarness, tmp_path: Path
) -> None:
    fill(harness, Random(2))
    queuelet, data_dir = Cli(), ("--data-dir", str(harness.folder))
    earlier, copy = str(tmp_path / "earlier.db"), str(tmp_path / "copy.db")
    assert queuelet("backup", *data_dir, earlier).code == 0
    spoil(harness.folder / DATABASE, "queues")
    checked = queuelet("check", *data_dir)
    assert checked.code == 1
    assert "the table queues cannot be read" in checked.json["problems"]
    assert checked.json["remedy"] == NOT_SALVAGED
    for flags in ((), ("--salvage",)):
        refused = queuelet("backup", *flags, *data_dir, copy)
        assert refused.code == 1
        assert refused.err.endswith(f"; {NOT_SALVAGED}\n")
        assert "`queuelet check`" not in refused.err
    assert queuelet("restore", "--force", *data_dir, earlier).json["messages"] == COUNT
    checked = queuelet("check", *data_dir)
    assert (checked.code, checked.json["problems"], checked.json["remedy"]) == (0, [], "")


@pytest.mark.parametrize("beginning", [b"", b"not a database", b"SQLite format 3\0"])
def test_check_of_a_file_that_cannot_be_opened_advises_an_earlier_backup(
    harness: DiskHarness, tmp_path: Path, beginning: bytes
) -> None:
    fill(harness, Random(2))
    queuelet, data_dir = Cli(), ("--data-dir", str(harness.folder))
    (harness.folder / DATABASE).write_bytes(beginning and beginning.ljust(PAGE_BYTES, b"?"))
    for command in (("check",), ("backup", "--salvage", str(tmp_path / "copy.db"))):
        refused = queuelet(*command, *data_dir)
        assert refused.code == 1
        assert "; restore an earlier backup with `queuelet restore --force`, or move the folder away" in refused.err
        assert "`queuelet check`" not in refused.err
