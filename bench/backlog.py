"""The PostgreSQL store with a large backlog: how long a take-over is, and what many removals leave in its table."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from urllib.request import urlopen

import grpc

from bench.calls import PAYLOAD, CalledQueue, Calls
from bench.contender import DISK, RunningServer
from bench.contenders import POSTGRES, contender
from bench.contenders.queuelet import OPTIONS
from bench.databases import database
from bench.processes import HOST
from bench.report import Figures, say
from queuelet.server.process import Server, Settings
from queuelet.v1 import queue_pb2 as pb

TAKE_OVER, CHURN = "postgres-take-over", "postgres-churn"
CASES = (TAKE_OVER, CHURN)

_BACKLOG, _LEASED = 1_000_000, 10_000
_FILLERS, _FILL = 4, 1_000

_CHURNERS, _BATCH = 32, 100
_CHURN_SECONDS, _PART_SECONDS = 90, 10

_TAKE_OVER_SECONDS = 0.5
_TABLE_MIB = 400.0
_LAST_TO_FIRST = 0.9


def run(cases: Iterable[str], figures: Figures, *, rounds: int) -> None:
    """Run the cases: this many take-overs, and the removals once."""
    if TAKE_OVER in cases:
        with database(0) as running:
            asyncio.run(_take_over(running.url, figures, rounds))
    if CHURN in cases:
        target = contender(POSTGRES, DISK)
        with TemporaryDirectory(prefix="bench-") as folder, target.started(Path(folder)) as server:
            asyncio.run(_churn(server, figures))


async def _take_over(url: str, figures: Figures, rounds: int) -> None:
    """Fill a queue, then start this many servers one after another: each has a free lease to take."""
    say(f"{TAKE_OVER}: {_BACKLOG:,} messages, {_LEASED:,} of them leased")
    queue = await _filled(url)
    for number in range(rounds):
        say(f"  round {number + 1} of {rounds}")
        server = _server(url)
        began = perf_counter()
        await server.start()
        served = perf_counter()
        async with grpc.aio.insecure_channel(f"{HOST}:{server.port}", OPTIONS) as channel:
            await Calls(channel, 0)("Pop", pb.PopRequest(queue_id=queue).SerializeToString())
        popped = perf_counter()
        await _stop(server)
        figures.note(TAKE_OVER, "until it serves", served - began, "s", target=_TAKE_OVER_SECONDS)
        figures.note(TAKE_OVER, "the first Pop after that", (popped - served) * 1e3, "ms")


async def _filled(url: str) -> str:
    """Return the ID of a queue with the backlog."""
    server = _server(url)
    await server.start()
    async with grpc.aio.insecure_channel(f"{HOST}:{server.port}", OPTIONS) as channel:
        calls = Calls(channel, 0)
        new = pb.NewQueueRequest(name="backlog", store=pb.Queue.POSTGRES, limit=-1)
        queue = pb.NewQueueResponse.FromString(await calls("NewQueue", new.SerializeToString())).queue.meta.id
        add = pb.AddBatchRequest(queue_id=queue, messages=[pb.NewMessage(payload=PAYLOAD)] * _FILL)
        receive = pb.ReceiveRequest(queue_id=queue, max=_FILL)
        receive.lease.FromSeconds(3_600)
        await _repeat(calls, "AddBatch", add.SerializeToString(), _BACKLOG // _FILL)
        await _repeat(calls, "Receive", receive.SerializeToString(), _LEASED // _FILL)
    await _stop(server)
    return queue


async def _repeat(calls: Calls, method: str, request: bytes, times: int) -> None:
    turns = iter(range(times))

    async def caller() -> None:
        for _ in turns:
            await calls(method, request)

    await asyncio.gather(*(caller() for _ in range(_FILLERS)))


def _server(url: str) -> Server:
    return Server(
        Settings(listen=f"{HOST}:0", metrics=f"{HOST}:0", http="", postgres=url, memory_watermark=1 << 40, grace=5)
    )


async def _stop(server: Server) -> None:
    server.request_stop()
    await server.wait()


async def _churn(server: RunningServer, figures: Figures) -> None:
    """Add and pop batches at full rate, and read the size of the table each second."""
    say(f"{CHURN}: Add and Pop in batches of {_BATCH} by {_CHURNERS} callers, {_CHURN_SECONDS} s")
    removed, biggest, parts = 0, 0.0, []
    end = perf_counter() + _CHURN_SECONDS
    async with grpc.aio.insecure_channel(server.address, OPTIONS) as channel:
        calls = Calls(channel, server.pid)
        queue = await contender(POSTGRES, DISK, server.address).make_queue()
        called = CalledQueue(calls, queue, _BATCH)
        for _ in range(_CHURNERS):
            await called.add()

        async def churn() -> None:
            nonlocal removed
            while perf_counter() < end:
                await called.add()
                await called.pop()
                removed += _BATCH

        churners = asyncio.gather(*(churn() for _ in range(_CHURNERS)))
        for _ in range(_CHURN_SECONDS // _PART_SECONDS):
            before, began = removed, perf_counter()
            for _ in range(_PART_SECONDS):
                await asyncio.sleep(1)
                biggest = max(biggest, await asyncio.to_thread(_table_bytes, server))
            parts.append((removed - before) / (perf_counter() - began))
            say(f"    {parts[-1]:,.0f} added and removed a second, at most {biggest / 2**20:.0f} MiB")
        await churners
    figures.note(CHURN, "added and removed, first 10 s", parts[0], "msg/s", more_is_better=True)
    figures.note(CHURN, "the last 10 s, of that", parts[-1] / parts[0], "x", target=_LAST_TO_FIRST, more_is_better=True)
    figures.note(CHURN, "the table with its indexes, at most", biggest / 2**20, "MiB", target=_TABLE_MIB)


def _table_bytes(server: RunningServer) -> float:
    with urlopen(f"http://{HOST}:{server.facts['metrics_port']}/metrics") as response:
        found = re.search(rb"^\w*postgres_table_bytes (\S+)", response.read(), re.MULTILINE)
    assert found, "the metrics lack the size of the table"
    return float(found[1])
