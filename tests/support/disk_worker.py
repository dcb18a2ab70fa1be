"""A process that changes a Disk store at random and reports what was committed, until it is killed.

It forks for each folder, so that a hundred kills need one start of Python. A fork writes a line of JSON to its pipe for
each change, and another once the change is committed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from random import Random
from typing import Any

from queuelet.core.budget import MemoryBudget
from queuelet.core.message import DeliveryRecord, Rank
from queuelet.core.storage import Messages
from queuelet.definition import MessageState, QueueDefinition, StoreKind
from queuelet.stores.disk import DiskSettings, DiskStore

QUEUE_ID = "6f9c0000-0000-4000-8000-000000000001"
SETTINGS = DiskSettings(reserve_bytes=0, group_bytes=16_384, log_bytes=65_536)


def body_of(seq: int) -> bytes:
    """Return the message with a sequence number."""
    return Random(seq).randbytes(1 + seq * 7919 % 3_000)


def own_id_of(seq: int) -> bytes:
    """Return the ID that the producer of a message gave, empty for most."""
    return b"%08d-1111-4222-8333-444455556666" % seq if seq % 5 == 0 else b""


class Work:
    """Random changes, each reported when it is made and when it is committed."""

    def __init__(self, store: DiskStore, pipe: int, random: Random) -> None:
        self._store = store
        self._pipe = pipe
        self._random = random

    async def go_on(self) -> None:
        """Work until the process is killed: with three callers, so that a group fills while another is written."""
        queue = next(iter(self._store.queues()), None)
        messages: Messages
        if queue is None:
            messages = self._store.new(QUEUE_ID, 1, QueueDefinition(store=StoreKind.DISK, name="orders"))
            await _committed(messages, self._store)
        else:
            messages = queue.messages
        await asyncio.gather(*(self._call(messages, caller) for caller in range(3)))

    async def _call(self, messages: Messages, caller: int) -> None:
        number = 0
        while True:
            number += 1
            key = f"{caller}.{number}"
            changes = self._change(messages)
            self._report("changed", key, changes)
            await _committed(messages, self._store)
            self._report("committed", key, {})
            await asyncio.sleep(0)

    def _change(self, messages: Messages) -> dict[str, Any]:
        """Make a change, and return the sequence numbers that were added and removed."""
        choice = self._random.random()
        count = self._random.randrange(1, 12)
        if choice < 0.5 or not len(messages):
            return {"added": [self._add(messages) for _ in range(count)]}
        if choice < 0.7:
            return {"removed": messages.take_many(count, 20_000)[0]}
        if choice < 0.72:
            removed = [seq for seq, _ in messages.after(0, 1_000_000, 1 << 40)]
            messages.clear()
            return {"removed": removed}
        leased, _ = messages.checkout_many(count, 20_000)
        for seq in leased:
            messages.deliveries[seq] = DeliveryRecord(MessageState.LEASED, 1, seq, 50, 40, "worker")
        messages.mark_leased(leased)
        acked = [seq for seq in list(messages.deliveries) if self._random.random() < 0.5]
        for seq in acked:
            messages.discard(seq)
            del messages.deliveries[seq]
            messages.ranks.pop(seq, None)
        return {"removed": acked}

    def _add(self, messages: Messages) -> int:
        seq = messages.tally.next_seq
        messages.tally.next_seq = seq + 1
        if seq % 7:
            messages.append(seq, body_of(seq), own_id_of(seq))
        else:
            messages.keep(seq, body_of(seq), Rank(-1, 1, 1, 0), own_id_of(seq))
            messages.deliveries[seq] = DeliveryRecord(MessageState.READY)
            messages.mark_changed([seq])
        return seq

    def _report(self, what: str, key: str, changes: dict[str, Any]) -> None:
        os.write(self._pipe, json.dumps([what, key, changes]).encode() + b"\n")


async def _committed(messages: Messages, store: DiskStore) -> None:
    for commit in (messages.commit(), store.commit()):
        if commit is not None:
            await commit
            return


async def work(folder: Path, pipe: int, seed: int) -> None:
    """Open the store of a folder and work in it."""
    store = DiskStore(folder, budget=MemoryBudget(1 << 40), settings=SETTINGS)
    os.write(pipe, b'["open", "", {}]\n')
    await Work(store, pipe, Random(seed)).go_on()


def main() -> None:
    """Fork for each line `<folder> <pipe to report to> <seed>` of standard input, and print the fork's process ID."""
    for line in sys.stdin:
        folder, pipe, seed = line.rsplit(" ", 2)
        process = os.fork()
        if process == 0:
            os.dup2(os.open(pipe, os.O_WRONLY), 3)
            asyncio.run(work(Path(folder), 3, int(seed)))
        sys.stdout.write(f"{process}\n")
        sys.stdout.flush()
        os.waitpid(process, 0)
        sys.stdout.write("gone\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
