"""Keeps `kubectl port-forward` to the Service of a server running."""

from __future__ import annotations

import asyncio
import re
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from queuelet.cli.failures import Failure

GRPC_PORT = 10002
"""The port of the Service of a server."""

RETRY_AFTER = 1.0
"""Seconds after which a port-forward that ended is started again, at first."""

RETRY_MOST = 10.0
"""The most seconds between two starts."""

STOP_WITHIN = 5.0
"""Seconds that kubectl may take to end before it is killed."""

_FORWARDING = re.compile(rb"Forwarding from 127\.0\.0\.1:(\d+) ->")

_LINE_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The Service to forward to, in the words of kubectl's flags. Empty values are those of the kubeconfig."""

    service: str
    namespace: str = ""
    context: str = ""

    def command(self, kubectl: str, port: int) -> list[str]:
        """Return the command line that forwards a local port; port 0 is a free one."""
        flags = [f"--namespace={self.namespace}"] if self.namespace else []
        flags += [f"--context={self.context}"] if self.context else []
        ports = f"{port or ''}:{GRPC_PORT}"
        return [kubectl, "port-forward", *flags, "--address=127.0.0.1", f"service/{self.service}", ports]


def service_of(release: str) -> str:
    """Return the name of the Service that the chart gives the server of a release."""
    name = release if "queuelet" in release else f"{release}-queuelet"
    return f"{name[:45].removesuffix('-')}-server"


class PortForward:
    """A port-forward. `start` it, then `keep` it alive until that is cancelled."""

    def __init__(self, target: Target, say: Callable[[str], None]) -> None:
        """Prepare it.

        Args:
            target: the Service.
            say: is given a sentence whenever kubectl ends or forwards again.

        Raises:
            Failure: there is no kubectl.
        """
        kubectl = shutil.which("kubectl")
        if kubectl is None:
            raise Failure("cannot open the console: kubectl is not on the PATH; install it, or use --server instead")
        self._kubectl = kubectl
        self._target = target
        self._say = say
        self._process: Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._errors: deque[str] = deque(maxlen=3)
        self._forwards = asyncio.Event()
        self.port = 0
        """The local port. It stays the same when kubectl is started again."""

    async def start(self) -> int:
        """Start kubectl; return the local port once it forwards.

        Raises:
            Failure: kubectl ended instead, with what it said.
        """
        if not await self._launch():
            raise Failure(f"cannot open the console: {self._why()}")
        return self.port

    async def keep(self) -> None:
        """Start kubectl again whenever it ends."""
        loop = asyncio.get_running_loop()
        delay = RETRY_AFTER
        try:
            while True:
                began = loop.time()
                if self._process:
                    await self._ended(self._process)
                self._say(f"{self._why()}; starting it again")
                if loop.time() - began > RETRY_MOST:
                    delay = RETRY_AFTER
                await asyncio.sleep(delay)
                delay = min(RETRY_MOST, 2 * delay)
                if await self._launch():
                    self._say(f"kubectl forwards port {self.port} again")
        finally:
            await self.stop()

    async def stop(self) -> None:
        """End kubectl."""
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

    async def _launch(self) -> bool:
        """Start kubectl; return whether it forwards, once it does or has ended."""
        self._forwards.clear()
        self._errors.clear()
        # In a session of its own, so that ^C in the terminal ends this process first, which then ends kubectl.
        process = self._process = await asyncio.create_subprocess_exec(
            *self._target.command(self._kubectl, self.port),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
            limit=_LINE_BYTES,
        )
        self._readers = [
            asyncio.create_task(self._read_output(process)),
            asyncio.create_task(self._read_errors(process)),
        ]
        ended = asyncio.create_task(self._ended(process))
        forwards = asyncio.create_task(self._forwards.wait())
        try:
            await asyncio.wait([ended, forwards], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.stop()
            raise
        finally:
            ended.cancel()
            forwards.cancel()
        return self._forwards.is_set()

    async def _ended(self, process: Process) -> None:
        """Return once kubectl has ended and all that it said was read."""
        await process.wait()
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def _read_output(self, process: Process) -> None:
        async for line in cast("asyncio.StreamReader", process.stdout):
            if found := _FORWARDING.search(line):
                self.port = int(found[1])
                self._forwards.set()

    async def _read_errors(self, process: Process) -> None:
        async for line in cast("asyncio.StreamReader", process.stderr):
            if text := line.decode(errors="replace").strip():
                self._errors.append(text[:500])

    def _why(self) -> str:
        """Return what kubectl said last, or that it ended."""
        code = self._process.returncode if self._process else None
        said = self._errors[-1] if self._errors else f"it ended with {code}"
        return f"kubectl port-forward: {said}"
