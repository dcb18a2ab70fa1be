"""The Disk store on a disk that is full, fails, or loses power."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import apsw
import pytest

from queuelet.core.message import DeliveryRecord
from queuelet.definition import MessageState
from queuelet.errors import StoreFailed, StoreFull
from queuelet.stores.disk import DiskSettings, backend, check, reclaim, reserve, writer
from queuelet.stores.disk.data_dir import DATABASE
from queuelet.stores.disk.writer import Writer
from queuelet.stores.durable import schedule
from queuelet.stores.durable.backend import Reclaimed
from queuelet.stores.durable.loaded import LoadedStore
from support.counts import soaked
from support.disk_faults import Faults, FaultyDisk, FaultyVfs
from support.disk_harness import DiskHarness
from support.logged_process import clean_environment

MIB = 1024 * 1024
RESERVE = 2 * MIB
SETTINGS = DiskSettings(vfs="faulty", reserve_bytes=RESERVE, group_bytes=RESERVE // 4, log_bytes=RESERVE // 4)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyDisk]:
    """A disk on which nothing fails yet."""
    disk = FaultyDisk()
    layer = FaultyVfs("faulty", disk)
    monkeypatch.setattr(reserve, "free_bytes", disk.free_bytes)
    monkeypatch.setattr(schedule, "QUIET", 0.01)
    monkeypatch.setattr(schedule, "FIRST_BACKOFF", 0.01)
    monkeypatch.setattr(writer, "FULL_FOR", 0)
    yield disk
    del layer


@pytest.fixture
def harness(disk: FaultyDisk) -> Iterator[DiskHarness]:
    """A store on that disk."""
    harness = DiskHarness(SETTINGS)
    yield harness
    disk.set(Faults())
    harness.close()


def fill_disk(harness: DiskHarness, disk: FaultyDisk, body: bytes = bytes(10_000)) -> int:
    """Add messages until they are refused; return their number."""
    messages = harness.messages
    disk.set(Faults(capacity=disk.used(harness.folder) + 2 * MIB))
    for seq in range(1, 2_000):
        try:
            harness.store.check_room()
        except StoreFull:
            return seq - 1
        messages.append(seq, body)
        harness.commit()
    raise AssertionError("the disk never was full")


# Full


def test_a_full_disk_refuses_messages_and_keeps_what_it_took(harness: DiskHarness, disk: FaultyDisk) -> None:
    harness.open()
    count = fill_disk(harness, disk)
    with pytest.raises(StoreFull, match="is full: messages can be taken"):
        harness.store.check_room()
    assert harness.store.problem_reason == "STORE_FULL"
    assert harness.store.stats().is_full
    assert len(harness.reopen()) == count


def test_a_full_disk_can_be_emptied_and_then_takes_messages_again(harness: DiskHarness, disk: FaultyDisk) -> None:
    messages = harness.open()
    count = fill_disk(harness, disk)
    for seq in range(1, count + 1):
        assert messages.take() == (seq, bytes(10_000))
        harness.commit()
    harness.until(lambda: not harness.store.problem)
    harness.store.check_room()
    messages.append(count + 1, b"new")
    harness.commit()


def test_a_full_disk_that_was_emptied_gets_back_the_last_free_page(
    harness: DiskHarness, disk: FaultyDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else a disk with little more space than the reserve would count as full until the next start."""
    monkeypatch.setattr(reclaim, "_SLICE_SECONDS", 0)
    harness.open()
    fill_disk(harness, disk)
    harness.messages.clear()
    harness.commit()
    harness.until(lambda: not harness.store.problem)


def test_leases_are_kept_on_a_full_disk(harness: DiskHarness, disk: FaultyDisk) -> None:
    messages = harness.open()
    fill_disk(harness, disk)
    seqs, _ = messages.checkout_many(100, 1 << 30)
    for seq in seqs:
        messages.deliveries[seq] = DeliveryRecord(MessageState.LEASED, 1, seq, 50, 40, "worker")
    messages.mark_changed(seqs)
    harness.commit()
    assert sorted(harness.reopen().deliveries) == seqs


def test_a_full_disk_recovers_when_other_programs_free_space(harness: DiskHarness, disk: FaultyDisk) -> None:
    harness.open()
    fill_disk(harness, disk)
    disk.set(Faults())
    harness.until(lambda: not harness.store.problem)
    harness.store.check_room()


