"""Objects created at once: by a client that only writes, under our operator, and under NACK."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

import aiohttp

from bench.control_loop.client import WRITERS, create, watching
from bench.control_loop.cluster import QUEUES, Cluster, Object
from bench.control_loop.contenders import FLOOR, ControlLoop, Ours
from bench.control_loop.nack import NAME as NACK
from bench.processes import cpu_seconds
from bench.report import OURS, Figures, say

_WARM_UP = 64
"""Objects created before each measurement, to warm up connections, caches and code."""

_SETTLE = 1.0
"""Seconds after which the operator's late writes are done."""


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the smallest value that is at least as large as this percentage of all."""
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


async def recorded_status(cluster: Cluster) -> Object:
    """Return the status that our operator writes for such a Queue."""
    async with (
        Ours(cluster).running() as ours,
        watching(cluster, QUEUES, ours.check) as watch,
        cluster.session(WRITERS) as session,
    ):
        await create(session, QUEUES, ["recorded"])
        await watch.all_ready(["recorded"])
        async with session.get(f"{QUEUES.path}/recorded") as response:
            status: Object = (await response.json())["status"]
    cluster.empty(QUEUES)
    return status


async def measure(cluster: Cluster, contender: ControlLoop, count: int, figures: Figures) -> None:
    """Measure from the first POST until a watch has seen all objects ready."""
    kind, who, case = contender.kind, contender.name, f"create {count:,}"
    say(f"{case}, {who}")
    async with AsyncExitStack() as opened:
        await opened.enter_async_context(contender.running())
        session = await opened.enter_async_context(cluster.session(WRITERS))
        pids = {"API server": cluster.plane.api_server.pid, **contender.pids}
        await _create_all(cluster, contender, session, [f"warm-{number}" for number in range(min(_WARM_UP, count))])
        await asyncio.sleep(_SETTLE)
        before = cluster.requests()
        cpu = {role: cpu_seconds(pid) for role, pid in pids.items()}
        names = [f"bench-{number:06}" for number in range(count)]
        sent, ready = await _create_all(cluster, contender, session, names)
        cpu = {role: cpu_seconds(pid) - cpu[role] for role, pid in pids.items()}
        await asyncio.sleep(_SETTLE)
        written = cluster.requests().since(before).writes(kind.plural, "events") - count
    cluster.empty(kind)
    seconds = sorted(ready[name] - sent[name] for name in names)
    for percent in (50, 99):
        figures.note(case, f"p{percent}", percentile(seconds, percent), "s", who)
    figures.note(case, "makespan", max(ready.values()) - min(sent.values()), "s", who, is_compared=True)
    figures.note(case, "writes each", written / count, who=who)
    for role in ("operator", "API server"):
        if role in cpu:
            figures.note(case, f"CPU {role}", cpu[role], "s", who)


async def _create_all(
    cluster: Cluster, contender: ControlLoop, session: aiohttp.ClientSession, names: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Create objects; return when each was sent, and when it was seen ready."""
    async with watching(cluster, contender.kind, contender.check) as watch, asyncio.TaskGroup() as tasks:
        creating = tasks.create_task(create(session, contender.kind, names, contender.on_response))
        await watch.all_ready(names)
    return creating.result(), watch.ready


def compare(case: str, figures: Figures, compared: Figures) -> None:
    """Compare our figures with the targets: in the same rounds with the floor and with NACK."""
    for other, what, quantity, target in (
        (FLOOR, "makespan / floor", "makespan", 1.5),
        (NACK, f"makespan / {NACK}", "makespan", 0.4),
        (NACK, f"API writes / {NACK}", "writes each", 0.5),
    ):
        ours, theirs = figures.values(case, quantity, OURS), figures.values(case, quantity, other)
        for mine, their in zip(ours, theirs, strict=False):
            compared.note(case, what, mine / their, "x", target=target)
