"""Many existing Queues: how long one more takes, what a restart of each process costs, and what idling costs."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

import aiohttp

from bench.control_loop.client import Watch, create, is_ready, watching
from bench.control_loop.cluster import QUEUES, WRITES, Cluster, Object, writes
from bench.control_loop.contenders import Ours
from bench.control_loop.figures import figure, percentile
from bench.control_loop.processes import memory
from bench.process import cpu_seconds
from bench.report import Figure, Progress
from queuelet.client import Client
from queuelet.errors import QueueletError

_RESYNC = 0.9
"""Seconds between resyncs while one Queue a second is created, chosen so that they meet at every point."""

_MEMORY = 300.0
"""MiB that the operator may use."""

_LIST_EVERY = 60.0
"""Seconds between two lists with which the operator counts its Queues."""

_WATCH_EVERY = 300.0
"""Seconds after which the operator starts a new watch."""


@dataclass(slots=True)
class Existing:
    """Our operator with its Queues, all of them ready."""

    cluster: Cluster
    ours: Ours
    names: list[str]
    """The watch of all Queues."""
    session: aiohttp.ClientSession
    """Sessions with the API server, and for the operator's metrics."""
    progress: Progress
    is_as_usual: bool = True
    """Whether the operator runs with its default flags."""

    @property
    def count(self) -> int:
        """How many Queues there are."""
        return len(self.names)

    async def restart(self, *flags: str) -> None:
        """Stop the operator, start it with more flags, and wait until it has checked all Queues."""
        self.ours.operator.end()
        self.ours.start_operator(*flags)
        self.is_as_usual = not flags
        await self.ours.operator_leads()
        # With other flags it may never finish.
        await self.ours.all_checked(self.session, self.count, waiting=bool(flags))

    async def one_more(self, watch: Watch, name: str) -> float:
        """Create one more Queue and wait until it is ready; return the seconds."""
        sent = (await create(self.session, QUEUES, [name]))[name]
        await watch.all_ready([name], name, self.progress)
        self.names.append(name)
        return watch.ready[name] - sent


async def make(
    cluster: Cluster, ours: Ours, count: int, session: aiohttp.ClientSession, progress: Progress
) -> Existing:
    """Create the Queues."""
    progress.begin(f"{count:,} existing Queues")
    names = [f"existing-{number:06}" for number in range(count)]
    async with watching(cluster, QUEUES, ours.check) as watch, asyncio.TaskGroup() as tasks:
        tasks.create_task(create(session, QUEUES, names))
        await watch.all_ready(names, "making them", progress)
    return Existing(cluster, ours, names, session, progress)


def after_creation(existing: Existing) -> list[Figure]:
    """Report the memory of the operator after it has created all of them."""
    resident, _ = memory(existing.ours.operator.pid)
    return [_memory(f"created {existing.count:,}", "operator's memory", resident, target=_MEMORY)]


async def pick_up(existing: Existing, seconds: int) -> list[Figure]:
    """Create one more Queue a second while the operator keeps checking all of them."""
    part = f"pick-up, {existing.count:,}"
    existing.progress.begin(f"{part}: {seconds} s")
    await existing.restart("--resync", str(_RESYNC))
    taken: list[asyncio.Task[float]] = []
    async with watching(existing.cluster, QUEUES, existing.ours.check) as watch:
        cpu, began = cpu_seconds(existing.ours.operator.pid) or 0.0, monotonic()
        async with asyncio.TaskGroup() as tasks:
            for number in range(seconds):
                taken.append(tasks.create_task(existing.one_more(watch, f"pick-up-{number}")))
                await asyncio.sleep(max(began + number + 1 - monotonic(), 0))
        cpu = (cpu_seconds(existing.ours.operator.pid) or 0.0) - cpu
        elapsed = monotonic() - began
    ordered = sorted(task.result() for task in taken)
    return [
        figure(part, "p50", percentile(ordered, 50), unit="s"),
        figure(part, "p99", percentile(ordered, 99), unit="s", target=1.0),
        figure(part, "longest", ordered[-1], unit="s"),
        # Nearly all of it is for checking the others.
        figure(part, "operator's CPU meanwhile, share of a core", cpu / elapsed, unit="share"),
    ]


async def restart(existing: Existing) -> list[Figure]:
    """Kill the operator, start it again, and create one more Queue at once."""
    part = f"restart, {existing.count:,}"
    existing.progress.begin(part)
    ours = existing.ours
    will_be = existing.count + 1
    before = existing.cluster.requests()
    async with watching(existing.cluster, QUEUES, existing.ours.check) as watch:
        killed = monotonic()
        ours.operator.kill()
        ours.start_operator()
        existing.is_as_usual = True
        async with asyncio.TaskGroup() as tasks:
            new = tasks.create_task(existing.one_more(watch, "restart"))
            await ours.operator_leads()
            leads = monotonic()
            await ours.all_checked(existing.session, will_be)
            checked = monotonic()
        new_ready = killed + new.result()
    after = existing.cluster.requests()
    # POST, finalizer and status of the new one.
    needless = writes(before, after, QUEUES.plural, "events") - 3
    return [
        figure(part, "kill to leading: the Lease runs out", leads - killed, unit="s"),
        figure(part, "leading to a new Queue ready", new_ready - leads, unit="s"),
        figure(part, "leading to all checked", checked - leads, unit="s"),
        figure(part, "API writes for existing Queues", needless, target=0),
    ]


