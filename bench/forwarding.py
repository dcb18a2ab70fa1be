"""A call that a server passes on to the owner of the queue, relative to one that is made at the owner.

Two servers share the queues of one PostgreSQL. A queue of each is called at both, in turns within one round.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc

from bench.databases import database
from bench.errors import Failed
from bench.processes import HOST, Child
from bench.report import Figures, say
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import SERVICE
from queuelet.wire.forwarding import OWNER
from tools.control_plane.ports import free_ports

CASES = ("forwarding-unary-1", "forwarding-unary-64")
"""The cases by name: with so many callers at once."""

_MOST = 2.0
"""Target: how many times as long as a direct call a forwarded one takes, at most."""

_PAYLOAD = b"x" * 1_024
_START_SECONDS = 30.0


def run(cases: Sequence[str], figures: Figures, *, rounds: int, seconds: float) -> None:
    """Run the cases; a round of each way takes about this many seconds."""
    with database(0) as postgres, tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        addresses = [f"{HOST}:{port}" for port in free_ports(2)]
        for number, address in enumerate(addresses):
            command = [
                *(sys.executable, "-m", "queuelet", "server", "--listen", address, "--advertise", address),
                *("--metrics", f"{HOST}:0", "--http", "", "--postgres", postgres.url, "--shards", "2"),
            ]
            server = running.enter_context(closing(Child(f"server{number}", command, Path(folder))))
            server.start()
            server.logged("serving")
        asyncio.run(_run(addresses, cases, figures, rounds=rounds, seconds=seconds))


def notes() -> str:
    """Return what was run, in lines."""
    return "Add of 1 KB, then Pop, at one of two servers with one PostgreSQL; all share the cores of this machine."


async def _run(
    addresses: Sequence[str], cases: Sequence[str], figures: Figures, *, rounds: int, seconds: float
) -> None:
    channels = [grpc.aio.insecure_channel(address) for address in addresses]
    try:
        queue, owner = await _queue_of_the_second(channels[0], addresses[1])
        ways = {"forwarded": channels[0], "direct": channels[owner]}
        for case in cases:
            say(case)
            callers = int(case.rpartition("-")[2])
            for _ in range(rounds):
                took: dict[str, float] = {}
                for way, channel in ways.items():
                    took[way], rate = await _call(channel, queue, callers, seconds)
                    figures.note(case, "median of Add and Pop", took[way] * 1e3, "ms", way)
                    figures.note(case, "rate", rate, "calls/s", way, more_is_better=True)
                ratio = took["forwarded"] / took["direct"]
                figures.note(case, "forwarded, of the direct time", ratio, "x", "forwarded", target=_MOST)
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))


async def _queue_of_the_second(channel: grpc.aio.Channel, second: str) -> tuple[str, int]:
    """Create queues until the second server owns one, once each server has its shard. Return its name, and 1."""
    end = perf_counter() + _START_SECONDS
    number = 0
    while perf_counter() < end:
        number += 1
        name = f"forwarding-{number}"
        request = pb.NewQueueRequest(name=name, limit=-1, store=pb.Queue.POSTGRES).SerializeToString()
        make: Any = channel.unary_unary(f"/{SERVICE}/NewQueue")
        call = make(request, timeout=_START_SECONDS)
        await call
        if dict(await call.trailing_metadata() or ()).get(OWNER) == second:
            return name, 1
        await asyncio.sleep(0.1)
    raise Failed("the servers do not share the shards")


async def _call(channel: grpc.aio.Channel, queue: str, callers: int, seconds: float) -> tuple[float, float]:
    """Add and pop; return the median of the calls in seconds, and their rate."""
    add: Any = channel.unary_unary(f"/{SERVICE}/Add")
    pop: Any = channel.unary_unary(f"/{SERVICE}/Pop")
    added = pb.AddRequest(queue_id=queue, message=pb.NewMessage(payload=_PAYLOAD)).SerializeToString()
    popped = pb.PopRequest(queue_id=queue).SerializeToString()
    took: list[float] = []
    began = perf_counter()

    async def timed(call: Callable[[bytes], Awaitable[bytes]], request: bytes) -> None:
        start = perf_counter()
        await call(request)
        took.append(perf_counter() - start)

    async def caller() -> None:
        while perf_counter() < began + seconds:
            await timed(add, added)
            await timed(pop, popped)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return sorted(took)[len(took) // 2], len(took) / (perf_counter() - began)
