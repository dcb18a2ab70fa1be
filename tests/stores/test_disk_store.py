"""The Disk store as a whole: its data folder, its queues, commits, and how it reclaims memory and disk space."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from queuelet.core.budget import MemoryBudget
from queuelet.core.message import DeliveryRecord
from queuelet.definition import DeliverySettings, MessageState, Owner, QueueDefinition, StoreKind
from queuelet.errors import StoreFailed
from queuelet.server.memory import resident_bytes
from queuelet.stores.disk import DiskSettings, DiskStore
from queuelet.stores.disk.check import check_store
from queuelet.stores.disk.data_dir import DATABASE
from queuelet.stores.disk.schema import VERSION
from queuelet.stores.durable import schedule
from queuelet.stores.durable.places import SEQ_BITS
from queuelet.tags import Tag
from support.counts import soaked
from support.disk_harness import QUEUE_ID, DiskHarness
from support.logged_process import clean_environment

MIB = 1024 * 1024
WHOLE = QueueDefinition(
    store=StoreKind.DISK,
    name="shop.orders",
    limit=7,
    tags=(Tag("team", "käse"), Tag("team", ""), Tag("", "x")),
    owner=Owner(name="queuelet/shop/orders", uid="42", namespace_uid="7"),
    delivery=DeliverySettings(lease_seconds=1, max_deliveries=2, message_ttl_seconds=3),
    draining=True,
)


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Iterator[DiskHarness]:
    """A store on a good disk that reclaims space without much delay."""
    monkeypatch.setattr(schedule, "QUIET", 0.01)
    monkeypatch.setattr(schedule, "RECLAIM_EVERY", 0.001)
    harness = DiskHarness()
    yield harness
    harness.close()


def open_and_close(folder: Path) -> str:
    """Open a store and close it again; return its epoch."""

    async def run() -> str:
        store = DiskStore(folder, budget=MemoryBudget(1 << 40))
        await store.close()
        return store.epoch

    return asyncio.run(run())


def folder_bytes(folder: Path) -> int:
    """Return the size of all files of a store."""
    return sum(file.stat().st_size for file in folder.iterdir())


# Queues


def test_queues_are_there_again_with_all_of_their_definitions_in_order_of_creation(harness: DiskHarness) -> None:
    store = harness.store
    store.new("b", 10, WHOLE)
    store.new("a", 20, QueueDefinition(store=StoreKind.DISK))
    store.new("c", 15, QueueDefinition(store=StoreKind.DISK, name="gone"))
    harness.commit()
    changed = QueueDefinition(store=StoreKind.DISK, name="now named")
    store.redefine("a", 2, changed)
    store.drop("c")
    harness.commit()
    harness.reopen()
    assert [(queue.queue_id, queue.created, queue.revision, queue.definition) for queue in harness.store.queues()] == [
        ("b", 10, 1, WHOLE),
        ("a", 20, 2, changed),
    ]


def test_a_queue_may_come_again_under_the_id_of_one_that_was_dropped(harness: DiskHarness) -> None:
    first = harness.open()
    first.append(1, b"old")
    harness.commit()
    for _ in range(3):
        harness.store.drop(QUEUE_ID)
        harness.open().append(1, b"new")
    harness.commit()
    assert harness.reopen().get(1) == b"new"


def test_a_dropped_queue_leaves_no_rows(harness: DiskHarness) -> None:
    messages = harness.open()
    messages.append(1, bytes(100_000))
    messages.store_response(b"key", 1, b"response")
    messages.checkout_many(1, 0)
    messages.deliveries[1] = DeliveryRecord(MessageState.LEASED)
    messages.mark_changed([1])
    harness.commit()
    messages.append(2, b"never written")
    harness.store.drop(QUEUE_ID)
    harness.commit()
    harness.until(lambda: rows_in(harness.folder) == {})
    assert not check_store(harness.folder).problems


def rows_in(folder: Path) -> dict[str, int]:
    """Return the number of rows of each table that has any, except for `meta`."""
    connection = apsw.Connection(str(folder / DATABASE), flags=apsw.SQLITE_OPEN_READONLY)
    tables = ("queues", "tallies", "dropped", "messages", "ranks", "deliveries", "answers")
    counts = {table: connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0] for table in tables}  # noqa: S608
    connection.close()
    return {table: count for table, count in counts.items() if isinstance(count, int) and count}


@pytest.mark.parametrize("how", ["drop", "clear"])
def test_a_crash_while_a_large_queue_is_deleted_leaves_nothing_of_it(harness: DiskHarness, how: str) -> None:
    messages = harness.open()
    for seq in range(1, 5_001):
        messages.append(seq, bytes(2_000))
    harness.commit()
    messages.clear() if how == "clear" else harness.store.drop(QUEUE_ID)
    if how == "drop":
        harness.open()
    harness.commit()
    messages = harness.reopen()
    assert (len(messages), messages.first_many(1, 0), messages.after(0, 10, 1 << 40)) == (0, ([], []), [])
    harness.until(lambda: "messages" not in rows_in(harness.folder))
    assert not check_store(harness.folder).problems


# Tokens and epochs


def test_tokens_grow_across_openings_although_the_clock_goes_back(
    harness: DiskHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.open()
    harness.commit()
    first = harness.store.first_token
    assert abs(first - time.time_ns()) < 60 * 10**9
    monkeypatch.setattr("queuelet.stores.disk.loading.time_ns", lambda: 1_000)
    harness.reopen()
    assert harness.store.first_token >= first + 2**40


def test_the_epoch_stays_as_long_as_nothing_is_lost(tmp_path: Path) -> None:
    epoch = open_and_close(tmp_path / "data")
    assert open_and_close(tmp_path / "data") == epoch
    assert open_and_close(tmp_path / "other") != epoch


# Commits


def test_there_is_nothing_to_wait_for_if_nothing_changed(harness: DiskHarness) -> None:
    messages = harness.open()
    assert harness.store.commit() is not None
    harness.commit()
    assert messages.commit() is None
    assert harness.store.commit() is None


def test_a_queue_does_not_wait_for_another(harness: DiskHarness) -> None:
    messages = harness.open()
    harness.commit()
    harness.store.new("other", 2, QueueDefinition(store=StoreKind.DISK)).append(1, b"one")
    assert messages.commit() is None
    harness.commit()


def test_all_calls_of_a_turn_share_one_transaction(harness: DiskHarness) -> None:
    messages = harness.open()
    harness.commit()
    before = harness.store.stats().commits
    awaitables = []
    for seq in range(1, 101):
        messages.append(seq, b"message")
        awaitables.append(messages.commit())
    for awaitable in awaitables:
        harness.wait(awaitable)
    stats = harness.store.stats()
    assert stats.commits == before + 1
    assert stats.changes.total == 100
    assert sum(stats.commit_seconds.buckets) == stats.commits


def test_a_call_that_is_cancelled_leaves_the_others_waiting(harness: DiskHarness) -> None:
    messages = harness.open()
    messages.append(1, b"one")

    async def run() -> None:
        commit = harness.store.commit()
        assert commit is not None
        first, second = asyncio.ensure_future(waiting(commit)), asyncio.ensure_future(waiting(commit))
        await asyncio.sleep(0)
        first.cancel()
        await second

    async def waiting(commit: object) -> None:
        await commit  # type: ignore[misc]  # it is awaitable

    harness.loop.run_until_complete(run())
    assert len(harness.reopen()) == 1


def test_what_is_added_and_taken_before_it_is_written_is_never_written(harness: DiskHarness) -> None:
    messages = harness.open()
    harness.commit()
    messages.append(1, b"fleeting")
    messages.take()
    messages.tally.next_seq = 2
    harness.commit()
    assert harness.store.stats().changes.total == 0
    assert harness.reopen().tally.next_seq > 2, "its number is not given again"


def test_leases_are_committed_after_a_time_although_no_call_waits(
    harness: DiskHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queuelet.stores.durable.groups.LINGER", 0.001)
    messages = harness.open()
    messages.append(1, b"one")
    harness.commit()
    commits_before = harness.store.stats().commits
    messages.checkout_many(1, 0)
    messages.deliveries[1] = DeliveryRecord(MessageState.LEASED, 1, 99)
    messages.mark_leased([1])
    harness.until(lambda: harness.store.stats().commits == commits_before + 1)
    assert harness.reopen().deliveries[1].token == 99


def test_young_leases_are_not_written_with_changes_for_which_calls_wait(harness: DiskHarness) -> None:
    messages = harness.open()
    messages.append_many(1, [b"one", b"two"])
    harness.commit()
    for seq in messages.checkout_many(2, 100)[0]:
        messages.deliveries[seq] = DeliveryRecord(MessageState.LEASED, 1, 98 + seq)
        messages.mark_leased([seq])
    messages.deliveries[2].count = 2
    messages.mark_changed([2])
    harness.commit()
    reopened = harness.reopen()
    assert list(reopened.deliveries) == [2], "other changes to a lease are written"
    assert reopened.first_many(1, 0)[0] == [1]


def test_leases_are_committed_when_the_store_is_closed(harness: DiskHarness) -> None:
    messages = harness.open()
    messages.append(1, b"one")
    harness.commit()
    messages.checkout_many(1, 0)
    messages.deliveries[1] = DeliveryRecord(MessageState.LEASED, 1, 99)
    messages.mark_leased([1])
    harness.commit()
    assert harness.restart().deliveries[1].token == 99


def test_a_closed_store_is_one_file_and_refuses_every_call(harness: DiskHarness) -> None:
    messages = harness.open()
    messages.append(1, b"one")
    harness.loop.run_until_complete(harness.store.close())
    assert {file.name for file in harness.folder.iterdir()} == {"queuelet.db", "queuelet.lock", "queuelet.reserve"}
    with pytest.raises(StoreFailed, match="closed"):
        messages.take()
    with pytest.raises(StoreFailed, match="closed"):
        harness.store.new("another", 1, QueueDefinition())
    harness.store = harness.restarted()


def test_a_batch_larger_than_a_group_is_committed_completely(harness: DiskHarness) -> None:
    messages = harness.open()
    for seq in range(1, 101):
        messages.append(seq, bytes(MIB // 4))
    harness.commit()
    assert harness.store.stats().commits > 5
    assert len(harness.reopen()) == 100


# Memory and disk space


@pytest.mark.parametrize("order", ["one queue", "many queues"])
def test_a_backlog_takes_no_memory_once_it_is_committed(harness: DiskHarness, order: str) -> None:
    settings = DiskSettings(reserve_bytes=0, window_bytes=MIB)
    harness.store = harness.restarted(settings)
    queues = [
        harness.store.new(f"{number}", 1, QueueDefinition(store=StoreKind.DISK))
        for number in range(1 if order == "one queue" else 50)
    ]
    idle = harness.budget.used
    for seq in range(1, 10_000 // len(queues)):
        for messages in queues:
            messages.append(seq, bytes(1_000))
    harness.commit()
    assert harness.budget.used - idle <= MIB
    for messages in queues:
        for seq in range(1, 10_000 // len(queues)):
            assert messages.take() == (seq, bytes(1_000))
            assert harness.store.stats().window_bytes <= MIB
    harness.commit()
    assert harness.budget.used == idle


BACKLOG = soaked(100_000, 1_000_000)

READ_BACKLOG = r"""
import asyncio, re, sys, time
from pathlib import Path
from queuelet.core.budget import MemoryBudget
from queuelet.stores.disk import DiskStore

