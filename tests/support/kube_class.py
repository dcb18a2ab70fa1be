"""Queues of a class that only one test's operators serve: shared operators ignore them."""

from __future__ import annotations

from collections.abc import Mapping

from support.kube_queues import KubeQueues
from support.operator_process import OperatorProcess
from support.queue_objects import Object
from support.server_process import ServerProcess


class QueuesOfAClass(KubeQueues):
    """The Queues of a namespace, in the class of its name."""

    def create(self, name: str = "orders", *, annotations: dict[str, str] | None = None, **spec: object) -> Object:
        """Create a Queue."""
        return super().create(name, annotations=annotations, queueClassName=self.namespace, **spec)

    def operator(
        self, server: ServerProcess, env: Mapping[str, str], *flags: str, quick_lease: bool = False
    ) -> OperatorProcess:
        """Return an operator for this class alone, not started, with its Lease in the namespace."""
        here = self.namespace
        own = ("--queue-class", here, "--namespace", here, "--lease-namespace", here, "--instance", here)
        return OperatorProcess("--server", server.address, *own, *flags, env=env, quick_lease=quick_lease)
