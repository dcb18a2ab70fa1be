"""Ways to add one message, compared in turns on one of our servers: by REST, by our producer, and by plain gRPC."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import grpc
import uvloop

from bench.calls import Calls, Cost
from bench.contender import MEMORY, STORES, Load, RunningServer
from bench.contenders import contender
from bench.errors import Failed
from bench.processes import HOST
from bench.record import SIZE
from bench.report import OURS, Figures, say
from bench.requests import requests
from queuelet.client import Client, Producer
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import SERVICE

REST = {f"rest-{load.name}": load for load in (Load(1, 128, 1), Load(1, 128, 64), Load(1, 1_024, 64))}
"""Add over REST and over gRPC. What counts is the server's CPU."""

ALONE = {f"alone-{store}": store for store in STORES}
"""One put at a time, each awaited, and a plain unary Add: the producer's cost if it cannot batch."""

_TOGETHER = 20
"""Puts in a row. Short turns, so that a slow phase of the machine slows all ways."""

Ways = Mapping[str, Callable[[], Awaitable[object]]]


def run_rest(case: str, figures: Figures, *, rounds: int, messages: int) -> None:
    """Measure the server's CPU, in rounds of this many messages."""
    load = REST[case]

    async def ways(server: RunningServer, calls: Calls, queue: str, opened: AsyncExitStack) -> Ways:
        gateway = f"http://{HOST}:{server.facts['http_port']}"
        connector = aiohttp.TCPConnector(limit=load.callers)
        session = await opened.enter_async_context(aiohttp.ClientSession(gateway, connector=connector))
        request = requests(queue, load.payloads)["Add"]
        body = json.dumps({"payload": b64encode(load.payloads[0]).decode()}).encode()

        async def add() -> None:
            headers = {"Content-Type": "application/json"}
            async with session.post(f"/v1/queues/{queue}", data=body, headers=headers) as response:
                text = await response.text()
                if response.status != 200:
                    raise Failed(f"Add over REST got {response.status}: {text[:200]}")

        return {"REST Add": add, "gRPC Add": lambda: calls("Add", request)}

    for costs in _turns(case, MEMORY, ways, turns=rounds, messages=messages, callers=load.callers):
        for way, cost in costs.items():
            figures.note(case, way, cost.rate, "msg/s", more_is_better=True)
            figures.note(case, f"CPU: {way}", cost.cpu, "us")
        figures.note(case, "CPU: REST Add / gRPC Add", costs["REST Add"].cpu / costs["gRPC Add"].cpu, "x")


def run_alone(case: str, figures: Figures, *, turns: int) -> None:
    """Measure the time of a put."""

    async def ways(server: RunningServer, calls: Calls, queue: str, opened: AsyncExitStack) -> Ways:
        client = await opened.enter_async_context(Client(server.address))
        producer = await opened.enter_async_context(Producer(client, queue))
        add: Any = calls.channel.unary_unary(
            f"/{SERVICE}/Add",
            request_serializer=pb.AddRequest.SerializeToString,
            response_deserializer=pb.AddResponse.FromString,
        )
        payload = b"x" * SIZE
        return {
            "put": lambda: producer.put(payload),
            "grpc.aio Add": lambda: add(pb.AddRequest(queue_id=queue, message=pb.NewMessage(payload=payload))),
        }

    for costs in _turns(case, ALONE[case], ways, turns=turns, messages=_TOGETHER, callers=1):
        for way, cost in costs.items():
            figures.note(case, f"{way}, time", cost.each, "us")
        what = "time: put / grpc.aio Add"
        figures.note(case, what, costs["put"].each / costs["grpc.aio Add"].each, "x", target=1.0)


def _turns(  # noqa: PLR0913  # each argument is a setting of the measurement
    case: str,
    store: str,
    make: Callable[[RunningServer, Calls, str, AsyncExitStack], Awaitable[Ways]],
    *,
    turns: int,
    messages: int,
    callers: int,
) -> list[dict[str, Cost]]:
    """Return the cost of each way in each turn. Every other turn goes in the opposite order."""
    say(case)
    ours: Any = contender(OURS, store)

    async def run(server: RunningServer) -> list[dict[str, Cost]]:
        async with AsyncExitStack() as opened:
            channel = await opened.enter_async_context(grpc.aio.insecure_channel(server.address))
            calls = Calls(channel, server.pid)
            queue = await contender(OURS, store, server.address).make_queue()
            ways = await make(server, calls, queue, opened)
            found = []
            for number in range(turns + 1):
                order = list(ways)[:: -1 if number % 2 else 1]
                costs = {way: await calls.cost(messages, callers, 1, ways[way]) for way in order}
                found.append({way: costs[way] for way in ways})
            return found[1:]  # the first warms up

    with (
        TemporaryDirectory(prefix="bench-") as folder,
        ours.started(Path(folder), "--http", f"{HOST}:0") as server,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(run(server))