def test_a_disk_that_was_full_counts_as_full_for_a_time(
    harness: DiskHarness, disk: FaultyDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "FULL_FOR", 1e9)
    reclaim, slices = Writer.reclaim, []

    def recorded(writer: Writer, **how: Any) -> Reclaimed:  # noqa: ANN401  # as it is called
        slices.append(how)
        return reclaim(writer, **how)

    monkeypatch.setattr(Writer, "reclaim", recorded)
    harness.open()
    fill_disk(harness, disk)
    disk.set(Faults())
    slices.clear()
    harness.until(lambda: len(slices) > 3)
    assert harness.store.problem_reason == "STORE_FULL"
    monkeypatch.setattr(writer, "FULL_FOR", 0)
    harness.until(lambda: not harness.store.problem)


def test_a_store_opens_on_a_full_disk_and_says_so(harness: DiskHarness, disk: FaultyDisk) -> None:
    harness.open()
    count = fill_disk(harness, disk)
    messages = harness.restart()
    assert harness.store.problem_reason == "STORE_FULL"
    assert messages.take_many(count, 1 << 30)[0] == list(range(1, count + 1))
    harness.commit()


def test_without_any_space_a_change_waits_until_there_is_some(harness: DiskHarness, disk: FaultyDisk) -> None:
    messages = harness.open()
    harness.commit()
    disk.set(Faults(capacity=0))
    messages.append(1, bytes(100_000))
    commit = harness.store.commit()
    harness.until(lambda: bool(harness.store.problem))
    disk.set(Faults())
    harness.wait(commit)
    assert len(harness.reopen()) == 1


# Failing


@pytest.mark.parametrize("fault", [Faults(sync=True), Faults(write=True)], ids=["sync", "write"])
def test_waiting_calls_fail_with_an_unknown_outcome(harness: DiskHarness, disk: FaultyDisk, fault: Faults) -> None:
    messages = harness.open()
    harness.commit()
    disk.set(fault)
    messages.append(1, b"one")
    with pytest.raises(StoreFailed, match="the outcome of the call is not known"):
        harness.commit()
    assert harness.store.problem_reason == "STORE_FAILED"
    assert not harness.store.stats().is_open
    with pytest.raises(StoreFailed):
        harness.store.check_room()


def test_messages_of_before_a_failure_refuse_every_call(harness: DiskHarness, disk: FaultyDisk) -> None:
    messages = harness.open()
    messages.append(1, b"one")
    harness.commit()
    disk.set(Faults(sync=True))
    messages.append(2, b"two")
    with pytest.raises(StoreFailed):
        harness.commit()
    disk.set(Faults())
    harness.until(lambda: harness.reopenings == 1)
    for call in (
        lambda: messages.append(3, b"three"),
        messages.take,
        lambda: messages.first_many(1, 0),
        lambda: messages.get(1),
        lambda: messages.discard(1),
        lambda: messages.after(0, 10, 1 << 40),
        lambda: messages.seq_of(b"id"),
        lambda: messages.mark_changed([1]),
        lambda: messages.return_to_line(1),
        lambda: messages.response(b"key"),
        lambda: messages.store_response(b"key", 1, b"response"),
        messages.clear,
        messages.commit,
    ):
        with pytest.raises(StoreFailed):
            call()


def test_after_a_failure_the_store_opens_again_with_all_that_was_committed(
    harness: DiskHarness, disk: FaultyDisk
) -> None:
    messages = harness.open()
    messages.append(1, b"one")
    harness.commit()
    epoch = harness.store.epoch
    disk.set(Faults(sync=True))
    messages.append(2, b"two")
    with pytest.raises(StoreFailed):
        harness.commit()
    disk.set(Faults())
    harness.until(lambda: harness.reopenings == 1)
    assert harness.store.problem == ""
    assert harness.store.epoch == epoch
    assert harness.store.stats().failures == 1
    messages = harness.messages
    assert messages.get(1) == b"one"
    messages.append(3, b"three")
    harness.commit()


def test_a_failed_read_reopens_the_store(harness: DiskHarness, disk: FaultyDisk) -> None:
    messages = harness.open()
    for seq in range(1, 3_000):
        messages.append(seq, bytes(3_000))
    harness.commit()
    disk.set(Faults(read=True))
    with pytest.raises(StoreFailed):
        messages.get(2_500)
    disk.set(Faults())
    harness.until(lambda: harness.reopenings == 1)
    assert harness.messages.get(2_500) == bytes(3_000)


def test_the_store_retries_to_reopen(harness: DiskHarness, disk: FaultyDisk) -> None:
    messages = harness.open()
    harness.commit()
    disk.set(Faults(write=True))
    messages.append(1, b"one")
    with pytest.raises(StoreFailed):
        harness.commit()
    harness.until(lambda: "cannot be reopened" in harness.store.problem)
    disk.set(Faults())
    harness.until(lambda: harness.reopenings == 1)


# Damaged


