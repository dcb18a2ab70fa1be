"""What a Disk store does when its disk is full, or fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from queuelet.definition import State
from queuelet.errors import StoreFailed, StoreFull
from queuelet.message import Delivery
from queuelet.stores.disk import DiskSettings, keeper, room
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
    seqs, _ = messages.lift_many(100, 1 << 30)
    for seq in seqs:
        messages.deliveries[seq] = Delivery(State.LEASED, 1, seq, 50, 40, "worker")
    messages.touch(seqs)
    harness.commit()
    assert sorted(harness.reopen().deliveries) == seqs


def test_a_full_disk_recovers_when_others_make_room(harness: DiskHarness, disk: FaultyDisk) -> None:
    harness.open()
    fill_disk(harness, disk)
    disk.set(Faults())
    harness.until(lambda: not harness.store.problem)
    harness.store.check_room()


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
        lambda: messages.touch([1]),
        lambda: messages.put_back(1),
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


# Without power

ROUNDS = soaked(30, 500)


def changed_at_random(harness: DiskHarness, random: Random, start: int) -> int:
    """Add, take and acknowledge messages, and wait for all of it; return the next number."""
    messages = harness.messages
    seq = start
    for _ in range(random.randrange(1, 30)):
        messages.append(seq, b"%d" % seq * random.randrange(1, 2_000))
        seq += 1
    messages.take_many(random.randrange(10), 1 << 20)
    lifted, _ = messages.lift_many(random.randrange(5), 1 << 20)
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
