"""What a Disk store does when its disk is full, or fails."""

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

from queuelet.core.message import Delivery
from queuelet.definition import State
from queuelet.errors import StoreFailed, StoreFull
from queuelet.stores.disk import DiskSettings, check, writer
from queuelet.stores.disk import commits as keeper
from queuelet.stores.disk import reserve as room
from queuelet.stores.disk.data_dir import DATABASE
from queuelet.stores.disk.loading import Contents
from queuelet.stores.disk.writer import Tidied, Writer
from support.counts import soaked
from support.disk_faults import Faults, FaultyDisk, FaultyVfs
from support.disk_harness import DiskHarness
from support.logged_process import clean_environment

MIB = 1024 * 1024
RESERVE = 2 * MIB
SETTINGS = DiskSettings(vfs="faulty", reserve_bytes=RESERVE, group_bytes=RESERVE // 4, log_bytes=RESERVE // 4)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyDisk]:
    """A disk without a fault so far."""
    disk = FaultyDisk()
    layer = FaultyVfs("faulty", disk)
    monkeypatch.setattr(room, "free_bytes", disk.free_bytes)
    monkeypatch.setattr(keeper, "QUIET", 0.01)
    monkeypatch.setattr(keeper, "FIRST_BACKOFF", 0.01)
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
    """Add messages until they are refused; return how many there are."""
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
    assert harness.store.figures().is_full
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


def test_leases_are_kept_on_a_full_disk(harness: DiskHarness, disk: FaultyDisk) -> None:
    messages = harness.open()
    fill_disk(harness, disk)
    seqs, _ = messages.checkout_many(100, 1 << 30)
    for seq in seqs:
        messages.deliveries[seq] = Delivery(State.LEASED, 1, seq, 50, 40, "worker")
    messages.mark_changed(seqs)
    harness.commit()
    assert sorted(harness.reopen().deliveries) == seqs


def test_a_full_disk_recovers_when_others_make_room(harness: DiskHarness, disk: FaultyDisk) -> None:
    harness.open()
    fill_disk(harness, disk)
    disk.set(Faults())
    harness.until(lambda: not harness.store.problem)
    harness.store.check_room()


def test_a_disk_that_was_full_counts_as_full_for_a_while(
    harness: DiskHarness, disk: FaultyDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "FULL_FOR", 1e9)
    tidy, tidied = Writer.tidy, []

    def noted(writer: Writer, **how: Any) -> Tidied:  # noqa: ANN401  # as it is called
        tidied.append(how)
        return tidy(writer, **how)

    monkeypatch.setattr(Writer, "tidy", noted)
    harness.open()
    fill_disk(harness, disk)
    disk.set(Faults())
    tidied.clear()
    harness.until(lambda: len(tidied) > 3)
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


def test_without_any_room_a_change_waits_until_there_is_some(harness: DiskHarness, disk: FaultyDisk) -> None:
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
def test_whoever_waits_is_told_that_the_outcome_is_not_known(
    harness: DiskHarness, disk: FaultyDisk, fault: Faults
) -> None:
    messages = harness.open()
    harness.commit()
    disk.set(fault)
    messages.append(1, b"one")
    with pytest.raises(StoreFailed, match="what became of the call is not known"):
        harness.commit()
    assert harness.store.problem_reason == "STORE_FAILED"
    assert not harness.store.figures().is_open
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
        lambda: messages.first_in_line,
        lambda: messages.get(1),
        lambda: messages.discard(1),
        lambda: messages.after(0, 10, 1 << 40),
        lambda: messages.seq_of(b"id"),
        lambda: messages.mark_changed([1]),
        lambda: messages.return_to_line(1),
        lambda: messages.answer(b"key"),
        lambda: messages.keep_answer(b"key", 1, b"answer"),
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
    assert harness.store.figures().failures == 1
    messages = harness.messages
    assert messages.get(1) == b"one"
    messages.append(3, b"three")
    harness.commit()


def test_a_failed_read_opens_the_store_anew(harness: DiskHarness, disk: FaultyDisk) -> None:
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


def test_the_store_goes_on_trying_to_open(harness: DiskHarness, disk: FaultyDisk) -> None:
    messages = harness.open()
    harness.commit()
    disk.set(Faults(write=True))
    messages.append(1, b"one")
    with pytest.raises(StoreFailed):
        harness.commit()
    harness.until(lambda: "cannot be opened anew" in harness.store.problem)
    disk.set(Faults())
    harness.until(lambda: harness.reopenings == 1)


# Damaged


class Unhurried(Event):
    """Stands in for the event that the opening waits with: notes for how long, and does not wait."""

    waits: list[float]

    def wait(self, timeout: float | None = None) -> bool:
        """Note it."""
        self.waits.append(timeout or 0.0)
        return super().wait(0.001)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """For how long a store would wait each time before it is opened anew. It does not."""
    waits: list[float] = []
    monkeypatch.setattr(Unhurried, "waits", waits, raising=False)
    monkeypatch.setattr(keeper, "Event", Unhurried)
    return waits


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """How the openings after a failure ended: whether the store serves again."""
    openings: list[bool] = []
    reopen = Writer.reopen

    def noted(writer: Writer, **how: Any) -> Contents:  # noqa: ANN401  # as it is called
        openings.append(False)
        contents = reopen(writer, **how)
        openings[-1] = True
        return contents

    monkeypatch.setattr(Writer, "reopen", noted)
    return openings


def damage_a_page(harness: DiskHarness) -> bytes:
    """Fill the store, and spoil a page of messages in its file; return how the file was."""
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
    """Read every message; return how many there are."""
    return len(harness.messages.after(0, 10_000, 1 << 40))


def test_a_damaged_page_fails_the_store_until_nothing_is_wrong_any_more(
    waits: list[float], openings: list[bool]
) -> None:
    harness = DiskHarness()
    good = damage_a_page(harness)
    assert harness.store.problem == "", "it is not known before the page is read"
    with pytest.raises(StoreFailed, match=r"the store is damaged .*: stop the server") as failed:
        read_all(harness)
    for word in ("`queuelet check`", "`queuelet restore`"):
        assert word in failed.value.message
    harness.until(lambda: len(openings) > 5)
    assert not any(openings), "it was opened, and is as damaged as it was"
    assert harness.store.problem_reason == "STORE_FAILED"
    assert harness.store.problem == failed.value.message
    with pytest.raises(StoreFailed, match="is damaged"):
        harness.store.check_room()
    assert harness.store.figures().failures == 1

    (harness.folder / DATABASE).write_bytes(good)
    harness.until(lambda: harness.reopenings == 1)
    assert harness.store.problem == ""
    assert read_all(harness) == 999
    harness.close()


def test_a_damaged_store_is_looked_at_ever_less_often(waits: list[float]) -> None:
    harness = DiskHarness()
    damage_a_page(harness)
    with pytest.raises(StoreFailed):
        read_all(harness)
    harness.until(lambda: len(waits) > 12)
    assert waits[:3] == [0, keeper.FIRST_DAMAGED_BACKOFF, 2 * keeper.FIRST_DAMAGED_BACKOFF]
    assert waits == sorted(waits)
    assert waits[-1] == keeper.LONGEST_DAMAGED_BACKOFF
    harness.close()


def test_a_failing_disk_is_looked_at_soon_though_there_was_damage_before(
    waits: list[float], harness: DiskHarness, disk: FaultyDisk
) -> None:
    messages = harness.open()
    harness.commit()
    damage_met = harness.store._failed_to_read  # noqa: SLF001  # nothing else tells of damage that is none
    for number in range(1, 12):
        damage_met(apsw.CorruptError("misread"))
        harness.until(lambda: harness.reopenings == number)  # noqa: B023  # called before the next round
    assert waits[-1] == keeper.LONGEST_DAMAGED_BACKOFF
    waits.clear()
    disk.set(Faults(write=True))
    messages = harness.messages
    messages.append(1, b"one")
    with pytest.raises(StoreFailed, match="is being opened anew"):
        harness.commit()
    harness.until(lambda: len(waits) > 3)
    assert max(waits) <= keeper.LONGEST_BACKOFF


def test_damage_that_is_met_in_opening_after_another_failure_is_told_of(waits: list[float]) -> None:
    harness = DiskHarness()
    messages = harness.open()
    messages.append(1, b"one")
    harness.commit()
    path = harness.folder / DATABASE
    harness.store._failed_to_read(apsw.IOError("disk I/O error"))  # noqa: SLF001  # the file is spoilt before it opens
    path.write_bytes(b"")
    harness.until(lambda: "is damaged" in harness.store.problem)
    assert "stop the server" in harness.store.problem
    harness.close()


def test_a_damaged_store_can_be_closed_while_it_is_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = Event()

    def look_for_ever(connection: apsw.Connection) -> Iterator[str]:
        begun.set()
        connection.execute("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n")
        yield "nobody sees this"

    monkeypatch.setattr(check, "check_database", look_for_ever)
    harness = DiskHarness()
    damage_a_page(harness)
    with pytest.raises(StoreFailed):
        read_all(harness)
    harness.until(begun.is_set)
    harness.close()


# Without power

# Each round reads all that was kept in those before.
ROUNDS = soaked(30, 200)


def changed_at_random(harness: DiskHarness, random: Random, start: int) -> int:
    """Add, take and acknowledge messages, and wait for all of it; return the next number."""
    messages = harness.messages
    seq = start
    for _ in range(random.randrange(1, 30)):
        messages.append(seq, b"%d" % seq * random.randrange(1, 2_000))
        seq += 1
    messages.take_many(random.randrange(10), 1 << 20)
    lifted, _ = messages.checkout_many(random.randrange(5), 1 << 20)
    for each in lifted:
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
def test_these_tests_would_notice_a_store_that_does_not_sync(disk: FaultyDisk, synchronous: str) -> None:
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
    monkeypatch.setattr(keeper, "QUIET", 0.01)
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
