"""Leases and the Disk store over the server's socket: their cost relative to Add and Pop, and to bare SQLite.

Every ratio is of figures from one round on one server. CPU is the server's; the callers are in this process.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any
from urllib.request import urlopen

import grpc

from bench.bare_sqlite import bare_sqlite
from bench.process import cpu_seconds, started_python
from bench.report import Figure, Progress
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import SERVICE

PAYLOAD = b"x" * 1_024
STORES = ("MEMORY", "DISK")

_RUN = (
    "from pathlib import Path; from queuelet.server import run, Settings; "
    "run(Settings(listen='127.0.0.1:0', metrics='127.0.0.1:0', data_dir=Path('{folder}'), memory_watermark=1 << 40))"
)
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_HOUR = 3_600

_FILL = 1_000
"""Messages per call while a queue is filled."""


@dataclass(frozen=True, slots=True)
class _Span:
    """The seconds that this many messages took."""

    messages: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds

    @property
    def each(self) -> float:
        """Microseconds per message."""
        return self.seconds / self.messages * 1e6

    @property
    def cpu_each(self) -> float:
        """Microseconds of the server's CPU per message."""
        return self.cpu / self.messages * 1e6


class _Server:
    """Calls to a running server, with requests that are serialized in advance."""

    def __init__(self, channel: grpc.aio.Channel, pid: int) -> None:
        self._channel = channel
        self._pid = pid
        self._methods: dict[str, Any] = {}

    async def call(self, method: str, request: bytes) -> bytes:
        if method not in self._methods:
            make: Any = self._channel.unary_unary(f"/{SERVICE}/{method}")
            self._methods[method] = make
        response: bytes = await self._methods[method](request)
        return response

    async def new_queue(self, store: str) -> str:
        request = pb.NewQueueRequest(store=store, limit=-1)
        response = await self.call("NewQueue", request.SerializeToString())
        return pb.NewQueueResponse.FromString(response).queue.meta.id

    async def span(self, messages: int, callers: int, batch: int, once: Callable[[], Awaitable[object]]) -> _Span:
        """Distribute this many messages over callers, `batch` per call."""
        turns = iter(range(messages // batch))

        async def caller() -> None:
            for _ in turns:
                await once()

        before, began = cpu_seconds(self._pid) or 0.0, perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        return _Span(messages, perf_counter() - began, (cpu_seconds(self._pid) or 0.0) - before)


class _Load:
    """One queue, and calls on it."""

    def __init__(self, server: _Server, queue: str, batch: int) -> None:
        self._server = server
        self._queue = queue
        new = pb.NewMessage(payload=PAYLOAD)
        self._single = pb.AddRequest(queue_id=queue, message=new).SerializeToString()
        self._batch = pb.AddBatchRequest(queue_id=queue, messages=[new] * batch).SerializeToString()
        self._pop = pb.PopBatchRequest(queue_id=queue, max=batch).SerializeToString()
        self._receive = pb.ReceiveRequest(queue_id=queue, max=batch).SerializeToString()

    async def add_one(self) -> None:
        await self._server.call("Add", self._single)

    async def add(self) -> None:
        await self._server.call("AddBatch", self._batch)

    async def pop(self) -> None:
        await self._server.call("PopBatch", self._pop)

    async def lease_and_ack(self) -> None:
        leased = pb.ReceiveResponse.FromString(await self._server.call("Receive", self._receive))
        tokens = [delivery.token for delivery in leased.deliveries]
        await self._server.call("Ack", pb.AckRequest(queue_id=self._queue, tokens=tokens).SerializeToString())


def run(*, rounds: int, quick: bool, progress: Progress) -> list[Figure]:
    """Measure everything."""
    with TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with started_python(["-c", _RUN.format(folder=folder / "data")], folder) as (address, pid):
            return asyncio.run(_run(address, pid, folder, rounds=rounds, quick=quick, progress=progress))


async def _run(  # noqa: PLR0913  # each argument is a setting of the measurement
    address: str, pid: int, folder: Path, *, rounds: int, quick: bool, progress: Progress
) -> list[Figure]:
    rows: list[Figure] = []
    async with grpc.aio.insecure_channel(address, _OPTIONS) as channel:
        server = _Server(channel, pid)
        for store in STORES:
            for batch in (100, 1_000):
                for callers in (1, 16):
                    progress.begin(f"leases, {store.lower()}, batches of {batch}, {callers} callers")
                    rows += await _leases(server, store, batch, callers, rounds, 20_000 if quick else 64_000)
        progress.begin("the disk and bare SQLite")
        rows += await _compare_with_bare(server, folder, rounds, quick=quick)
        for store in STORES:
            progress.begin(f"messages in the queue, {store.lower()}")
            rows += await _by_depth(server, store, rounds, progress, quick=quick)
    return rows


async def _leases(  # noqa: PLR0913, PLR0917  # each argument is a setting of the measurement
    server: _Server, store: str, batch: int, callers: int, rounds: int, messages: int
) -> list[Figure]:
    """Measure a lease and its ack after the Add before it."""
    load = _Load(server, await server.new_queue(store), batch)
    spans: list[tuple[_Span, _Span, _Span]] = []
    for number in range(rounds + 1):
        added = await server.span(messages, callers, batch, load.add)
        popped = await server.span(messages, callers, batch, load.pop)
        await server.span(messages, callers, batch, load.add)
        leased = await server.span(messages, callers, batch, load.lease_and_ack)
        if number:  # the first warms up
            spans.append((added, popped, leased))
    case = f"{store.lower()}-batch{batch}-{callers}"
    target = 1.0 if store == "MEMORY" else 2.0
    return [
        Figure(case=case, what="add", values=[a.rate for a, _, _ in spans], unit="msg/s"),
        Figure(case=case, what="pop", values=[p.rate for _, p, _ in spans], unit="msg/s"),
        Figure(case=case, what="receive and ack", values=[r.rate for _, _, r in spans], unit="msg/s"),
        Figure(case=case, what="CPU: add", values=[a.cpu_each for a, _, _ in spans], unit="us"),
        Figure(case=case, what="CPU: receive and ack", values=[r.cpu_each for _, _, r in spans], unit="us"),
        Figure(
            case=case,
            what="CPU: receive and ack / add",
            values=[r.cpu_each / a.cpu_each for a, _, r in spans],
            unit="x",
            target=target,
        ),
        Figure(case=case, what="time: receive and ack / add", values=[r.each / a.each for a, _, r in spans], unit="x"),
    ]


async def _compare_with_bare(server: _Server, folder: Path, rounds: int, *, quick: bool) -> list[Figure]:
    """Measure the Disk store and SQLite in turns, with the same rows in transactions of the same sizes."""
    memory = _Load(server, await server.new_queue("MEMORY"), 100)
    disk = _Load(server, await server.new_queue("DISK"), 100)
    batches, singles = (64_000, 500) if quick else (192_000, 2_000)
    shares: list[float] = []
    excesses: list[float] = []
    sizes: list[float] = []
    with bare_sqlite(folder, PAYLOAD) as bare:
        for number in range(rounds + 1):
            before = await asyncio.to_thread(_commits, folder)
            ours = await server.span(batches, 64, 100, disk.add)
            commits = await asyncio.to_thread(_commits, folder) - before
            group = round(batches / max(1, commits))
            theirs = bare.commits(group, max(1, round(commits)))
            in_memory = await server.span(singles, 1, 1, memory.add_one)
            on_disk = await server.span(singles, 1, 1, disk.add_one)
            commit = bare.commits(1, singles) / singles * 1e6
            if number:
                sizes.append(group)
                shares.append(theirs / ours.seconds)
                excesses.append(on_disk.each / (in_memory.each + 1.4 * commit))
    return [
        Figure(case="disk-64x100", what="messages a transaction", values=sizes, unit="messages"),
        Figure(
            case="disk-64x100",
            what="of bare SQLite's rate",
            values=shares,
            unit="x",
            target=0.5,
            more_is_better=True,
        ),
        Figure(case="disk-1x1", what="time / (memory + 1.4 commits)", values=excesses, unit="x", target=1.0),
    ]


def _commits(folder: Path) -> int:
    """Return how many transactions the Disk store has written."""
    serving = next(line for line in (folder / "output").read_text().splitlines() if '"serving"' in line)
    with urlopen(f"http://127.0.0.1:{json.loads(serving)['metrics_port']}/metrics") as response:
        lines = response.read().decode().splitlines()
    return int(float(next(line for line in lines if line.startswith("queuelet_disk_commit_seconds_count")).split()[1]))


async def _by_depth(server: _Server, store: str, rounds: int, progress: Progress, *, quick: bool) -> list[Figure]:
    """Measure the same load on queues of growing size, in turns."""
    depths = (0, 20_000, 100_000) if quick else (0, 100_000, 1_000_000)
    apart = depths[1] // 2 if quick else 100_000
    loads: dict[int, _Load] = {}
    for depth in depths:
        queue = await server.new_queue(store)
        loads[depth] = _Load(server, queue, 100)
        progress.step(f"filling with {depth:,}")
        if depth:
            await _fill(server, queue, depth, leased=apart, delayed=apart)
    rates: dict[int, dict[str, list[float]]] = {depth: {"add": [], "receive and ack": []} for depth in depths}
    messages = 10_000 if quick else 32_000
    for number in range(rounds + 1):
        for depth, load in loads.items():
            added = await server.span(messages, 16, 100, load.add)
            leased = await server.span(messages, 16, 100, load.lease_and_ack)
            if number:
                rates[depth]["add"].append(added.rate)
                rates[depth]["receive and ack"].append(leased.rate)
    return [
        Figure(
            case=f"{store.lower()}, {depth:,} in the queue",
            what=f"{what}, of the rate when empty",
            values=[full / empty for full, empty in zip(rates[depth][what], rates[0][what], strict=True)],
            unit="x",
            target=0.8,
            more_is_better=True,
        )
        for depth in depths[1:]
        for what in ("add", "receive and ack")
    ]


async def _fill(server: _Server, queue: str, depth: int, *, leased: int, delayed: int) -> None:
    """Fill a queue; of its messages, this many are leased and this many delayed."""
    plain = [pb.NewMessage(payload=PAYLOAD)] * _FILL
    late = pb.NewMessage(payload=PAYLOAD)
    late.delay.FromSeconds(_HOUR)
    for _ in range(max(0, depth - delayed) // _FILL):
        await server.call("AddBatch", pb.AddBatchRequest(queue_id=queue, messages=plain).SerializeToString())
    for _ in range(delayed // _FILL):
        await server.call("AddBatch", pb.AddBatchRequest(queue_id=queue, messages=[late] * _FILL).SerializeToString())
    request = pb.ReceiveRequest(queue_id=queue, max=_FILL)
    request.lease.FromSeconds(_HOUR)
    for _ in range(min(leased, depth - delayed) // _FILL):
        await server.call("Receive", request.SerializeToString())
