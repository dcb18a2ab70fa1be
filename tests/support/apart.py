"""Operators of one test that do not interfere with others, with the rights of the chart's operator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from support.helm import install, operator_deployment, operator_environment, service_account_kubeconfig
from support.kube_queues import KubeQueues
from support.operator_process import OperatorProcess
from support.server_process import ServerProcess
from tools.control_plane import ControlPlane

RBAC = "/apis/rbac.authorization.k8s.io/v1"


class Release:
    """The chart, installed once in a control plane, because its operator needs the rights."""

    namespace = "queuelet"
    name = "queuelet"

    def __init__(self, control_plane: ControlPlane) -> None:
        """Install it."""
        self._control_plane = control_plane
        control_plane.api.create("/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        install(control_plane, self.namespace, self.name, {"crds": {"enabled": False}})
        # Operators here have instances of their own, but share one class.
        control_plane.api.delete("/apis/rbac.authorization.k8s.io/v1/clusterroles/queuelet.dev:class:default")
        deployment = operator_deployment(control_plane.api, self.namespace, self.name)
        self._account = deployment["spec"]["template"]["spec"]["serviceAccountName"]

    def environment(self, server: ServerProcess) -> dict[str, str]:
        """Return the environment that the chart gives its operator, for a server that runs here."""
        given = operator_environment(self._control_plane, self.namespace, self.name, server=server.address)
        return {**given, "QUEUELET_OPERATOR_ADDRESS": server.address, "QUEUELET_OPERATOR_INSTANCE": "queuelet"}

    def kubeconfig(self) -> Path:
        """Return the kubeconfig of the chart's operator."""
        return service_account_kubeconfig(self._control_plane, self.namespace, self.name)

    def move_to(self, namespace: str) -> None:
        """Give the operator its rights of the release's namespace in another: its Lease and the server's Service."""
        where = f"{RBAC}/namespaces/{namespace}"
        rules = [
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "get", "update"]},
            {"apiGroups": [""], "resources": ["services"], "verbs": ["get"]},
        ]
        api = self._control_plane.api
        api.create(f"{where}/roles", {"metadata": {"name": "release"}, "rules": rules})
        binding = {
            "metadata": {"name": "release"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "release"},
            "subjects": [{"kind": "ServiceAccount", "name": self._account, "namespace": self.namespace}],
        }
        api.create(f"{where}/rolebindings", binding)


class Apart:
    """Starts operators and servers of a test's own, which serve only its namespace."""

    def __init__(self, release: Release, kube: KubeQueues) -> None:
        """Take the chart whose rights they have, and the Queues of the test's namespace."""
        release.move_to(kube.namespace)
        self._kubeconfig = release.kubeconfig()
        self.kube = kube

    def operator(
        self, server: ServerProcess | str, *flags: str, quick_lease: bool = False, env: Mapping[str, str] | None = None
    ) -> OperatorProcess:
        """Return an operator of the test's own, not started, with its Lease in the test's namespace."""
        address = server if isinstance(server, str) else server.address
        here = self.kube.namespace
        own = ("--server", address, "--namespace", here, "--lease-namespace", here, "--instance", here)
        given = {"KUBECONFIG": str(self._kubeconfig), **(env or {})}
        return OperatorProcess(*own, *flags, env=given, quick_lease=quick_lease)


def server_in_place_of(gone: ServerProcess, *flags: str) -> ServerProcess:
    """Return a new server, not started, on the port of another one."""
    return ServerProcess("--listen", gone.address, "--metrics", "127.0.0.1:0", *flags, free_ports=False)
