"""Add over REST compared with Add over gRPC, in one server process: the server's CPU per message."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import grpc

from bench.calls import Calls, Cost
from bench.contender import MEMORY, Load, RunningServer
from bench.contenders import contender
from bench.errors import Failed
from bench.processes import HOST
from bench.report import OURS, Figures, say
from bench.requests import requests

CASES = {f"rest-{load.name}": load for load in (Load(1, 128, 1), Load(1, 128, 64), Load(1, 1_024, 64))}
"""The cases by name. One message per call, because Add has no batches."""

_MESSAGES = 6_000
"""Messages of a round."""


def run(cases: Sequence[str], *, rounds: int, messages: int = _MESSAGES) -> Figures:
    """Measure the cases on one server."""
    figures = Figures()
    ours: Any = contender(OURS, MEMORY)
    with TemporaryDirectory(prefix="bench-") as folder, ours.started(Path(folder), "--http", f"{HOST}:0") as server:
        asyncio.run(_run(cases, server, figures, rounds, messages))
    return figures


async def _run(cases: Sequence[str], server: RunningServer, figures: Figures, rounds: int, messages: int) -> None:
    gateway = f"http://{HOST}:{server.facts['http_port']}"
    async with (
        grpc.aio.insecure_channel(server.address) as channel,
        aiohttp.ClientSession(gateway, connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        calls = Calls(channel, server.pid)
        for case in cases:
            say(case)
            load = CASES[case]
            queue = await contender(OURS, MEMORY, server.address).make_queue()
            request = requests(queue, load.payloads)["Add"]
            body = json.dumps({"payload": b64encode(load.payloads[0]).decode()}).encode()

            async def grpc_add(request: bytes = request) -> None:
                await calls("Add", request)

            async def rest_add(path: str = f"/v1/queues/{queue}", body: bytes = body) -> None:
                async with session.post(path, data=body, headers={"Content-Type": "application/json"}) as response:
                    text = await response.text()
                    if response.status != 200:
                        raise Failed(f"Add over REST got {response.status}: {text[:200]}")

            for number in range(rounds + 1):
                costs: dict[str, Cost] = {}
                ways = (("gRPC", grpc_add), ("REST", rest_add))
                for way, once in ways if number % 2 else reversed(ways):
                    costs[way] = await calls.cost(messages, load.callers, 1, once)
                if number:  # the first warms up
                    for way, _ in ways:
                        figures.note(case, f"{way} Add", costs[way].rate, "msg/s", more_is_better=True)
                        figures.note(case, f"CPU: {way} Add", costs[way].cpu, "us")
                    figures.note(case, "CPU: REST Add / gRPC Add", costs["REST"].cpu / costs["gRPC"].cpu, "x")
