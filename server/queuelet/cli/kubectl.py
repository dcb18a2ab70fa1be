"""Keeps programs of kubectl running: `port-forward` to the Service of a server, and `proxy` to Queue objects."""

from __future__ import annotations

import asyncio
import re
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from queuelet.backoff import next_backoff
from queuelet.cli.failures import Failure

GRPC_PORT = 10002
"""The port of the Service of a server."""

RETRY_AFTER = 1.0
"""Seconds after which a program that ended is started again, at first."""

MAX_RETRY = 10.0
"""The most seconds between two starts."""

STOP_WITHIN = 5.0
"""Seconds that kubectl may take to end before it is killed."""

_LINE_BYTES = 64 * 1024

_READING = "--reject-methods=^(POST|PUT|PATCH|DELETE)$"
_QUEUES = "--accept-paths=^/apis/queuelet\\.dev/v1alpha1/"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The Service to forward to, in the words of kubectl's flags. Empty values are those of the kubeconfig."""

    service: str
    namespace: str = ""
    context: str = ""

    def flags(self) -> list[str]:
        """Return the flags that say where the Service is."""
        flags = [f"--namespace={self.namespace}"] if self.namespace else []
        return flags + ([f"--context={self.context}"] if self.context else [])


def service_of(release: str) -> str:
    """Return the name of the Service that the chart gives the server of a release."""
    name = release if "queuelet" in release else f"{release}-queuelet"
    return f"{name[:45].removesuffix('-')}-server"


class Kubectl:
    """A program of kubectl that serves until it is stopped. `keep` it running, after a `start` if that must succeed."""

    def __init__(self, name: str, ready: re.Pattern[bytes], say: Callable[[str], None]) -> None:
        """Prepare it.

        Args:
            name: the command of kubectl.
            ready: what it prints once it serves.
            say: is given a sentence whenever it ends or serves again.

        Raises:
            Failure: there is no kubectl.
        """
        kubectl = shutil.which("kubectl")
        if kubectl is None:
            raise Failure("cannot open the console: kubectl is not on the PATH; install it, or use --server instead")
        self._kubectl = kubectl
        self._name = name
        self._ready = ready
        self._say = say
        self._process: Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._errors: deque[str] = deque(maxlen=3)
        self._serves = asyncio.Event()

    async def start(self) -> None:
        """Return once it serves.

        Raises:
            Failure: kubectl ended instead, with what it said.
        """
        if not await self._launch():
            raise Failure(f"cannot open the console: {self._why()}")

    async def keep(self) -> None:
        """Start it unless it was started, and again whenever it ends; stop it once this is cancelled."""
        loop = asyncio.get_running_loop()
        delay = 0.0
        try:
            if self._process is None:
                await self._launch()
            while self._process:
                began = loop.time()
                await self._ended(self._process)
                self._say(f"{self._why()}; starting it again")
                if loop.time() - began > MAX_RETRY:
                    delay = 0.0
                delay = next_backoff(delay, RETRY_AFTER, MAX_RETRY)
                await asyncio.sleep(delay)
                if await self._launch():
                    self._say(f"kubectl {self._name} serves again")
        finally:
            await self.stop()

    async def stop(self) -> None:
        """End it."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(STOP_WITHIN):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    def _arguments(self) -> list[str]:
        """Return the arguments after the name of the command."""
        raise NotImplementedError

    def _is_ready(self, found: re.Match[bytes]) -> None:
        """Note what it printed once it served."""

    async def _launch(self) -> bool:
        """Start it; return whether it serves, once it does or has ended."""
        self._serves.clear()
        self._errors.clear()
        # In a session of its own, so that ^C in the terminal ends this process first, which then ends kubectl.
        process = self._process = await asyncio.create_subprocess_exec(
            self._kubectl,
            self._name,
            *self._arguments(),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
            limit=_LINE_BYTES,
        )
        self._readers = [asyncio.create_task(each) for each in (self._read_output(process), self._read_errors(process))]
        ended = asyncio.create_task(self._ended(process))
        serves = asyncio.create_task(self._serves.wait())
        try:
            await asyncio.wait([ended, serves], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.stop()
            raise
        finally:
            ended.cancel()
            serves.cancel()
        return self._serves.is_set()

    async def _ended(self, process: Process) -> None:
        """Return once kubectl has ended and all that it said was read."""
        await process.wait()
        await asyncio.wait(self._readers)

    async def _read_output(self, process: Process) -> None:
        async for line in cast("asyncio.StreamReader", process.stdout):
            if found := self._ready.search(line):
                self._is_ready(found)
                self._serves.set()

    async def _read_errors(self, process: Process) -> None:
        async for line in cast("asyncio.StreamReader", process.stderr):
            if text := line.decode(errors="replace").strip():
                self._errors.append(text[:500])

    def _why(self) -> str:
        """Return what kubectl said last, or that it ended."""
        code = self._process.returncode if self._process else None
        said = self._errors[-1] if self._errors else f"it ended with {code}"
        return f"kubectl {self._name}: {said}"


class PortForward(Kubectl):
    """`kubectl port-forward` to a Service."""

    def __init__(self, target: Target, say: Callable[[str], None]) -> None:
        """Prepare it for a Service. Raises `Failure` if there is no kubectl."""
        super().__init__("port-forward", re.compile(rb"Forwarding from 127\.0\.0\.1:(\d+) ->"), say)
        self._target = target
        self.port = 0
        """The local port. It stays the same when kubectl is started again."""

    def _arguments(self) -> list[str]:
        ports = f"{self.port or ''}:{GRPC_PORT}"
        return [*self._target.flags(), "--address=127.0.0.1", f"service/{self._target.service}", ports]

    def _is_ready(self, found: re.Match[bytes]) -> None:
        self.port = int(found[1])


class QueueProxy(Kubectl):
    """`kubectl proxy` for reading Queue objects, with the rights of the user.

    It listens on a socket in a private folder, because any program of the machine could use a port.
    """

    def __init__(self, context: str, socket: Path, say: Callable[[str], None]) -> None:
        """Prepare it for a context of the kubeconfig. Raises `Failure` if there is no kubectl."""
        super().__init__("proxy", re.compile(rb"Starting to serve on"), say)
        self._context = context
        self._socket = socket

    def _arguments(self) -> list[str]:
        where = [f"--context={self._context}"] if self._context else []
        return [*where, f"--unix-socket={self._socket}", _QUEUES, _READING]
