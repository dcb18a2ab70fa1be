"""A release of the chart on a real node, and a Pod that works with its queues."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from support import helm
from support.helm import COMPONENT, INSTANCE, Object
from support.kube_queues import KubeQueues
from support.patience import patient
from support.rpc import eventually
from tools.control_plane import Api, ApiError, binaries
from tools.node import Node

WITHIN = 90.0
"""Seconds for actions of Pods: generous, because the machine may be busy."""

RESTRICTED = "pod-security.kubernetes.io/enforce"
"""The namespace label with which the API server refuses Pods that violate the named Pod Security Standard."""

_SMALL: Object = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "384Mi"}}


def kubectl(node: Node, *arguments: str, stdin: str | None = None) -> str:
    """Run kubectl as users do, and return its output."""
    done = subprocess.run(
        [str(binaries.get("kubectl")), *arguments],
        env=os.environ | node.environment,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def new_namespace(api: Api, prefix: str, **labels: str) -> Iterator[str]:
    """Create a namespace, and delete it afterwards without waiting for its end."""
    name = f"{prefix}-{secrets.token_hex(4)}"
    api.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    try:
        yield name
    finally:
        with suppress(ApiError):
            api.delete(f"/api/v1/namespaces/{name}")


def kill(pod: Object) -> None:
    """Kill the first process of a Pod's only container with SIGKILL, as the kernel does when memory runs out."""
    (container,) = pod["status"]["containerStatuses"]
    identifier = container["containerID"].rpartition("/")[2]
    os.kill(_first_process(identifier), signal.SIGKILL)


def _first_process(container: str) -> int:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # The last of its pids is the one in the container.
            status = (folder / "status").read_text()
            pids = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
            if pids[-1] == "1" and container in (folder / "cgroup").read_text():
                return int(folder.name)
    raise AssertionError(f"container {container} has no process")