async def main():
    start = time.perf_counter()
    store = DiskStore(Path(sys.argv[1]), budget=MemoryBudget(1 << 40))
    (queue,) = store.queues()
    first = queue.messages.take()
    opened = time.perf_counter() - start
    while len(queue.messages.take_many(1_000, 1 << 22)[0]):
        await queue.messages.commit()
    await store.close()
    # Not getrusage, because its maximum includes that of the process that started this one.
    print(first[0], opened, re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])

asyncio.run(main())
"""


@pytest.mark.timeout(soaked(60, 600))
def test_a_large_backlog_is_opened_and_taken_in_little_memory(
    harness: DiskHarness, record_property: Callable[[str, object], None]
) -> None:
    messages = harness.open()
    for seq in range(1, BACKLOG + 1):
        messages.append(seq, bytes(1_000))
        if not seq % 5_000:
            harness.commit()
    harness.loop.run_until_complete(harness.store.close())
    ended = subprocess.run(
        [sys.executable, "-c", READ_BACKLOG, str(harness.folder)],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(),
    )
    first, opened, kilobytes = ended.stdout.split()
    record_property("seconds until the first message", opened)
    record_property("RSS in KB", kilobytes)
    assert int(first) == 1
    assert int(kilobytes) * 1024 < 300 * MIB
    harness.store = harness.restarted()


def test_openings_without_a_commit_do_not_assign_the_same_sequence_numbers(harness: DiskHarness) -> None:
    """A message may have been delivered, with its ID, by a process that died before it committed the message."""
    harness.open()
    harness.commit()
    assert len({harness.reopen().tally.next_seq for _ in range(10)}) == 10


def test_committed_messages_are_no_longer_in_memory(harness: DiskHarness) -> None:
    """Without a garbage collection, because a few large messages would not trigger one."""
    messages = harness.open()
    gc.collect()
    gc.disable()
    try:
        before = resident_bytes()
        for seq in range(1, 201):
            messages.append(seq, b"x" * MIB)
            harness.commit()
        assert resident_bytes() - before < 100 * MIB
    finally:
        gc.enable()


DRAINED = soaked(50, 1_000) * MIB


@pytest.mark.timeout(soaked(60, 600))
@pytest.mark.parametrize("how", ["taken", "cleared", "dropped"])
def test_free_space_is_returned_to_the_file_system(harness: DiskHarness, how: str) -> None:
    messages = harness.open()
    body = os.urandom(10_000)
    count = DRAINED // len(body)
    for seq in range(1, count + 1):
        messages.append(seq, body)
        if not seq % 500:
            harness.commit()
    harness.commit()
    assert folder_bytes(harness.folder) > DRAINED
    if how == "taken":
        while messages.take_many(500, 1 << 23)[0]:
            harness.commit()
    elif how == "cleared":
        messages.clear()
    else:
        harness.store.drop(QUEUE_ID)
    harness.commit()
    harness.until(lambda: folder_bytes(harness.folder) < 6 * MIB, soaked(30, 300))
    if how == "dropped":
        harness.open()


def test_the_log_is_truncated_after_a_time_without_writes(harness: DiskHarness) -> None:
    messages = harness.open()
    for seq in range(1, 101):
        messages.append(seq, bytes(10_000))
    harness.commit()
    log = harness.folder / "queuelet.db-wal"
    harness.until(lambda: log.stat().st_size == 0)


# The folder


def test_a_missing_folder_is_created(tmp_path: Path) -> None:
    open_and_close(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / DATABASE).exists()


def test_a_file_instead_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StoreFailed, match="is a file, not a folder"):
        open_and_close(tmp_path / "data")


def test_a_folder_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(StoreFailed, match="cannot be used"):
        open_and_close(Path("/proc/queuelet"))


def test_a_second_process_is_refused_by_name(harness: DiskHarness) -> None:
    program = "import sys, fcntl; from pathlib import Path; from queuelet.stores.disk.data_dir import DataDirLock; "
    program += "DataDirLock(Path(sys.argv[1]))"
    ended = subprocess.run(
        [sys.executable, "-c", program, str(harness.folder)],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
    )
    assert f"is in use by another process, process {os.getpid()}; give each server" in ended.stderr


def test_an_unfinished_store_is_created_again(tmp_path: Path) -> None:
    (tmp_path / "queuelet.new").write_bytes(b"cut off")
    open_and_close(tmp_path)
    assert not (tmp_path / "queuelet.new").exists()


# Files that cannot be used


def other_program(path: Path) -> None:
    path.unlink()
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE notes (text)")
    connection.close()


def newer_version(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", VERSION + 1)
    connection.close()


def flip(path: Path, start: int, end: int) -> None:
    content = bytearray(path.read_bytes())
    content[start:end] = bytes(each ^ 0xFF for each in content[start:end])
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda path: path.write_bytes(b""), "is damaged .it is empty"),
        (lambda path: path.write_bytes(b"not a database at all" * 100), "is not a Queuelet database"),
        (lambda path: flip(path, 0, 16), "is not a Queuelet database"),
        (lambda path: flip(path, 16, 100), "is damaged"),
        (lambda path: flip(path, 100, 4_096), "is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:8_192]), "is damaged"),
        (other_program, "is a SQLite database, but not one of Queuelet's"),
        (newer_version, f"has version {VERSION + 1}, but this Queuelet reads only up to version {VERSION}"),
    ],
    ids=["empty", "text", "magic", "header", "first page", "truncated", "another program's", "newer"],
)
def test_a_file_that_cannot_be_used_is_refused_with_a_remedy(
    tmp_path: Path, damage: Callable[[Path], None], error: str
) -> None:
    open_and_close(tmp_path)
    damage(tmp_path / DATABASE)
    before = (tmp_path / DATABASE).read_bytes()
    with pytest.raises(StoreFailed, match=error) as refused:
        open_and_close(tmp_path)
    assert "`queuelet restore`" in refused.value.message
    assert (tmp_path / DATABASE).read_bytes() == before  # it was not changed
    shutil.copytree(tmp_path, tmp_path / "copy")
    with pytest.raises(StoreFailed):
        open_and_close(tmp_path / "copy")  # the lock was released


def test_a_place_has_enough_bits_for_every_queue_number_and_sequence_number() -> None:
    assert SEQ_BITS == 40
    assert (8_388_607 + 1 << SEQ_BITS) - 1 == (1 << 63) - 1
