"""The number of the operator's writes stays within a budget, as counted by the API server's metrics."""

from __future__ import annotations

import time

from support.apart import Apart, server_in_place_of
from support.counts import soaked
from support.kube_queues import KubeQueues, Writes, condition, is_ready
from support.operator_process import OperatorProcess
from support.pages import samples
from support.rpc import Rpc, eventually
from support.server_process import ServerProcess

COUNT = soaked(30, 300)


def make(kube: KubeQueues, count: int = COUNT, policy: str = "Delete") -> None:
    """Create Queues, and wait until they are Ready."""
    for number in range(count):
        kube.create(f"orders-{number}", deletionPolicy=policy)
    kube.wait_all_ready(count)


def settled(operator: OperatorProcess) -> None:
    """Wait until the operator has nothing to do."""
    eventually(lambda: waiting(operator) == 0, "nothing waits")


def waiting(operator: OperatorProcess) -> float:
    """Return how many Queues wait to be reconciled."""
    return sum(samples(f"{operator.metrics_url}/metrics", "queuelet_operator_work_queue_length").values())


def test_a_new_queue_takes_two(apart: Apart, kube: KubeQueues, own_server: ServerProcess) -> None:
    with apart.operator(own_server) as operator:
        writes = Writes(kube.api)
        make(kube)
        settled(operator)
        assert writes.so_far() == 2 * COUNT, "its finalizer and its status"


def test_a_new_queue_that_is_retained_takes_one(apart: Apart, kube: KubeQueues, own_server: ServerProcess) -> None:
    with apart.operator(own_server) as operator:
        writes = Writes(kube.api)
        make(kube, policy="Retain")
        settled(operator)
        assert writes.so_far() == COUNT, "its status"


def test_a_change_takes_one_and_its_deletion_one(apart: Apart, kube: KubeQueues, own_server: ServerProcess) -> None:
    with apart.operator(own_server) as operator:
        make(kube)
        writes = Writes(kube.api)
        for number in range(COUNT):
            kube.change(f"orders-{number}", limit=7)
        eventually(lambda: all(each["status"]["effective"]["limit"] == 7 for each in kube.all()), "all are changed")
        settled(operator)
        assert writes.so_far() == 2 * COUNT, "one was the change itself"
        writes = Writes(kube.api)
        for number in range(COUNT):
            kube.delete(f"orders-{number}")
        eventually(lambda: not kube.all(), "all are gone")
        assert writes.so_far() == COUNT, "the finalizer"


def test_a_change_of_the_policy_to_retain_or_back_takes_two(
    apart: Apart, kube: KubeQueues, own_server: ServerProcess
) -> None:
    with apart.operator(own_server) as operator:
        kube.create()
        kube.wait_ready()
        for policy in ("Retain", "Delete"):
            writes = Writes(kube.api)
            kube.change(deletionPolicy=policy)
            kube.wait_ready()
            settled(operator)
            assert writes.so_far() == 3, "one was the change itself"


def test_a_restart_with_little_changed_writes_little(apart: Apart, kube: KubeQueues, own_server: ServerProcess) -> None:
    count = soaked(200, 1_000)
    changed = count // 100
    with apart.operator(own_server) as operator:
        make(kube, count)
        assert operator.stop() == 0
    for number in range(changed):
        kube.change(f"orders-{number}", limit=7)
    writes = Writes(kube.api)
    with apart.operator(own_server) as operator:
        kube.wait_all_ready(count)
        settled(operator)
        assert writes.so_far() == changed
        calls = samples(f"{operator.metrics_url}/metrics", "queuelet_operator_declarations_total")
        assert sum(calls.values()) == changed, "what is as it should be is not declared again"


def test_a_resync_writes_and_declares_nothing(apart: Apart, kube: KubeQueues, own_server: ServerProcess) -> None:
    with apart.operator(own_server, "--resync", "0.3") as operator:
        make(kube)
        settled(operator)
        writes = Writes(kube.api)
        before = samples(f"{operator.metrics_url}/metrics", "queuelet_operator_declarations_total")
        time.sleep(1.5)
        assert writes.so_far() == 0
        assert samples(f"{operator.metrics_url}/metrics", "queuelet_operator_declarations_total") == before


def test_an_outage_takes_one_when_it_is_one_and_two_at_its_end(
    apart: Apart, kube: KubeQueues, own_server: ServerProcess
) -> None:
    with apart.operator(own_server, "--outage-after", "1.5") as operator:
        make(kube)
        writes = Writes(kube.api)
        own_server.kill()
        eventually(
            lambda: all((condition(each) or {})["reason"] == "ServerUnavailable" for each in kube.all()), "all say so"
        )
        settled(operator)
        assert writes.so_far() == COUNT
        with server_in_place_of(own_server):
            eventually(lambda: all(is_ready(each) for each in kube.all()), "all are back", timeout=60.0)
            settled(operator)
            assert writes.so_far() == 3 * COUNT


def test_counts_alone_are_written_ten_times_a_second_at_most(
    apart: Apart, kube: KubeQueues, own_server: ServerProcess
) -> None:
    with apart.operator(own_server, "--counts-every", "0"):
        make(kube)
        writes = Writes(kube.api)
        client = Rpc(own_server.address)
        for number in range(COUNT):
            client.add(kube.server_name(f"orders-{number}"), b"")
        client.close()
        began = time.monotonic()
        counted = lambda: all(each["status"]["messages"]["total"] == 1 for each in kube.all())  # noqa: E731
        eventually(counted, "all are counted", timeout=30 + COUNT / 10)
        assert writes.so_far() == COUNT
        assert time.monotonic() - began > (COUNT - 10) / 10 - 1, "they were spread over time"