class Unhurried(Event):
    """Replaces the event with which reopening waits: it records the timeouts and does not wait."""

    waits: list[float]

    def wait(self, timeout: float | None = None) -> bool:
        """Record the timeout, in seconds."""
        self.waits.append(timeout or 0.0)
        return super().wait(0.001)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that a store would wait before each attempt to reopen. It does not wait."""
    waits: list[float] = []
    monkeypatch.setattr(Unhurried, "waits", waits, raising=False)
    monkeypatch.setattr(backend, "Event", Unhurried)
    return waits


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each attempt to reopen, whether it succeeded."""
    openings: list[bool] = []
    reopen = Writer.reopen

    def recorded(writer: Writer, **how: Any) -> LoadedStore:  # noqa: ANN401  # as it is called
        openings.append(False)
        contents = reopen(writer, **how)
        openings[-1] = True
        return contents

    monkeypatch.setattr(Writer, "reopen", recorded)
    return openings


def damage_a_page(harness: DiskHarness) -> bytes:
    """Fill the store, and damage a page of messages in its file; return the undamaged content of the file."""
    messages = harness.open()
    for seq in range(1, 1_000):
        messages.append(seq, bytes(1_000))
    harness.commit()
    harness.loop.run_until_complete(harness.store.close())
    path = harness.folder / DATABASE
    good = path.read_bytes()
    page = len(good) // 2 // 4_096 * 4_096
    path.write_bytes(good[:page] + bytes(8) + good[page + 8 :])
    harness.move_to(harness.folder)
    return good


def read_all(harness: DiskHarness) -> int:
    """Read every message; return their number."""
    return len(harness.messages.after(0, 10_000, 1 << 40))


def test_a_damaged_page_fails_the_store_until_the_file_is_repaired(waits: list[float], openings: list[bool]) -> None:
    harness = DiskHarness()
    good = damage_a_page(harness)
    assert harness.store.problem == "", "it is not known before the page is read"
    with pytest.raises(StoreFailed, match=r"the store is damaged .*; stop the server") as failed:
        read_all(harness)
    for word in ("`queuelet check`", "`queuelet restore`"):
        assert word in failed.value.message
    harness.until(lambda: len(openings) > 5)
    assert not any(openings), "it was opened, and is as damaged as it was"
    assert harness.store.problem_reason == "STORE_FAILED"
    assert harness.store.problem == failed.value.message
    with pytest.raises(StoreFailed, match="is damaged"):
        harness.store.check_room()
    assert harness.store.stats().failures == 1

    (harness.folder / DATABASE).write_bytes(good)
    harness.until(lambda: harness.reopenings == 1)
    assert harness.store.problem == ""
    assert read_all(harness) == 999
    harness.close()


def test_a_damaged_store_is_checked_less_and_less_often(waits: list[float]) -> None:
    harness = DiskHarness()
    damage_a_page(harness)
    with pytest.raises(StoreFailed):
        read_all(harness)
    harness.until(lambda: len(waits) > 12)
    assert waits[:3] == [0, schedule.FIRST_DAMAGED_BACKOFF, 2 * schedule.FIRST_DAMAGED_BACKOFF]
    assert waits == sorted(waits)
    assert waits[-1] == schedule.MAX_DAMAGED_BACKOFF
    harness.close()


def test_a_failing_disk_is_retried_soon_although_there_was_damage_before(
    waits: list[float], harness: DiskHarness, disk: FaultyDisk
) -> None:
    messages = harness.open()
    harness.commit()
    damage_met = harness.store._failed_to_read  # noqa: SLF001  # the only way to report damage in an undamaged file
    for number in range(1, 12):
        damage_met(apsw.CorruptError("misread"))
        harness.until(lambda: harness.reopenings == number)  # noqa: B023  # called before the next round
    assert waits[-1] == schedule.MAX_DAMAGED_BACKOFF
    waits.clear()
    disk.set(Faults(write=True))
    messages = harness.messages
    messages.append(1, b"one")
    with pytest.raises(StoreFailed, match="is being reopened"):
        harness.commit()
    harness.until(lambda: len(waits) > 3)
    assert max(waits) <= schedule.MAX_BACKOFF


def test_damage_that_is_found_when_reopening_after_another_failure_is_reported(waits: list[float]) -> None:
    harness = DiskHarness()
    messages = harness.open()
    messages.append(1, b"one")
    harness.commit()
    path = harness.folder / DATABASE
    harness.store._failed_to_read(apsw.IOError("disk I/O error"))  # noqa: SLF001  # damage the file before it is reopened
    path.write_bytes(b"")
    harness.until(lambda: "is damaged" in harness.store.problem)
    assert "stop the server" in harness.store.problem
    harness.close()