class Release:
    """A release of the chart in an existing namespace, with our images and small Pods."""

    def __init__(self, node: Node, images: Mapping[str, str], namespace: str, values: Object | None = None) -> None:
        """Take the names of the images, and values in addition to those for the images."""
        self.node = node
        self.name = "queuelet"
        self.namespace = namespace
        self._values = _merged({each: _part(images[each]) for each in ("server", "operator")}, values or {})

    # Helm

    def install(self, *flags: str) -> str:
        """Install it, and wait until its Pods are ready; return helm's notes for the user."""
        try:
            return helm.install(self.node.control_plane, self.namespace, self.name, self._values, *_WAITING, *flags)
        except helm.HelmError as error:
            raise AssertionError(f"{error}{self._logs()}") from None

    def upgrade(self, values: Object) -> None:
        """Upgrade it to other values, and wait until its Pods are ready."""
        self._values = _merged(self._values, values)
        helm.upgrade(self.node.control_plane, self.namespace, self.name, self._values, *_WAITING)

    def try_upgrade(self, values: Object, *flags: str) -> str:
        """Upgrade it to other values, which fails; return helm's output. The earlier values stay in effect."""
        try:
            helm.upgrade(self.node.control_plane, self.namespace, self.name, _merged(self._values, values), *flags)
        except helm.HelmError as error:
            return str(error)
        raise AssertionError("the upgrade did not fail")

    def uninstall(self) -> None:
        """Uninstall it. Does not wait for the end of its Pods."""
        helm.uninstall(self.node.control_plane, self.namespace, self.name)

    # Its Pods

    @property
    def address(self) -> str:
        """The address at which programs reach the server."""
        return f"queuelet-server.{self.namespace}.svc:10002"

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in its namespace."""
        return kubectl(self.node, f"--namespace={self.namespace}", *arguments, stdin=stdin)

    def wait_rolled_out(self) -> None:
        """Wait until its Pods are ready, and earlier ones are gone."""
        for each in ("statefulset/queuelet-server", "deployment/queuelet-operator"):
            self.kubectl("rollout", "status", each, f"--timeout={WITHIN:.0f}s")
        eventually(lambda: all("deletionTimestamp" not in each["metadata"] for each in self.pods()), "none ends", 60.0)

    def pods(self, component: str | None = None) -> list[Object]:
        """Return its Pods, or those of the server or the operator."""
        labels = f"{INSTANCE}={self.name}" + (f",{COMPONENT}={component}" if component else "")
        items: list[Object] = self.node.api.get(f"/api/v1/namespaces/{self.namespace}/pods", labelSelector=labels)[
            "items"
        ]
        return items

    def server(self) -> Object:
        """Return the server's Pod."""
        (pod,) = self.pods("server")
        return pod

    def leader(self) -> str:
        """Return the name of the operator's Pod that holds the Lease; empty if there is none."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases/queuelet-operator"
        holder = self.node.api.get(path)["spec"].get("holderIdentity", "")
        # The identity ends with a pid and a random number.
        return str(holder).rpartition("-")[0].rpartition("-")[0]

    @contextmanager
    def log_of_server(self) -> Iterator[list[Object]]:
        """Follow the log of the server's current Pod: its lines are complete when the block has ended.

        The Pod must end in the block.
        """
        command = [str(binaries.get("kubectl")), f"--namespace={self.namespace}", "logs", "--follow", "--tail=-1"]
        lines: list[Object] = []
        with subprocess.Popen(
            [*command, self.server()["metadata"]["name"]],
            env=os.environ | self.node.environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as following:
            try:
                yield lines
                text, _ = following.communicate(timeout=patient(60))
                lines += [json.loads(line) for line in text.splitlines()]
            finally:
                following.kill()

    def _logs(self) -> str:
        return self.kubectl("logs", f"--selector={INSTANCE}={self.name}", "--tail=20", "--prefix")


_WAITING = ("--wait", f"--timeout={WITHIN:.0f}s")


def _part(image: str) -> Object:
    repository, _, tag = image.rpartition(":")
    return {"image": {"repository": repository, "tag": tag, "pullPolicy": "Never"}, "resources": _SMALL}


def _merged(one: Object, other: Object) -> Object:
    both = {**one, **other}
    for key in one.keys() & other.keys():
        if isinstance(one[key], dict) and isinstance(other[key], dict):
            both[key] = _merged(one[key], other[key])
    return both


class Shop:
    """A namespace of users: their Queues, and a Pod whose programs use them."""

    def __init__(self, node: Node, namespace: str) -> None:
        """Take an existing namespace."""
        self.node = node
        self.namespace = namespace
        self.queues = KubeQueues(node.api, namespace)

    def open(self, image: str) -> None:
        """Start the Pod, and wait until it runs."""
        container = {"name": "client", "image": image, "imagePullPolicy": "Never", "command": ["sleep", "3600"]}
        client = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "client"},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
        }
        self.kubectl("apply", "--filename=-", stdin=yaml.safe_dump(client))
        self.kubectl("wait", "--for=condition=Ready", "pod/client", f"--timeout={WITHIN:.0f}s")

    def close(self) -> None:
        """Delete its Queues while an operator is running."""
        self.node.api.delete(self.queues.path)
        eventually(lambda: not self.queues.all(), f"the Queues of {self.namespace} are gone", WITHIN)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in it."""
        return kubectl(self.node, f"--namespace={self.namespace}", *arguments, stdin=stdin)

    def run(self, *command: str, stdin: str = "") -> str:
        """Run a command in the Pod, and return its output."""
        return self.kubectl("exec", "--stdin", "client", "--", *command, stdin=stdin)

    def starts(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in the Pod that ends at the end of its standard input."""
        start = [str(binaries.get("kubectl")), f"--namespace={self.namespace}", "exec", "--stdin", "client", "--"]
        return subprocess.Popen(
            [*start, *command],
            env=os.environ | self.node.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
