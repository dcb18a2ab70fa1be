"""A process that is killed at any moment loses nothing that was committed, and brings nothing removed back."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from queuelet.core.budget import MemoryBudget
from queuelet.stores.disk import DiskStore
from queuelet.stores.disk.check import check_store
from support import disk_worker
from support.counts import soaked
from support.disk_worker import SETTINGS, body_of, own_id_of
from support.logged_process import clean_environment
from support.patience import patient

KILLS = soaked(500, 10_000)
SPLIT = 4
"""How many tests share the kills, so that they can run in parallel."""


class Oracle:
    """Knows which messages must be stored, which must not, and which may be because their commit was in flight."""

    def __init__(self) -> None:
        self.there: set[int] = set()
        self.gone: set[int] = set()
        self.unsure: set[int] = set()
        self._in_flight: dict[str, dict[str, list[int]]] = {}
        self._removed: set[int] = set()

    def read(self, line: list[Any]) -> None:
        """Process a line of the process."""
        what, key, changes = line
        if what == "changed":
            self._in_flight[key] = changes
        elif what == "committed":
            self._settle(self._in_flight.pop(key, {}))

    def end(self) -> None:
        """Record that the process is dead: what was in flight may be committed or not."""
        for changes in self._in_flight.values():
            self.unsure.update(changes.get("added", []), changes.get("removed", []))
        self._in_flight.clear()
        self._removed.clear()

    def check(self, stored: set[int]) -> None:
        """Check the stored messages; they also show the outcome of changes that were in flight."""
        assert self.there - self.unsure <= stored, f"lost: {sorted(self.there - self.unsure - stored)}"
        assert not stored & (self.gone - self.unsure), f"back again: {sorted(stored & (self.gone - self.unsure))}"
        assert stored <= self.there | self.unsure, f"from nowhere: {sorted(stored - self.there - self.unsure)}"
        self.gone |= (self.there | self.unsure) - stored
        self.there, self.unsure = stored, set()

    def _settle(self, changes: dict[str, list[int]]) -> None:
        # If one commit adds and removes a message, the removal may be reported before the addition.
        self._removed.update(changes.get("removed", []))
        added = set(changes.get("added", [])) - self._removed
        self.there = (self.there | added) - self._removed
        self.gone = (self.gone | self._removed) - added


@pytest.fixture
def forks() -> Iterator[subprocess.Popen[str]]:
    """A process whose forks work in stores."""
    process = subprocess.Popen(
        [sys.executable, disk_worker.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**clean_environment(), "PYTHONPATH": str(Path(disk_worker.__file__).parents[1])},
    )
    yield process
    process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
    process.wait(patient(30))
    process.stdout.close()  # type: ignore[union-attr]  # it is a pipe


def work_until_killed(forks: subprocess.Popen[str], folder: Path, pipe: Path, random: Random) -> list[Any]:
    """Let a fork work for some milliseconds and kill it, during opening or later; return its lines."""
    assert forks.stdin
    assert forks.stdout
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 1 << 20)
    forks.stdin.write(f"{folder} {pipe} {random.randrange(1 << 30)}\n")
    forks.stdin.flush()
    process = int(forks.stdout.readline())
    if random.random() < 0.8:
        select.select([reader], [], [], 30)  # until it reports that the store is open
    time.sleep(random.uniform(0.001, 0.02))  # until the moment of the kill
    os.kill(process, signal.SIGKILL)
    assert forks.stdout.readline() == "gone\n"
    with os.fdopen(reader) as lines:
        return [json.loads(line) for line in lines if line.endswith("\n")]


def stored_in(folder: Path) -> set[int]:
    """Open a store, check each message in it, and return their sequence numbers."""

    async def read() -> set[int]:
        store = DiskStore(folder, budget=MemoryBudget(1 << 40), settings=SETTINGS)
        found: set[int] = set()
        for queue in store.queues():
            rows = queue.messages.after(0, 1_000_000, 1 << 40)
            assert all(body == body_of(seq) for seq, body in rows)
            found = {seq for seq, _ in rows}
            assert len(queue.messages) == len(found)
            assert queue.messages.stored_bytes == sum(len(body) for _, body in rows)
            assert set(queue.messages.deliveries) | set(queue.messages.ranks) <= found
            assert all(queue.messages.seq_of(own_id_of(seq)) == seq for seq in found if own_id_of(seq))
            assert queue.messages.tally.next_seq > max(found, default=0)
        await store.close()
        return found

    return asyncio.run(read())


@pytest.mark.timeout(soaked(120, 7_200))
@pytest.mark.parametrize("part", range(SPLIT))
def test_a_killed_process_loses_nothing_it_kept_and_brings_nothing_back(
    forks: subprocess.Popen[str], tmp_path: Path, part: int
) -> None:
    random = Random(part)
    oracle = Oracle()
    folder, pipe = tmp_path / "data", tmp_path / "pipe"
    os.mkfifo(pipe)
    commits = 0
    for number in range(KILLS // SPLIT):
        lines = work_until_killed(forks, folder, pipe, random)
        for line in lines:
            oracle.read(line)
        commits += sum(line[0] == "committed" for line in lines)
        oracle.end()
        # Mostly the next process opens the files that this one left; every tenth time they are checked.
        if number % 10 == 9:
            oracle.check(stored_in(folder))
            assert not check_store(folder).problems
    assert commits > KILLS // SPLIT // 4  # the processes did work
