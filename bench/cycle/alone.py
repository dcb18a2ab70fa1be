"""One put at a time, each awaited, compared with plain unary Adds: the producer's cost if it cannot batch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import grpc
import uvloop

from bench.contender import STORES
from bench.contenders import contender
from bench.record import message
from bench.report import OURS, Figure, Progress
from queuelet.client import Client, Producer
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import SERVICE

_TOGETHER = 20
"""Calls of one kind in a row. Short turns, so that a slow phase of the machine slows all kinds."""

PUT, ADD, PLAIN = "put", "Client.add", "grpc.aio Add"
CASES = tuple(f"alone-{store}" for store in STORES)

_Way = Callable[[bytes], Awaitable[object]]


def run(cases: list[str], *, turns: int, progress: Progress) -> list[Figure]:
    """Measure this many turns of each way; return their figures."""
    rows: list[Figure] = []
    for case in cases:
        progress.begin(f"cycle {case}")
        ours = contender(OURS, case.removeprefix("alone-"))
        with (
            TemporaryDirectory(prefix="bench-") as folder,
            ours.start(Path(folder)) as server,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            rows += runner.run(_run(case, server.address, turns))
    return rows


async def _run(case: str, address: str, turns: int) -> list[Figure]:
    store = case.removeprefix("alone-").upper()
    async with Client(address) as client, grpc.aio.insecure_channel(address) as channel:
        queue = (await client.new_queue(store=store)).id
        async with Producer(client, queue) as producer:
            ways: dict[str, _Way] = {
                PUT: producer.put,
                ADD: lambda payload: client.add(queue, payload),
                PLAIN: _plain(channel, queue),
            }
            spans: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
            names = list(ways)
            for number in range(turns + 1):
                for name in names:
                    span = await _span(ways[name])
                    if number:  # the first warms up
                        spans[name].append(span)
                names.append(names.pop(0))
    times = {name: [time for time, _ in each] for name, each in spans.items()}
    cpu = {name: [used for _, used in each] for name, each in spans.items()}
    return [
        *(Figure(case=case, what=f"{name}, time", values=times[name], unit="us") for name in ways),
        *(Figure(case=case, what=f"{name}, CPU of the client", values=cpu[name], unit="us") for name in ways),
        *(
            Figure(
                case=case,
                what=f"time: {PUT} / {name}",
                values=_ratios(times[PUT], times[name]),
                unit="x",
                target=1.0,
            )
            for name in (ADD, PLAIN)
        ),
    ]


def _plain(channel: grpc.aio.Channel, queue: str) -> _Way:
    """Return the call of the generated code."""
    call: Any = channel.unary_unary(
        f"/{SERVICE}/Add",
        request_serializer=pb.AddRequest.SerializeToString,
        response_deserializer=pb.AddResponse.FromString,
    )

    async def add(payload: bytes) -> object:
        return await call(pb.AddRequest(queue_id=queue, message=pb.NewMessage(payload=payload)))

    return add


async def _span(once: _Way) -> tuple[float, float]:
    """Return the microseconds of a call, elapsed and of this process's CPU."""
    payload = message(0, 0)
    used, began = process_time(), perf_counter()
    for _ in range(_TOGETHER):
        await once(payload)
    return (perf_counter() - began) / _TOGETHER * 1e6, (process_time() - used) / _TOGETHER * 1e6


def _ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]
