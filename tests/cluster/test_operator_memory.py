"""The memory of an operator stays small if it starts with many large Queues."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from support.apart import Apart
from support.counts import soaked
from support.kube_queues import KubeQueues
from support.operator_process import OperatorProcess
from support.pages import samples
from support.queue_objects import queue_object, tag
from support.rpc import eventually
from support.server_process import ServerProcess
from tools.control_plane import ControlPlane

QUEUES = soaked(150, 5_000)
MAX_MEBIBYTES = soaked(180, 300)
"""MiB. The chart's limit is 512. An operator uses 96 with one Queue, 150 with 150, and 210 if it reads all at once."""

PEAK = "VmHWM:"


def peak_mebibytes(pid: int) -> int:
    """Return the peak memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(PEAK)) // 1024


def all_are_ready(process: OperatorProcess) -> bool:
    """Return whether the operator counts all Queues as Ready."""
    queues = samples(f"{process.metrics_url}/metrics", "queuelet_operator_queues")
    return queues == {'ready="true",reason="Ready"': QUEUES}


@pytest.mark.timeout(soaked(120, 3_600))
def test_a_restart_beside_many_queues_at_the_bounds_takes_little_memory(
    control_plane: ControlPlane, apart: Apart, kube: KubeQueues, own_server: ServerProcess
) -> None:
    # 5,000 Queues with tags of "<" are 2 GiB of JSON, which is the limit of etcd.
    filling = soaked("<", "a") * 249

    def create(numbers: range) -> None:
        queues = KubeQueues(control_plane.api_of_admin(), kube.namespace)
        for number in numbers:
            name = f"orders-{number}"
            tags = [tag(f"{each:02}", f"{number:05}{filling}") for each in range(64)]
            # Server-side apply, as Flux and kubectl use it, so that managedFields contain each tag.
            queues.api.apply(f"{queues.path}/{name}", queue_object(name, tags=tags), "flux")
        queues.api.close()

    with ThreadPoolExecutor(4) as people:
        list(people.map(create, [range(start, QUEUES, 4) for start in range(4)]))
    # The first operator creates the queues, and the second one finds them on the server.
    for is_restart in (False, True):
        with apart.operator(own_server) as process:
            eventually(
                partial(all_are_ready, process),
                f"{QUEUES} Queues are Ready",
                timeout=soaked(60, 1_800),
            )
            peak = peak_mebibytes(process.pid)
            print(f"{QUEUES} Queues, {'restart' if is_restart else 'first start'}: peak {peak} MiB")  # noqa: T201  # a soak's figures are read by people
            assert process.stop() == 0, "it releases its Lease"
            assert peak < MAX_MEBIBYTES
