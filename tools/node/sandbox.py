"""The sandbox of a node: network, mount and process namespaces of its own."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tools.control_plane.errors import ControlPlaneError
from tools.control_plane.processes import Process

ADDRESS = "10.200.0.1"
"""The node's address."""
DNS = "10.96.0.10"
"""The address of cluster DNS: in the range of Services, in the part that is not assigned automatically."""

_HERE = Path(__file__).parent
_LAID_OUT_WITHIN = 30.0
_ENDED_WITHIN = 30.0


class Sandbox:
    """Namespaces with a process 1 of their own. All processes in them end with it."""

    def __init__(self, folder: Path, logs: Path, started: Callable[[int], None]) -> None:
        """Take a folder for state, one for logs, and a callback for the pid of each process that is started.

        The command lines of those processes name the folder.
        """
        self._folder = folder
        self._logs = logs
        self._started = started
        command = ["unshare", "--net", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child"]
        init = [sys.executable, str(_HERE / "init.py"), str(folder), ADDRESS, DNS]
        self.process = Process("sandbox", [*command, "--mount-proc", *init], logs / "sandbox.log")
        self._first = 0
        self._relays: list[Process] = []

    def start(self) -> None:
        """Start the sandbox; return when its network and mounts are set up."""
        self.process.start()
        self._started(self.process.pid)
        end = time.monotonic() + _LAID_OUT_WITHIN
        while not (self._folder / "laid-out").exists():
            self.process.check()
            if time.monotonic() > end:
                raise ControlPlaneError(f"the sandbox was not ready after {_LAID_OUT_WITHIN:.0f} s")
            time.sleep(0.01)
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        self._first = int(children.read_text())

    def stop(self) -> None:
        """Kill every process in the sandbox."""
        for relay in self._relays:
            relay.kill()
        # Kill process 1 and not its parent `unshare`, which ends once everything in the sandbox has ended.
        if self._first > 0 and self.process.is_running:
            os.kill(self._first, signal.SIGKILL)
            end = time.monotonic() + _ENDED_WITHIN
            while time.monotonic() < end and self.process.is_running:
                time.sleep(0.01)
        self.process.kill()

    def check(self) -> None:
        """Raise `ControlPlaneError` if the sandbox has ended."""
        for process in (self.process, *self._relays):
            process.check()

    def in_network(self) -> list[str]:
        """Return a prefix that runs a command in the sandbox's network, with the machine's files and processes."""
        return ["nsenter", f"--target={self._first}", "--net", "--"]

    def within(self) -> list[str]:
        """Return a prefix that runs a command in the sandbox; the command ends with the sandbox."""
        return ["nsenter", f"--target={self._first}", "--net", "--mount", "--pid", "--"]

    def seen_from_outside(self, path: str) -> Path:
        """Return the machine's path of a path in the sandbox, valid while the sandbox runs."""
        return Path(f"/proc/{self._first}/root{path}")

    def ports(self, count: int) -> list[int]:
        """Return free ports of the machine's loopback that are relayed to the same ports of the sandbox's loopback."""
        return self._relay([None] * count)

    def reach(self, host: str, port: int) -> int:
        """Return a free port of the machine's loopback that is relayed to an address in the sandbox's network."""
        return self._relay([f"{host}:{port}"])[0]

    def _relay(self, targets: Sequence[str | None]) -> list[int]:
        with ExitStack() as stack:
            sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128)) for _ in targets]
            found = [int(each.getsockname()[1]) for each in sockets]
            numbers = [each.fileno() for each in sockets]
            relayed = [
                f"{number}={target or f'127.0.0.1:{port}'}"
                for number, target, port in zip(numbers, targets, found, strict=True)
            ]
            command = [*self.in_network(), sys.executable, str(_HERE / "relay.py"), str(self._folder), *relayed]
            relay = Process("relay", command, self._logs / "relay.log", files=numbers)
            relay.start()
            self._started(relay.pid)
        self._relays.append(relay)
        return found
