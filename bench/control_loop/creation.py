"""Objects created at once: by a client that only writes, under our operator, and under NACK."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import NamedTuple

import aiohttp

from bench.control_loop.client import WRITERS, OnResponse, create, watching
from bench.control_loop.cluster import QUEUES, Cluster, Kind, Object, writes
from bench.control_loop.contenders import Contender, Ours
from bench.control_loop.figures import FLOOR, Creation
from bench.control_loop.floor import Floor
from bench.process import cpu_seconds
from bench.report import Progress

_WARM_UP = 64
"""Objects created before each measurement, to warm up connections, caches and code."""

_SETTLE = 1.0
"""Seconds after which the operator's late writes are done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """What to create, and where."""

    cluster: Cluster
    count: int
    number: int
    progress: Progress


class _Who(NamedTuple):
    """The operator of the objects, if any."""

    name: str
    kind: Kind
    pids: Mapping[str, int]
    """Processes in addition to those of the control plane."""
    check: Callable[[], None]
    """Raises `Failed` if one of them has ended."""


async def recorded_status(cluster: Cluster, folder: Path, progress: Progress) -> Object:
    """Return the status that our operator writes for such a Queue."""
    async with (
        Ours(cluster, folder) as ours,
        watching(cluster, QUEUES, ours.check) as watch,
        cluster.session(WRITERS) as session,
    ):
        await create(session, QUEUES, ["recorded"])
        await watch.all_ready(["recorded"], "the first Queue", progress)
        async with session.get(f"{QUEUES.path}/recorded") as response:
            status: Object = (await response.json())["status"]
    cluster.empty(QUEUES)
    return status


async def floor(given: Round, status: Object) -> Creation:
    """Measure the writes alone."""
    async with given.cluster.session(2 * WRITERS) as session:
        writer = Floor(session, status)
        async with writer.running():
            creation = await _measured(
                given, _Who(FLOOR, QUEUES, {}, given.cluster.plane.check), session, writer.on_response
            )
    given.cluster.empty(QUEUES)
    return creation


async def under(contender: Contender, given: Round) -> Creation:
    """Measure with an operator."""
    async with contender, given.cluster.session(WRITERS) as session:
        who = _Who(contender.name, contender.kind, contender.pids, contender.check)
        creation = await _measured(given, who, session)
    given.cluster.empty(contender.kind)
    return creation


async def _measured(
    given: Round, who: _Who, session: aiohttp.ClientSession, on_response: OnResponse | None = None
) -> Creation:
    kind = who.kind
    doing = f"{who.name}, {given.count:,} {kind.plural}"
    given.progress.begin(doing)
    pids = {**who.pids, **given.cluster.pids}
    async with watching(given.cluster, kind, who.check) as watch:
        warm = [f"warm-{number}" for number in range(min(_WARM_UP, given.count))]
        await create(session, kind, warm, on_response)
        await watch.all_ready(warm, f"{doing}, warming up", given.progress)
        await asyncio.sleep(_SETTLE)
        watch.start_over()
        before = given.cluster.requests()
        cpu = _cpu(pids)
        names = [f"bench-{number:06}" for number in range(given.count)]
        async with asyncio.TaskGroup() as tasks:
            creating = tasks.create_task(create(session, kind, names, on_response))
            await watch.all_ready(names, doing, given.progress)
        taken = {name: seconds - cpu[name] for name, seconds in _cpu(pids).items()}
        await asyncio.sleep(_SETTLE)
        after = given.cluster.requests()
    sent, ready = creating.result(), watch.ready
    return Creation(
        who=who.name,
        count=given.count,
        round=given.number,
        seconds=sorted(ready[name] - sent[name] for name in names),
        makespan=max(ready[name] for name in names) - min(sent.values()),
        writes=writes(before, after, kind.plural, "events") - given.count,
        cpu=taken,
    )


def _cpu(pids: Mapping[str, int]) -> dict[str, float]:
    return {**{name: cpu_seconds(pid) or 0.0 for name, pid in pids.items()}, "client": process_time()}