async def loss(existing: Existing) -> list[Figure]:
    """Kill the server, which loses its queues, and start it again on the same port."""
    part = f"server loss, {existing.count:,}"
    existing.progress.begin(part)
    ours = existing.ours
    if not existing.is_as_usual:
        await existing.restart()
    async with existing.session.get(f"{QUEUES.path}/{existing.names[0]}") as response:
        lost_epoch = (await response.json())["status"]["epoch"]

    def is_back(an_object: Object) -> bool:
        return is_ready(an_object) and an_object["status"]["epoch"] != lost_epoch

    before = existing.cluster.requests()
    async with watching(existing.cluster, QUEUES, existing.ours.check) as watch:
        watch.start_over(is_back)
        cpu = cpu_seconds(ours.operator.pid) or 0.0
        ours.server.kill()
        killed = monotonic()
        await ours.start_server()
        serves = monotonic()
        async with asyncio.TaskGroup() as tasks:
            back = tasks.create_task(_all_in_the_server(ours.address, existing.count))
            await watch.all_ready(existing.names, "statuses", existing.progress)
            cpu = (cpu_seconds(ours.operator.pid) or 0.0) - cpu
    after = existing.cluster.requests()
    written = writes(before, after, QUEUES.plural) / existing.count
    return [
        figure(part, "kill to serving again", serves - killed, unit="s"),
        figure(part, "serving to all queues in the server", back.result() - serves, unit="s"),
        figure(part, "serving to all statuses Ready", max(watch.ready.values()) - serves, unit="s"),
        figure(part, "API writes a Queue (lost, ready again)", written, unit="", target=2.0),
        figure(part, "operator's CPU", cpu, unit="s"),
    ]


async def idle(existing: Existing, seconds: float) -> list[Figure]:
    """Measure the cost of doing nothing."""
    part = f"idle {seconds:.0f} s, {existing.count:,}"
    ours, progress = existing.ours, existing.progress
    progress.begin(part)
    # Restart it, as an update does, so that its memory no longer includes the creation.
    await existing.restart()
    await asyncio.sleep(1)
    pids = {**ours.pids, **existing.cluster.pids}
    before, own_before = existing.cluster.requests(), await ours.metrics(existing.session)
    cpu = {name: cpu_seconds(pid) or 0.0 for name, pid in pids.items()}
    began = monotonic()
    while (left := began + seconds - monotonic()) > 0:
        await asyncio.sleep(min(left, 60))
        progress.say(f"  idle for {monotonic() - began:.0f} s")
        ours.check()
    taken = {name: (cpu_seconds(pid) or 0.0) - cpu[name] for name, pid in pids.items()}
    own_after, after = await ours.metrics(existing.session), existing.cluster.requests()

    resident, most = memory(ours.operator.pid)
    own = {
        name.rpartition(" ")[2]: value - own_before.get(name, 0)
        for name, value in own_after.items()
        if name.startswith("queuelet_operator_api_requests_total ")
    }
    difference = after - before
    changed = sum(
        number for request, number in difference.items() if request.resource == "queues" and request.verb in WRITES
    )
    gets = sum(number for request, number in difference.items() if request == ("queues", "GET"))
    leases = sum(number for request, number in difference.items() if request.resource == "leases")
    targets = {"get": _at_most(seconds, _LIST_EVERY), "watch": _at_most(seconds, _WATCH_EVERY)}
    return [
        *(figure(part, f"CPU of the {name}", each, unit="s") for name, each in taken.items()),
        _memory(part, "operator's memory", resident, target=_MEMORY),
        _memory(part, "operator's peak memory since its restart", most),
        _memory(part, "server's memory", memory(ours.server.pid)[0]),
        *(
            figure(part, f"operator's requests, {verb}", own.get(verb, 0), target=targets.get(verb, 0))
            for verb in sorted({*own, *targets})
        ),
        figure(part, "reads of single Queues, all clients", gets, target=0),
        figure(part, "writes of Queues, all clients", changed, target=0),
        figure(part, "requests for Leases, all clients", leases),
    ]


def _memory(part: str, what: str, resident: int, target: float | None = None) -> Figure:
    return figure(part, what, resident / 2**20, unit="MiB", target=target)


def _at_most(seconds: float, every: float) -> int:
    """Return how often a periodic event may happen in a time, counting one at the start or end."""
    return int(seconds // every) + 1


async def _all_in_the_server(address: str, count: int) -> float:
    """Return when the server had this many queues, on the clock `monotonic`."""
    while True:
        with suppress(QueueletError):
            async with Client(address) as client:
                names: set[str] = set()
                async for batch in client.watch_queues():
                    names |= {each.name for each in batch.queues if each.name}
                    if len(names) >= count:
                        return monotonic()
        await asyncio.sleep(0.05)
