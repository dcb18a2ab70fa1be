"""The contenders: our operator with its server, and NACK with NATS."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import defaultdict
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Protocol, Self

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from bench.control_loop import nack
from bench.control_loop.cluster import QUEUES, STREAMS, Cluster, Kind
from bench.control_loop.processes import Child
from bench.errors import Failed, NotHere
from bench.process import HOST, free_port, program

QUICK_LEASE = ("--lease-duration", "4", "--lease-renew-deadline", "3", "--lease-retry-period", "0.3")
"""Flags for a short Lease that is still renewed in time when all CPUs are busy."""

_CHECKED_WITHIN = 300.0
"""Seconds within which an operator must have checked all objects after its start."""

_METRICS_OF_NACK = 8080
"""A port that NACK uses whatever its flags say."""


class Contender(Protocol):
    """An operator and the server it manages."""

    name: str
    kind: Kind

    async def __aenter__(self) -> Self:
        """Start it; return once it acts."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""

    @property
    def pids(self) -> dict[str, int]:
        """Its processes by role."""

    def check(self) -> None:
        """Raise `Failed` if one of the processes has ended."""


class Ours:
    """Our operator and a queue server."""

    name = "Queuelet"
    kind = QUEUES

    def __init__(self, cluster: Cluster, folder: Path, *flags: str) -> None:
        """Take the cluster, a folder for logs, and flags for the operator."""
        self.address = f"{HOST}:{free_port()}"
        self._flags = flags
        command = [sys.executable, "-m", "queuelet", "server", "--listen", self.address, "--metrics", f"{HOST}:0"]
        self.server = Child("queuelet-server", command, folder, {})
        command = [sys.executable, "-m", "queuelet_operator", "--server", self.address, "--metrics", f"{HOST}:0"]
        self.operator = Child("queuelet-operator", command, folder, cluster.environment)
        self._metrics = ""

    async def __aenter__(self) -> Self:
        """Start the server, then the operator; return once the operator leads and is connected to the server."""
        try:
            await self.start_server()
            self.start_operator()
            await self.operator_leads()
            await self.operator.logged("connected to the server")
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop both."""
        self._end()

    @property
    def pids(self) -> dict[str, int]:
        """Its processes by role."""
        return {"operator": self.operator.pid, "server": self.server.pid}

    async def start_server(self) -> None:
        """Start the server, on the same port as before; return once it serves."""
        self.server.start()
        await self.server.logged("serving")

    def start_operator(self, *flags: str) -> None:
        """Start the operator with more flags, without waiting."""
        self.operator.start(*self._flags, *flags)

    async def operator_leads(self) -> None:
        """Wait until the operator has the Lease."""
        started = await self.operator.logged("started")
        self._metrics = f"http://{HOST}:{started['metrics_port']}/metrics"
        await self.operator.logged("leading")

    async def metrics(self, session: aiohttp.ClientSession) -> dict[str, float]:
        """Return the operator's metrics, each summed over all labels except the verb of requests."""
        sums: defaultdict[str, float] = defaultdict(float)
        async with session.get(self._metrics) as response:
            for family in text_string_to_metric_families(await response.text()):
                for sample in family.samples:
                    verb = f" {sample.labels['verb']}" if "verb" in sample.labels else ""
                    sums[sample.name + verb] += sample.value
        return sums

    async def all_checked(self, session: aiohttp.ClientSession, count: int, *, waiting: bool = False) -> None:
        """Wait until the operator knows this many Queues and, unless they may, none of them waits for a check."""
        end = monotonic() + _CHECKED_WITHIN
        while True:
            metrics = await self.metrics(session)
            left = 0 if waiting else metrics["queuelet_operator_work_queue_length"]
            if metrics["queuelet_operator_queues"] >= count and not left:
                return
            if monotonic() > end:
                raise Failed(
                    f"the operator knows {metrics['queuelet_operator_queues']:,.0f} of {count:,} Queues; {left:,.0f} "
                    f"wait for a check, after {_CHECKED_WITHIN:.0f} s"
                )
            # Polling slowly, because each request costs the operator some milliseconds.
            await asyncio.sleep(0.1)

    def check(self) -> None:
        """Raise `Failed` if one of the processes has ended."""
        self.operator.check()
        self.server.check()

    def _end(self) -> None:
        # Stop the operator first, because otherwise it reports that the server lost its state.
        self.operator.end()
        self.server.end()


class Nack:
    """NACK with its control loop, and a NATS server with JetStream in memory."""

    name = nack.NAME
    kind = STREAMS

    @staticmethod
    def find() -> None:
        """Build and find everything that it needs; raise `NotHere` if something is missing. It may take minutes."""
        nack.built()
        nack.definitions()
        program("nats-server", "uv sync --all-extras --group bench")
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(("", _METRICS_OF_NACK))
            except OSError as error:
                raise NotHere(f"its metrics need port {_METRICS_OF_NACK}, which another process uses") from error

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        """Take the cluster, and a folder for logs and the NATS server's files."""
        self._folder = folder
        port, self._health = free_port(), free_port()
        server = program("nats-server", "uv sync --all-extras --group bench")
        command = [server, "-a", HOST, "-p", str(port), "-js", "-sd", str(folder / "nats")]
        self.server = Child("nats-server", command, folder, {})
        command = [str(nack.built()), "--control-loop", "-s", f"nats://{HOST}:{port}"]
        command += ["--health-probe-bind-address", f"{HOST}:{self._health}", "--cache-dir", str(folder / "nack")]
        self.operator = Child(nack.PROGRAM, command, folder, cluster.environment)

    async def __aenter__(self) -> Self:
        """Start both; return once the controller's workers run."""
        try:
            self.server.start()
            await self.server.wrote("Server is ready")
            self.operator.start()
            for _ in range(_CONTROLLERS_OF_NACK):
                await self.operator.wrote("Starting workers")
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop both."""
        self._end()

    @property
    def pids(self) -> dict[str, int]:
        """Its processes by role."""
        return {"operator": self.operator.pid, "server": self.server.pid}

    def check(self) -> None:
        """Raise `Failed` if one of the processes has ended."""
        self.operator.check()
        self.server.check()

    def _end(self) -> None:
        self.operator.end()
        self.server.end()


_CONTROLLERS_OF_NACK = 5
"""One controller for each kind: each logs when its workers start."""
