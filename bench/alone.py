"""One put at a time, each awaited, compared with a plain unary Add: the producer's cost if it cannot batch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import grpc
import uvloop

from bench.contender import STORES
from bench.contenders import contender
from bench.record import message
from bench.report import OURS, Figures, say
from queuelet.client import Client, Producer
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import SERVICE

CASES = {f"alone-{store}": store for store in STORES}
"""The stores of the cases."""

_TOGETHER = 20
"""Calls of one kind in a row. Short turns, so that a slow phase of the machine slows all kinds."""

PUT, PLAIN = "put", "grpc.aio Add"


def run(case: str, figures: Figures, *, turns: int) -> None:
    """Measure this many turns of each way to add a message."""
    say(f"cycle {case}")
    ours: Any = contender(OURS, CASES[case])
    with (
        TemporaryDirectory(prefix="bench-") as folder,
        ours.started(Path(folder)) as server,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_run(case, server.address, turns, figures))


async def _run(case: str, address: str, turns: int, figures: Figures) -> None:
    queue = await contender(OURS, CASES[case], address).make_queue()
    async with (
        Client(address) as client,
        Producer(client, queue) as producer,
        grpc.aio.insecure_channel(address) as channel,
    ):
        call: Any = channel.unary_unary(
            f"/{SERVICE}/Add",
            request_serializer=pb.AddRequest.SerializeToString,
            response_deserializer=pb.AddResponse.FromString,
        )

        async def plain(payload: bytes) -> object:
            return await call(pb.AddRequest(queue_id=queue, message=pb.NewMessage(payload=payload)))

        ways: list[tuple[str, Callable[[bytes], Awaitable[object]]]] = [(PUT, producer.put), (PLAIN, plain)]
        payload = message(0, 0)
        for number in range(turns + 1):
            times: dict[str, float] = {}
            for name, once in ways if number % 2 else reversed(ways):
                began = perf_counter()
                for _ in range(_TOGETHER):
                    await once(payload)
                times[name] = (perf_counter() - began) / _TOGETHER * 1e6
            if number:  # the first warms up
                for name, time in times.items():
                    figures.note(case, f"{name}, time", time, "us")
                figures.note(case, f"time: {PUT} / {PLAIN}", times[PUT] / times[PLAIN], "x", target=1.0)
