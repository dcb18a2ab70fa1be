"""Many existing Queues: how long one more takes, what a restart of each process costs, and what idling costs."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic

import aiohttp

from bench.control_loop.client import Watch, create, is_ready, watching
from bench.control_loop.cluster import QUEUES, Cluster, Object, Request
from bench.control_loop.contenders import Ours
from bench.control_loop.creation import percentile
from bench.processes import cpu_seconds, resident_bytes
from bench.report import Figures, say
from queuelet.client import Client
from queuelet.errors import QueueletError

_RESYNC = 0.9
"""Seconds between resyncs while one Queue a second is created, chosen so that they meet at every point."""

_MEMORY = 300.0
"""MiB that the operator may use."""

_EVERY = {"get": 60.0, "watch": 300.0}
"""Seconds between two lists with which the operator counts its Queues, and between two of its watches."""


class Existing:
    """Our operator with its Queues, all of them ready."""

    def __init__(self, cluster: Cluster, ours: Ours, session: aiohttp.ClientSession, figures: Figures) -> None:
        """Take a session with the API server, which also fetches the operator's metrics."""
        self._cluster = cluster
        self._ours = ours
        self._session = session
        self._figures = figures
        self._names: list[str] = []

    async def make(self, count: int) -> None:
        """Create the Queues."""
        say(f"{count:,} existing Queues")
        self._names = [f"existing-{number:06}" for number in range(count)]
        async with watching(self._cluster, QUEUES, self._ours.check) as watch, asyncio.TaskGroup() as tasks:
            tasks.create_task(create(self._session, QUEUES, self._names))
            await watch.all_ready(self._names)

    async def pick_up(self, seconds: int) -> None:
        """Create one more Queue a second while the operator keeps checking all of them."""
        part = self._part("pick-up")
        await self._restart("--resync", str(_RESYNC))
        taken: list[asyncio.Task[float]] = []
        async with watching(self._cluster, QUEUES, self._ours.check) as watch, asyncio.TaskGroup() as tasks:
            began = monotonic()
            for number in range(seconds):
                taken.append(tasks.create_task(self._one_more(watch, f"pick-up-{number}")))
                await asyncio.sleep(max(began + number + 1 - monotonic(), 0))
        ordered = sorted(task.result() for task in taken)
        self._figures.note(part, "p50", percentile(ordered, 50), "s")
        self._figures.note(part, "p99", percentile(ordered, 99), "s", target=1.0)

    async def restart(self) -> None:
        """Kill the operator, start it again, and create one more Queue at once."""
        part, ours = self._part("restart"), self._ours
        before = self._cluster.requests()
        async with watching(self._cluster, QUEUES, ours.check) as watch:
            killed = monotonic()
            ours.operator.kill()
            ours.start_operator()
            async with asyncio.TaskGroup() as tasks:
                new = tasks.create_task(self._one_more(watch, "restart"))
                await ours.operator_leads()
                leads = monotonic()
                await ours.all_checked(self._session, len(self._names) + 1)
                checked = monotonic()
        # POST, finalizer and status of the new one.
        needless = self._cluster.requests().since(before).writes(QUEUES.plural, "events") - 3
        self._figures.note(part, "kill to leading: the Lease runs out", leads - killed, "s")
        self._figures.note(part, "leading to a new Queue ready", killed + new.result() - leads, "s")
        self._figures.note(part, "leading to all checked", checked - leads, "s")
        self._figures.note(part, "API writes for existing Queues", needless, target=0)

    async def loss(self) -> None:
        """Kill the server, which loses its queues, and start it again on the same port."""
        part, ours, count = self._part("server loss"), self._ours, len(self._names)
        await self._restart()
        async with self._session.get(f"{QUEUES.path}/{self._names[0]}") as response:
            lost_epoch = (await response.json())["status"]["epoch"]

        def is_back(an_object: Object) -> bool:
            return is_ready(an_object) and an_object["status"]["epoch"] != lost_epoch

        before = self._cluster.requests()
        async with watching(self._cluster, QUEUES, ours.check, is_back) as watch:
            ours.server.kill()
            await ours.start_server()
            serves = monotonic()
            async with asyncio.TaskGroup() as tasks:
                back = tasks.create_task(_all_in_the_server(ours.address, count))
                await watch.all_ready(self._names)
        written = self._cluster.requests().since(before).writes(QUEUES.plural) / count
        self._figures.note(part, "serving to all queues in the server", back.result() - serves, "s")
        self._figures.note(part, "serving to all statuses Ready", max(watch.ready.values()) - serves, "s")
        self._figures.note(part, "API writes a Queue (lost, ready again)", written, target=2.0)

    async def idle(self, seconds: float) -> None:
        """Measure the cost of doing nothing."""
        part, ours, figures = self._part(f"idle {seconds:.0f} s"), self._ours, self._figures
        # Restart it, as an update does, so that its memory no longer includes the creation.
        await self._restart()
        await asyncio.sleep(1)
        before, own_before = self._cluster.requests(), await ours.metrics(self._session)
        cpu, began = cpu_seconds(ours.operator.pid), monotonic()
        while (left := began + seconds - monotonic()) > 0:
            await asyncio.sleep(min(left, 60))
            ours.check()
        cpu = cpu_seconds(ours.operator.pid) - cpu
        own_after, requests = await ours.metrics(self._session), self._cluster.requests().since(before)
        figures.note(part, "CPU of the operator", cpu, "s")
        figures.note(part, "operator's memory", resident_bytes(ours.operator.pid) / 2**20, "MiB", target=_MEMORY)
        name = "queuelet_operator_api_requests_total"
        verbs = {each.rpartition(" ")[2] for each in own_after if each.startswith(f"{name} ")}
        for verb in sorted(verbs | _EVERY.keys()):
            made = own_after.get(f"{name} {verb}", 0) - own_before.get(f"{name} {verb}", 0)
            # One more, at the start or the end.
            most = int(seconds // _EVERY[verb]) + 1 if verb in _EVERY else 0
            figures.note(part, f"operator's requests, {verb}", made, target=most)
        figures.note(part, "reads of single Queues, all clients", requests[Request("queues", "GET")], target=0)
        figures.note(part, "writes of Queues, all clients", requests.writes("queues"), target=0)
        leases = sum(number for (resource, _), number in requests.items() if resource == "leases")
        figures.note(part, "requests for Leases, all clients", leases)

    def _part(self, name: str) -> str:
        part = f"{name}, {len(self._names):,}"
        say(part)
        return part

    async def _restart(self, *flags: str) -> None:
        """Stop the operator, start it with more flags, and wait until it has checked all Queues."""
        self._ours.operator.close()
        self._ours.start_operator(*flags)
        await self._ours.operator_leads()
        # With other flags it may never finish.
        await self._ours.all_checked(self._session, len(self._names), waiting=bool(flags))

    async def _one_more(self, watch: Watch, name: str) -> float:
        """Create one more Queue and wait until it is ready; return the seconds."""
        sent = (await create(self._session, QUEUES, [name]))[name]
        await watch.all_ready([name])
        self._names.append(name)
        return watch.ready[name] - sent


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
