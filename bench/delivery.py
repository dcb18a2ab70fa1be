"""Leases and the Disk store over the server's socket: their cost relative to Add, and to bare SQLite.

Every ratio is of figures from one round on one server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any
from urllib.request import urlopen

import apsw
import grpc

from bench.calls import PAYLOAD, CalledQueue, Calls
from bench.contender import DISK, MEMORY, STORES, RunningServer
from bench.contenders import contender
from bench.contenders.queuelet import OPTIONS
from bench.report import OURS, Figures, say


def run(*, rounds: int, quick: bool) -> Figures:
    """Measure everything, with a fifth of the messages if quick."""
    figures = Figures()
    ours: Any = contender(OURS, DISK)
    with TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with ours.started(folder, "--memory-watermark", str(1 << 40)) as server:
            asyncio.run(_Delivery(server, folder, figures, rounds, 5 if quick else 1).run())
    return figures


class _Delivery:
    """The measurements of one server."""

    def __init__(self, server: RunningServer, folder: Path, figures: Figures, rounds: int, divisor: int) -> None:
        self._server = server
        self._folder = folder
        self._figures = figures
        self._rounds = rounds
        self._divisor = divisor
        """Measurements use this many times fewer messages."""

    async def run(self) -> None:
        async with grpc.aio.insecure_channel(self._server.address, OPTIONS) as channel:
            calls = Calls(channel, self._server.pid)
            for store in STORES:
                for batch in (100, 1_000):
                    for callers in (1, 16):
                        say(f"leases, {store}, batches of {batch}, {callers} callers")
                        await self._leases(calls, store, batch, callers)
            say("the disk and bare SQLite")
            await self._compare_with_bare(calls)
            for store in STORES:
                await self._by_depth(calls, store)

    async def _queue(self, calls: Calls, store: str, batch: int = 100) -> CalledQueue:
        return CalledQueue(calls, await contender(OURS, store, self._server.address).make_queue(), batch)

    async def _leases(self, calls: Calls, store: str, batch: int, callers: int) -> None:
        """Measure a lease and its ack after the Add before it."""
        queue = await self._queue(calls, store, batch)
        case = f"{store}-batch{batch}-{callers}"
        messages = 64_000 // self._divisor
        for number in range(self._rounds + 1):
            added = await calls.cost(messages, callers, batch, queue.add)
            popped = await calls.cost(messages, callers, batch, queue.pop)
            await calls.cost(messages, callers, batch, queue.add)
            leased = await calls.cost(messages, callers, batch, queue.lease_and_ack)
            if number:  # the first warms up
                for what, cost in (("add", added), ("pop", popped), ("receive and ack", leased)):
                    self._figures.note(case, what, cost.rate, "msg/s", more_is_better=True)
                    self._figures.note(case, f"CPU: {what}", cost.cpu, "us")
                what, target = "CPU: receive and ack / add", 1.0 if store == MEMORY else 2.0
                self._figures.note(case, what, leased.cpu / added.cpu, "x", target=target)

    async def _compare_with_bare(self, calls: Calls) -> None:
        """Measure the Disk store and SQLite in turns, with the same rows in transactions of the same sizes."""
        memory, disk = await self._queue(calls, MEMORY), await self._queue(calls, DISK)
        batches, singles = 192_000 // self._divisor, 2_000 // self._divisor
        with _bare_sqlite(self._folder) as bare:
            for number in range(self._rounds + 1):
                before = await asyncio.to_thread(self._commits)
                ours = await calls.cost(batches, 64, 100, disk.add)
                commits = max(1, await asyncio.to_thread(self._commits) - before)
                theirs = bare.commits(round(batches / commits), commits)
                in_memory = await calls.cost(singles, 1, 1, memory.add_one)
                on_disk = await calls.cost(singles, 1, 1, disk.add_one)
                bound = in_memory.each + 1.4 * bare.commits(1, singles) / singles * 1e6
                if number:
                    what, share = "of bare SQLite's rate", theirs / ours.seconds
                    self._figures.note("disk-64x100", what, share, "x", target=0.5, more_is_better=True)
                    self._figures.note("disk-1x1", "time / (memory + 1.4 commits)", on_disk.each / bound, "x", target=1)

    def _commits(self) -> int:
        """Return how many transactions the Disk store has written."""
        with urlopen(f"http://127.0.0.1:{self._server.facts['metrics_port']}/metrics") as response:
            lines = response.read().decode().splitlines()
        (count,) = (line.split()[1] for line in lines if line.startswith("queuelet_disk_commit_seconds_count"))
        return int(float(count))

    async def _by_depth(self, calls: Calls, store: str) -> None:
        """Measure the same load on queues of growing size, in turns."""
        queues = {depth // self._divisor: await self._queue(calls, store) for depth in (0, 100_000, 1_000_000)}
        for depth, queue in queues.items():
            say(f"{depth:,} messages in the queue, {store}")
            await queue.fill(depth)
        messages = 32_000 // self._divisor
        for number in range(self._rounds + 1):
            empty: dict[str, float] = {}
            for depth, queue in queues.items():
                for what, once in (("add", queue.add), ("receive and ack", queue.lease_and_ack)):
                    rate = (await calls.cost(messages, 16, 100, once)).rate
                    if not depth:
                        empty[what] = rate
                    elif number:
                        case, share = f"{store}, {depth:,} in the queue", f"{what}, of the rate when empty"
                        self._figures.note(case, share, rate / empty[what], "x", target=0.8, more_is_better=True)


class _BareSqlite:
    """The lower bound for a durable queue: a table of rows, without a queue, a server or a second thread.

    It uses the library and the settings of the Disk store.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._next = 1

    def commits(self, rows: int, count: int) -> float:
        """Write this many transactions of this many rows, each synced; return the elapsed seconds."""
        begin = perf_counter()
        for _ in range(count):
            first, self._next = self._next, self._next + rows
            places = ((place, PAYLOAD) for place in range(first, first + rows))
            with self._connection:
                self._connection.executemany("INSERT INTO messages VALUES (?, ?)", places)
        return perf_counter() - begin


@contextmanager
def _bare_sqlite(folder: Path) -> Iterator[_BareSqlite]:
    connection = apsw.Connection(str(folder / "bare.db"))
    try:
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        connection.execute("CREATE TABLE messages (place INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        yield _BareSqlite(connection)
    finally:
        connection.close()
