"""The node: a control plane and the programs of a node, in a sandbox."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.control_plane import binaries
from tools.control_plane.api import Api
from tools.control_plane.errors import ApiError, ControlPlaneError
from tools.control_plane.guard import Guard
from tools.control_plane.plane import ControlPlane
from tools.control_plane.processes import Process
from tools.control_plane.steps import Steps
from tools.control_plane.steps import say as say_as
from tools.node import busybox, volumes
from tools.node.busybox import BUSYBOX
from tools.node.cgroups import Cgroups
from tools.node.machine import network_plugins, why_not
from tools.node.sandbox import ADDRESS, Sandbox
from tools.node.settings import DNS_READY_PORT, PROXY_HEALTH_PORT, RUNTIME_SOCKET, Settings

__all__ = ["BUSYBOX", "Node"]

NAME = "node"

_READY_WITHIN = 90.0
"""Seconds that each program has to become ready: generous, because the machine may be busy."""

_API_SERVER_FLAGS = (
    # Pods reach it too, at the address of the node: the Service `kubernetes` points there.
    "--bind-address=0.0.0.0",
    f"--advertise-address={ADDRESS}",
    "--endpoint-reconciler-type=lease",
    "--kubelet-preferred-address-types=InternalIP",
    "--allow-privileged=true",
)


class Node:
    """A Kubernetes cluster with one node, which runs Pods of the given images. Several may run at once.

    If it fails, its logs stay. For tests only: every process in its network has full access.
    """

    def __init__(self, images: Sequence[Path] = ()) -> None:
        """Take OCI archives of the images that Pods may use, in addition to `BUSYBOX`."""
        self._images = images

    def __enter__(self) -> Self:
        """Start the cluster."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it; keep its logs if the block failed."""
        self.stop(keep_logs=error is not None)

    def start(self) -> None:
        """Start it; return when the node accepts Pods. Raises `ControlPlaneError` with the reason if it fails."""
        if reason := why_not():
            raise ControlPlaneError(reason)
        found = {name: binaries.get(name) for name in (*binaries.SERVERS, *binaries.OF_A_NODE)}
        steps = Steps()
        self._lay_out()
        try:
            self._start(found, steps)
        except BaseException:
            self.stop(keep_logs=True)
            raise
        _say(f"ready after {steps}")

    def stop(self, *, keep_logs: bool = False) -> None:
        """Kill it with all Pods, and remove its state, except for its logs if asked to keep them."""
        self.sandbox.stop()
        for process in self._processes:
            process.kill()
        if self._control_plane:
            self._control_plane.stop(keep_logs=keep_logs)
        self._cgroups.remove()
        self._guard.dismiss()
        for path in self.folder.iterdir():
            if path == self._logs and keep_logs:
                _say(f"the node's logs are in {path}")
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        if not keep_logs:
            self.folder.rmdir()

    def check(self) -> None:
        """Raise `ControlPlaneError` with the last lines of its log if one of the processes has ended."""
        self.control_plane.check()
        self.sandbox.check()
        for process in self._processes:
            process.check()

    # How to use it

    @property
    def control_plane(self) -> ControlPlane:
        """The folder of the sandbox."""
        if not self._control_plane:
            raise ControlPlaneError("the node was not started")
        return self._control_plane

    @property
    def api(self) -> Api:
        """The API server, as admin."""
        return self.control_plane.api

    @property
    def kubeconfig(self) -> Path:
        """The admin's kubeconfig. It works on the machine and in the node's network."""
        return self.control_plane.kubeconfig

    @property
    def environment(self) -> dict[str, str]:
        """Environment with which kubectl and helm talk to it as admin, and leave nothing behind."""
        return self.control_plane.environment

    @property
    def cgroup(self) -> str:
        """The unique name of its cgroup."""
        return self._cgroups.name

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Return a command that runs the given one in the node's network, with the machine's files."""
        return [*self.sandbox.in_network(), *arguments]

    def run(self, arguments: Sequence[str], within: float = 60.0) -> str:
        """Run a command in the node's network, and return its output. Raises `CalledProcessError` if it fails."""
        done = subprocess.run(
            self.command(arguments),
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=within,
        )
        return done.stdout

    def reach(self, host: str, port: int) -> int:
        """Return a free port of the machine's loopback that is relayed to an address in the node's network."""
        return self.sandbox.reach(host, port)

    def import_image(self, archive: Path) -> None:
        """Import the image of an OCI archive, for Pods that are created from now on."""
        command = ["ctr", "--namespace=k8s.io", "images", "import", str(archive)]
        done = subprocess.run([*self.sandbox.within(), *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise ControlPlaneError(f"{archive} can't be imported: {done.stderr.strip()}")

    # Internals

    def _lay_out(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="queuelet-node-"))
        """The folder of its state."""
        # Users of containers need to traverse the folder.
        self.folder.chmod(0o755)
        self._logs = self.folder / "logs"
        self._logs.mkdir()
        self._cgroups = Cgroups()
        self._guard = Guard(self.folder, self._cgroups.folders)
        self._processes: list[Process] = []
        self._control_plane: ControlPlane | None = None
        self.sandbox = Sandbox(self.folder, self._logs, self._guard.watch)
        """The sandbox that everything runs in."""
        self._settings = Settings(
            folder=self.folder,
            cgroup=self._cgroups.name,
            node=NAME,
            pause=busybox.PAUSE,
            plugins=network_plugins() or Path(),
        )

    def _start(self, found: Mapping[str, Path], steps: Steps) -> None:
        with steps.step("sandbox"):
            self._cgroups.make()
            self.sandbox.start()
        with ThreadPoolExecutor(1) as thread:
            runtime = thread.submit(self._start_runtime)
            with steps.step("control plane"):
                control_plane = ControlPlane(
                    api_server_flags=_API_SERVER_FLAGS,
                    controllers=("*",),
                    prefix=self.sandbox.in_network(),
                    ports=self.sandbox.ports,
                )
                control_plane.start()
                self._control_plane = control_plane
            with steps.step("images"):
                runtime.result()
        with steps.step("node"):
            self._start_node(found)

    def _start_runtime(self) -> None:
        """Start containerd, and import the images."""
        self._settings.write_containerd()
        containerd = self._run(["containerd", f"--config={self._settings.containerd}"])
        self._wait_for(containerd, self._containerd_responds)
        for archive in (*busybox.write(self.folder), *self._images):
            self.import_image(archive)

    def _start_node(self, found: Mapping[str, Path]) -> None:
        settings, kubeconfig = self._settings, f"--kubeconfig={self.kubeconfig}"
        settings.write_others(self.kubeconfig)
        kubelet = self._run(
            [
                str(found["kubelet"]),
                kubeconfig,
                f"--config={settings.kubelet}",
                f"--hostname-override={NAME}",
                f"--node-ip={ADDRESS}",
            ]
        )
        proxy = self._run([str(found["kube-proxy"]), f"--config={settings.proxy}"])
        dns = self._run([str(found["coredns"]), "-conf", str(settings.coredns)])
        self._run([str(found["kube-scheduler"]), kubeconfig, "--leader-elect=false", "--secure-port=0"])
        volumes.create(self.api, self.folder / "volumes", NAME)
        self._wait_for(kubelet, self._node_takes_pods)
        self._wait_for(proxy, self._responds(PROXY_HEALTH_PORT, "/healthz"))
        self._wait_for(dns, self._responds(DNS_READY_PORT, "/ready"))

    def _run(self, command: Sequence[str]) -> Process:
        name = Path(command[0]).name
        process = Process(name, [*self.sandbox.within(), *command], self._logs / f"{name}.log")
        process.start()
        self._processes.append(process)
        return process

    def _wait_for(self, process: Process, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + _READY_WITHIN
        while not ready():
            process.check()
            if time.monotonic() > end:
                raise ControlPlaneError(
                    f"{process.name} was not ready after {_READY_WITHIN:.0f} s; the end of {process.log}:\n"
                    f"{process.last_lines()}"
                )
            time.sleep(0.05)

    def _containerd_responds(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.sandbox.seen_from_outside(RUNTIME_SOCKET))) == 0

    def _node_takes_pods(self) -> bool:
        try:
            node = self.api.get(f"/api/v1/nodes/{NAME}")
        except ApiError as error:
            if error.code != http.HTTPStatus.NOT_FOUND:
                raise
            return False
        ready = [
            condition["status"] for condition in node["status"].get("conditions", ()) if condition["type"] == "Ready"
        ]
        return ready == ["True"] and not node["spec"].get("taints")

    def _responds(self, port: int, path: str) -> Callable[[], bool]:
        url = f"http://127.0.0.1:{self.reach('127.0.0.1', port)}{path}"

        def ask() -> bool:
            try:
                with urllib.request.urlopen(url, timeout=2.0):
                    return True
            except (OSError, http.client.HTTPException):
                return False

        return ask


def _say(text: str) -> None:
    say_as(text, who="node")