def test_a_damaged_store_can_be_closed_while_it_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = Event()

    def check_for_ever(connection: apsw.Connection) -> Iterator[str]:
        begun.set()
        connection.execute("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n")
        yield "this is never reached"

    monkeypatch.setattr(check, "check_database", check_for_ever)
    harness = DiskHarness()
    damage_a_page(harness)
    with pytest.raises(StoreFailed):
        read_all(harness)
    harness.until(begun.is_set)
    harness.close()


# Without power

# Each round reads all messages of the earlier rounds.
ROUNDS = soaked(30, 200)


def changed_at_random(harness: DiskHarness, random: Random, start: int) -> int:
    """Add, take and acknowledge messages, and wait for the commit; return the next sequence number."""
    messages = harness.messages
    seq = start
    for _ in range(random.randrange(1, 30)):
        messages.append(seq, b"%d" % seq * random.randrange(1, 2_000))
        seq += 1
    messages.take_many(random.randrange(10), 1 << 20)
    checked_out, _ = messages.checkout_many(random.randrange(5), 1 << 20)
    for each in checked_out:
        messages.discard(each)
    harness.commit()
    return seq


def committed_in(harness: DiskHarness) -> dict[int, bytes]:
    """Return all messages of all queues."""
    return {seq: body for queue in harness.store.queues() for seq, body in queue.messages.after(0, 1_000_000, 1 << 40)}


@pytest.mark.parametrize("kept", ["nothing more", "any part more"])
def test_power_loss_takes_nothing_that_was_committed(harness: DiskHarness, disk: FaultyDisk, kept: str) -> None:
    random = Random(7)
    harness.open()
    seq = 1
    for _ in range(ROUNDS):
        seq = changed_at_random(harness, random, seq)
        expected = committed_in(harness)
        harness.lose_power(disk, random if kept == "any part more" else None)
        assert committed_in(harness) == expected


def test_power_loss_after_a_failed_sync_takes_nothing_that_was_committed(
    harness: DiskHarness, disk: FaultyDisk
) -> None:
    random = Random(11)
    harness.open()
    seq = 1
    for number in range(ROUNDS):
        seq = changed_at_random(harness, random, seq)
        disk.set(Faults(sync=True))
        harness.messages.append(seq, b"unsynced" * 1_000)
        with pytest.raises(StoreFailed):
            harness.commit()
        disk.set(Faults())
        harness.until(lambda: harness.reopenings == number + 1)  # noqa: B023  # called before the next round
        seq = changed_at_random(harness, random, max(seq + 1, harness.messages.tally.next_seq))
        expected = committed_in(harness)
        harness.lose_power(disk, random)
        assert committed_in(harness) == expected
        harness.reopenings = number + 1


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_these_tests_would_detect_a_store_that_does_not_sync(disk: FaultyDisk, synchronous: str) -> None:
    harness = DiskHarness(DiskSettings(vfs="faulty", reserve_bytes=0, synchronous=synchronous))
    harness.open()
    harness.commit()
    changed_at_random(harness, Random(7), 1)
    expected = committed_in(harness)
    harness.lose_power(disk, None)
    assert committed_in(harness) != expected
    harness.close()


# A real small disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory, of 12 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_real_disk_that_is_full_can_be_emptied(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "QUIET", 0.01)
    monkeypatch.setattr(writer, "FULL_FOR", 0)
    settings = DiskSettings(reserve_bytes=RESERVE, group_bytes=RESERVE // 4, log_bytes=RESERVE // 4)
    harness = DiskHarness(settings)
    messages = harness.open_in(small_disk / "data")
    seq = 0
    while not harness.store.problem:
        seq += 1
        messages.append(seq, bytes(100_000))
        harness.commit()
    assert seq > 20
    assert harness.store.problem_reason == "STORE_FULL"
    assert [messages.take() for _ in range(seq)] == [(each, bytes(100_000)) for each in range(1, seq + 1)]
    harness.commit()
    harness.until(lambda: not harness.store.problem)
    harness.close()


# The whole program on such a disk


def test_the_program_runs_on_a_disk_whose_faults_are_words_in_a_file(tmp_path: Path) -> None:
    harness = DiskHarness()
    harness.open()
    harness.commit()
    control = tmp_path / "control"
    command = [sys.executable, "-m", "support.faulty_disk", str(control), "check", "--data-dir", str(harness.folder)]
    environment = {**clean_environment(), "PYTHONPATH": str(Path(__file__).parents[1])}
    for words, code in (("", 0), ("read", 1)):
        control.write_text(words)
        assert subprocess.run(command, check=False, capture_output=True, env=environment).returncode == code
    harness.close()
