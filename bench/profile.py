"""A profile of our server: a case of the server runs it in this process under cProfile, with its callers in others.

The profiler sees the thread that serves calls, but not gRPC's own threads, and slows down every Python call: read
shares, not times.
"""

from __future__ import annotations

import asyncio
import cProfile
import io
import os
import pstats
from dataclasses import replace

from bench.callers import Span, drivers
from bench.contender import Load, RunningServer
from bench.errors import NotHere
from bench.processes import HOST
from bench.report import OURS, say
from bench.server import LOADS
from queuelet.server import Server, Settings

LINES = 25


def profile(name: str, *, seconds: float, processes: int, transport: str) -> str:
    """Return the functions that take most of the time of a case."""
    if name not in LOADS:
        raise NotHere(f"no case {name!r} to profile; use one of the server's, see --list")
    say(name)
    profiler = cProfile.Profile()
    added, popped = asyncio.run(_serve(LOADS[name], seconds, processes, profiler, transport))
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(LINES)
    rates = f"{added.rate:,.0f} added and {popped.rate:,.0f} popped a second"
    return f"{name} under the profiler: {rates}\n{text.getvalue().strip()}"


async def _serve(
    load: Load, seconds: float, processes: int, profiler: cProfile.Profile, transport: str
) -> tuple[Span, Span]:
    settings = Settings(listen=f"{HOST}:0", metrics=f"{HOST}:0", http="")
    server = Server(replace(settings, transport=transport) if transport else settings)
    await server.start()
    served = asyncio.create_task(server.wait())
    with drivers(OURS, RunningServer(f"{HOST}:{server.port}", os.getpid()), processes) as callers:
        await asyncio.to_thread(callers.open, load)
        profiler.enable()
        added = await asyncio.to_thread(callers.add, seconds)
        popped = await asyncio.to_thread(callers.pop)
        profiler.disable()
        await asyncio.to_thread(callers.close)
    server.request_stop()
    await served
    return added, popped
