"""Runs the parts on control planes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from bench.control_loop import creation
from bench.control_loop.client import WRITERS
from bench.control_loop.cluster import Cluster
from bench.control_loop.contenders import QUICK_LEASE, Floor, Nack, Ours
from bench.control_loop.existing import Existing
from bench.errors import NotHere
from bench.processes import needs_linux
from bench.report import Figures, say
from tools.control_plane import ControlPlane

OF_CREATION = ("create", "nack")
OF_EXISTING = ("pickup", "restart", "loss", "idle")
PARTS = (*OF_CREATION, *OF_EXISTING)


class Measurement:
    """The figures of all parts."""

    def __init__(self, *, rounds: int, seconds: int, quick: bool) -> None:
        """Take how often each contender creates the Queues, the seconds of `pickup`, and whether Leases are short.

        Idling takes ten times as long as `pickup`.
        """
        self.created = Figures()
        self.compared = Figures()
        self._rounds = rounds
        self._seconds = seconds
        self._lease = QUICK_LEASE if quick else ()

    def run(self, counts: Sequence[int], parts: Collection[str]) -> None:
        """Measure with these numbers of Queues, each on a control plane of its own."""
        needs_linux()
        parts = set(parts)
        if "nack" in parts:
            try:
                Nack.find()
            except NotHere as missing:
                say(f"skipped {Nack.name}: {missing}")
                parts.remove("nack")
        for count in counts:
            # Existing Queues are measured once, with all that were created.
            wanted = parts if count == max(counts) else parts.intersection(OF_CREATION)
            if wanted:
                say(f"a control plane for {count:,} Queues")
                with (
                    TemporaryDirectory(prefix="bench-") as folder,
                    ControlPlane() as plane,
                    asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
                ):
                    cluster = Cluster(plane, Path(folder), with_nack="nack" in wanted)
                    if wanted.intersection(OF_CREATION):
                        runner.run(self._create(cluster, wanted, count))
                    if wanted.intersection(OF_EXISTING):
                        runner.run(self._measure_existing(cluster, wanted, count))
                    plane.check()

    async def _create(self, cluster: Cluster, parts: Collection[str], count: int) -> None:
        """Measure how long it takes until this many new objects are ready."""
        status = await creation.recorded_status(cluster)
        for number in range(self._rounds):
            # In turns, so that the first place rotates.
            contenders = [Floor(cluster, status), Ours(cluster, *self._lease)][:: -1 if number % 2 else 1]
            for contender in contenders if "create" in parts else [Ours(cluster, *self._lease)]:
                await creation.measure(cluster, contender, count, self.created)
            if "nack" in parts:
                await creation.measure(cluster, Nack(cluster), count, self.created)
        creation.compare(f"create {count:,}", self.created, self.compared)

    async def _measure_existing(self, cluster: Cluster, parts: Collection[str], count: int) -> None:
        """Measure the effects of many existing Queues."""
        async with Ours(cluster, *self._lease).running() as ours, cluster.session(2 * WRITERS) as session:
            existing = Existing(cluster, ours, session, self.compared)
            await existing.make(count)
            if "pickup" in parts:
                await existing.pick_up(self._seconds)
            if "restart" in parts:
                await existing.restart()
            if "loss" in parts:
                await existing.loss()
            if "idle" in parts:
                await existing.idle(10 * self._seconds)
