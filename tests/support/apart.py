"""Operators of a test's own, that do not get in the way of those of others."""

from __future__ import annotations

from support.kube_queues import KubeQueues
from support.operator_process import OperatorProcess
from support.server_process import ServerProcess
from tools.control_plane import ControlPlane


class Apart:
    """What a test needs to have operators and servers of its own: they look after its namespace alone."""

    def __init__(self, control_plane: ControlPlane, kube: KubeQueues) -> None:
        """Take the API server, and the Queues of the test's namespace."""
        self.control_plane = control_plane
        self.kube = kube

    def operator(self, server: ServerProcess | str, *flags: str, quick_lease: bool = False) -> OperatorProcess:
        """Return an operator of the test's own, not started, with its Lease in the test's namespace."""
        address = server if isinstance(server, str) else server.address
        here = self.kube.namespace
        own = ("--server", address, "--namespace", here, "--lease-namespace", here, "--instance", here)
        return OperatorProcess(*own, *flags, env=self.control_plane.environment, quick_lease=quick_lease)


def server_in_place_of(gone: ServerProcess) -> ServerProcess:
    """Return a new server, not started, where another one was."""
    return ServerProcess("--listen", gone.address, "--metrics", "127.0.0.1:0", free_ports=False)
