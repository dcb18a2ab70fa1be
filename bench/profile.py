"""A profile of our server: one case under cProfile.

A case of the server runs it in this process, with its callers in others. The profiler sees the thread that serves
calls, but not gRPC's own threads, and slows down every Python call: read shares, not times.
"""

from __future__ import annotations

import asyncio
import cProfile
import io
import pstats

from bench.contender import Load
from bench.driver import Drivers, Span
from bench.errors import NotHere
from bench.handlers import our_handlers, requests
from bench.process import HOST
from bench.report import OURS, Progress
from bench.server import LOADS
from queuelet.server import Server, Settings

LINES = 25
_CALLS = 200_000


def profile(name: str, *, seconds: float, drivers: int, progress: Progress) -> str:
    """Return the functions that take most of the time of a case."""
    profiler = cProfile.Profile()
    if name in LOADS:
        added, popped = asyncio.run(_serve(LOADS[name], seconds, drivers, profiler, progress))
        head = f"{name} under the profiler: {added.rate:,.0f} added and {popped.rate:,.0f} popped a second"
    elif name.startswith("handler-"):
        progress.begin(name)
        _call(name, profiler)
        head = f"{name} under the profiler"
    else:
        raise NotHere(f"no case {name!r} to profile; see --list for those of handlers and of the server")
    progress.clear()
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(LINES)
    return f"{head}\n{text.getvalue().strip()}"


async def _serve(
    load: Load, seconds: float, drivers: int, profiler: cProfile.Profile, progress: Progress
) -> tuple[Span, Span]:
    server = Server(Settings(listen=f"{HOST}:0", metrics=f"{HOST}:0"))
    await server.start()
    served = asyncio.create_task(server.wait())
    with Drivers(OURS, f"{HOST}:{server.port}", drivers) as load_drivers:
        progress.begin(load.name)
        await asyncio.to_thread(load_drivers.open, load)
        profiler.enable()
        progress.step("add")
        added = await asyncio.to_thread(load_drivers.add, seconds)
        progress.step("pop")
        popped = await asyncio.to_thread(load_drivers.pop)
        profiler.disable()
        await asyncio.to_thread(load_drivers.close)
    server.request_stop()
    await served
    return added, popped


def _call(name: str, profiler: cProfile.Profile) -> None:
    _, calls, size_name = name.split("-")
    batch = 1 if calls == "unary" else int(calls.removeprefix("batch"))
    size = 128 if size_name == "128B" else 1_024
    handlers, queue = our_handlers()
    for method, request in requests(queue, batch, size).items():
        handler = handlers[method]
        profiler.enable()
        for _ in range(_CALLS // batch):
            handler(request)
        profiler.disable()
