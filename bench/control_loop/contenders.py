"""The contenders: our operator with its server, NACK with NATS, and a client that only writes."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, Self

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from bench.contenders.queuelet import SERVER
from bench.control_loop import nack
from bench.control_loop.client import WRITERS, OnResponse
from bench.control_loop.cluster import NAMESPACE, QUEUES, STREAMS, Cluster, Kind, Object
from bench.errors import Failed, NotHere
from bench.processes import HOST, Child, program
from bench.report import OURS
from tools.control_plane.ports import free_ports

FLOOR = "floor"

QUICK_LEASE = ("--lease-duration", "4", "--lease-renew-deadline", "3", "--lease-retry-period", "0.3")
"""Flags for a short Lease that is still renewed in time when all CPUs are busy."""

_CHECKED_WITHIN = 300.0
"""Seconds within which an operator must have checked all objects after its start."""

_METRICS_OF_NACK = 8080
"""A port that NACK uses whatever its flags say."""

_CONTROLLERS_OF_NACK = 5
"""One controller for each kind: each logs when its workers start."""


class ControlLoop:
    """What makes objects ready."""

    name: str
    kind: Kind = QUEUES
    on_response: OnResponse | None = None
    """Called with the response to each creation."""

    def __init__(self, children: Mapping[str, Child]) -> None:
        """Take its processes by role, in the order in which they are stopped."""
        self._children = children

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Start it, and stop it at the end."""
        try:
            await self.start()
            yield self
        finally:
            for child in self._children.values():
                child.close()

    async def start(self) -> None:
        """Start its processes; return once they act."""

    @property
    def pids(self) -> dict[str, int]:
        """Its processes by role."""
        return {role: child.pid for role, child in self._children.items()}

    def check(self) -> None:
        """Raise `Failed` if one of the processes has ended."""
        for child in self._children.values():
            child.check()


class Ours(ControlLoop):
    """Our operator and a queue server."""

    name = OURS

    def __init__(self, cluster: Cluster, *flags: str) -> None:
        """Take the cluster, and flags for the operator."""
        (port,) = free_ports(1)
        self.address = f"{HOST}:{port}"
        self._flags = flags
        command = [*SERVER, "--listen", self.address, "--http", ""]
        self.server = Child("queuelet-server", command, cluster.folder)
        command = [sys.executable, "-m", "queuelet_operator", "--server", self.address, "--metrics", f"{HOST}:0"]
        self.operator = Child("queuelet-operator", command, cluster.folder, cluster.environment)
        self._metrics = ""
        # The operator is stopped first, because otherwise it reports that the server lost its state.
        super().__init__({"operator": self.operator, "server": self.server})

    async def start(self) -> None:
        """Start the server, then the operator; return once the operator leads and is connected to the server."""
        await self.start_server()
        self.start_operator()
        await self.operator_leads()
        await _logged(self.operator, "connected to the server")

    async def start_server(self) -> None:
        """Start the server, on the same port as before; return once it serves."""
        self.server.start()
        await _logged(self.server, "serving")

    def start_operator(self, *flags: str) -> None:
        """Start the operator with more flags, without waiting."""
        self.operator.start(*self._flags, *flags)

    async def operator_leads(self) -> None:
        """Wait until the operator has the Lease."""
        started = await _logged(self.operator, "started")
        self._metrics = f"http://{HOST}:{started['metrics_port']}/metrics"
        await _logged(self.operator, "leading")

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
            known, left = metrics["queuelet_operator_queues"], metrics["queuelet_operator_work_queue_length"]
            if known >= count and (waiting or not left):
                return
            if monotonic() > end:
                counts = f"{known:,.0f} of {count:,} Queues; {left:,.0f} wait for a check"
                raise Failed(f"the operator knows {counts}, after {_CHECKED_WITHIN:.0f} s")
            # Polling slowly, because each request costs the operator some milliseconds.
            await asyncio.sleep(0.1)


class Nack(ControlLoop):
    """NACK with its control loop, and a NATS server with JetStream in memory."""

    name = nack.NAME
    kind = STREAMS

    def __init__(self, cluster: Cluster) -> None:
        """Take the cluster."""
        folder = cluster.folder
        port, health = free_ports(2)
        command = [_nats_server(), "-a", HOST, "-p", str(port), "-js", "-sd", str(folder / "nats")]
        self._server = Child("nats-server", command, folder)
        command = [str(nack.built()), "--control-loop", "-s", f"nats://{HOST}:{port}"]
        command += ["--health-probe-bind-address", f"{HOST}:{health}", "--cache-dir", str(folder / "nack")]
        self._operator = Child(nack.PROGRAM, command, folder, cluster.environment)
        super().__init__({"operator": self._operator, "server": self._server})

    @staticmethod
    def find() -> None:
        """Build and find everything that it needs; raise `NotHere` if something is missing. It may take minutes."""
        nack.built()
        nack.definitions()
        _nats_server()
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(("", _METRICS_OF_NACK))
            except OSError as error:
                raise NotHere(f"its metrics need port {_METRICS_OF_NACK}, which another process uses") from error

    async def start(self) -> None:
        """Start both; return once the controller's workers run."""
        self._server.start()
        await asyncio.to_thread(self._server.logged, "Server is ready")
        self._operator.start()
        for _ in range(_CONTROLLERS_OF_NACK):
            await asyncio.to_thread(self._operator.logged, "Starting workers")


class Floor(ControlLoop):
    """The lower bound: the writes that an operator makes for a new Queue, a finalizer and a status, made by the client.

    No server, decision or watch is involved. The rest is the cost of so many writes in the API server, its store and
    this Python's HTTP client. No operator that makes these writes can be faster.
    """

    name = FLOOR

    def __init__(self, cluster: Cluster, status: Object) -> None:
        """Take the cluster, and the status that the operator wrote for such a Queue."""
        super().__init__({})
        self._cluster = cluster
        self._status = status
        self._made: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        # The writes start as soon as a worker is free.
        self.on_response = lambda name, response: self._made.put_nowait((name, response))

    def check(self) -> None:
        """Raise `ControlPlaneError` if the API server has ended."""
        self._cluster.plane.check()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Write with as many workers as the operator has."""
        async with self._cluster.session(WRITERS) as session, asyncio.TaskGroup() as group:
            workers = [group.create_task(self._work(session), name="floor") for _ in range(WRITERS)]
            yield self
            for worker in workers:
                worker.cancel()

    async def _work(self, session: aiohttp.ClientSession) -> None:
        while True:
            name, response = await self._made.get()
            meta = json.loads(response)["metadata"]
            path, uid = f"{QUEUES.path}/{name}", meta["uid"]
            finalizers = {"resourceVersion": meta["resourceVersion"], "finalizers": [f"{QUEUES.group}/finalizer"]}
            await _patch(session, path, {"metadata": {"uid": uid, **finalizers}})
            status = self._status | {"queueID": uid, "queueName": f"{NAMESPACE}.{name}"}
            await _patch(session, f"{path}/status", {"metadata": {"uid": uid}, "status": status})


async def _patch(session: aiohttp.ClientSession, path: str, patch: Object) -> None:
    async with session.patch(path, json=patch, headers={"Content-Type": "application/merge-patch+json"}) as response:
        # Read the response, because the connection is reused, but ignore the content.
        await response.read()


async def _logged(child: Child, msg: str) -> dict[str, Any]:
    """Wait for a log line with this message, and return it."""
    line: dict[str, Any] = json.loads(await asyncio.to_thread(child.logged, f'"{msg}"'))
    return line


def _nats_server() -> str:
    return program("nats-server", "uv sync --all-extras --group bench")
