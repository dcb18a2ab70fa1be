"""The verdicts of kubectl, Flux and Argo CD on a Queue in each phase of its life, with a real API server."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator

import pytest

from queuelet.v1 import queue_pb2 as pb
from support.apart import server_in_place_of
from support.documents import ROOT, commands
from support.kstatus import Health, Kstatus, Object, argo_health, kstatus
from support.kube_class import QueuesOfAClass
from support.kube_queues import History, condition, is_ready, reason_of
from support.operator_process import OperatorProcess
from support.rpc import Rpc, eventually
from support.server_process import ServerProcess
from tools.control_plane import Api, ControlPlane

Kubectl = Callable[..., str]

pytestmark = pytest.mark.timeout(120)

SOON = ("--outage-after", "1.5")
"""Flags with which the operator reports an outage early, so that tests do not wait for ten seconds."""


@pytest.fixture
def kube(api: Api, namespace: str) -> QueuesOfAClass:
    """The Queues of a new namespace, which only the operators of this test serve."""
    return QueuesOfAClass(api, namespace)


@pytest.fixture
def own_server() -> Iterator[ServerProcess]:
    """A server that the test may stop."""
    with ServerProcess() as process:
        yield process


@pytest.fixture
def own_operator(own_server: ServerProcess, kube: QueuesOfAClass, control_plane: ControlPlane) -> OperatorProcess:
    """An operator for it, not started."""
    return kube.operator(own_server, control_plane.environment, *SOON)


def verdicts(body: Object) -> tuple[Kstatus, Health]:
    """Return the verdicts of kstatus and Argo CD on an object."""
    return kstatus(body), argo_health(body)


IN_PROGRESS = (Kstatus.IN_PROGRESS, Health.PROGRESSING)
CURRENT = (Kstatus.CURRENT, Health.HEALTHY)
FAILED = (Kstatus.FAILED, Health.DEGRADED)
TERMINATING = (Kstatus.TERMINATING, Health.PROGRESSING)


def settled(history: History, name: str) -> list[tuple[Kstatus, Health]]:
    """Return the verdicts on a Queue over time, without consecutive repetitions."""
    found: list[tuple[Kstatus, Health]] = []
    for state in history.states.get(name, []):
        if found[-1:] != [verdicts(state)]:
            found.append(verdicts(state))
    return found


def times_out(kubectl: Kubectl, *arguments: str) -> bool:
    """Return whether a `kubectl wait` times out."""
    with pytest.raises(AssertionError, match="timed out waiting"):
        kubectl("wait", *arguments, "--timeout=1s")
    return True


# Without an operator


def test_just_created_it_is_in_progress_before_any_operator_saw_it(kube: QueuesOfAClass, kubectl: Kubectl) -> None:
    """An object without a status would count as done."""
    created = kube.create()
    assert created["status"] == {"observedGeneration": -1}
    assert verdicts(created) == IN_PROGRESS
    assert kstatus({**created, "status": {}}) is Kstatus.CURRENT, "which is why the status has a default"
    assert times_out(kubectl, "--for=condition=Ready", "queue/orders")


def test_changed_while_no_operator_runs_it_is_in_progress_until_one_does(
    kube: QueuesOfAClass, own_operator: OperatorProcess, kubectl: Kubectl
) -> None:
    with own_operator:
        kube.create(limit=1)
        assert verdicts(kube.wait_ready()) == CURRENT
        own_operator.stop()
        assert verdicts(kube.get()) == CURRENT, "an operator that is away changes nothing about a queue"
        changed = kube.change(limit=2)
        assert reason_of(changed) == "Ready"
        assert verdicts(changed) == IN_PROGRESS
        assert times_out(kubectl, "--for=condition=Ready", "queue/orders")
        own_operator.start()
        kubectl("wait", "--for=condition=Ready", "queue/orders", "--timeout=30s")
        assert verdicts(kube.get()) == CURRENT


# With one


def test_it_is_never_current_too_early(
    kube: QueuesOfAClass, own_operator: OperatorProcess, control_plane: ControlPlane
) -> None:
    """Every version in the watch is checked, because tools must not continue before the server has the queue."""
    with own_operator, History(control_plane, kube) as history:
        kube.create(limit=1)
        kube.wait_ready()
        eventually(lambda: settled(history, "orders") == [IN_PROGRESS, CURRENT], "made")
        kube.change(limit=2)
        kube.wait("orders", lambda each: is_ready(each) and each["status"]["effective"]["limit"] == 2, "changed")
        eventually(lambda: settled(history, "orders") == [IN_PROGRESS, CURRENT] * 2, "changed")
        for state in history.states["orders"]:
            if verdicts(state) == CURRENT:
                assert state["status"]["effective"]["limit"] == state["spec"]["limit"]


def test_a_change_that_asks_for_nothing_new_keeps_it_current(
    kube: QueuesOfAClass, own_operator: OperatorProcess, control_plane: ControlPlane
) -> None:
    with own_operator:
        kube.create(deletionPolicy="Drain", drainSeconds=60)
        kube.wait_ready()
        with History(control_plane, kube) as history:
            kube.api.merge(f"{kube.path}/orders", {"metadata": {"labels": {"touched": "by-a-tool"}}})
            eventually(lambda: settled(history, "orders") == [CURRENT], "touched")
            kube.change(drainSeconds=30)
            eventually(lambda: settled(history, "orders") == [CURRENT, IN_PROGRESS, CURRENT], "seen")


# Outages and failures


def test_a_queue_of_another_owner_is_failed(
    kube: QueuesOfAClass, own_operator: OperatorProcess, own_server: ServerProcess, kubectl: Kubectl
) -> None:
    client = Rpc(own_server.address)
    client.new_queue(kube.server_name("orders"))
    client.close()
    with own_operator:
        kube.create()
        assert verdicts(kube.wait_reason("NotOwner")) == FAILED
        kubectl("wait", "--for=condition=Stalled", "queue/orders", "--timeout=30s")
        kubectl("annotate", "queue/orders", "queuelet.dev/adopt=true")
        assert verdicts(kube.wait_ready()) == CURRENT


def test_a_store_that_the_server_lacks_is_failed(kube: QueuesOfAClass, own_operator: OperatorProcess) -> None:
    with own_operator:
        kube.create(store="Disk")
        assert verdicts(kube.wait_reason("StoreUnavailable")) == FAILED


def test_a_declaration_that_the_server_refuses_for_good_is_failed(
    kube: QueuesOfAClass, control_plane: ControlPlane
) -> None:
    tags = [{"key": "team", "value": value} for value in ("checkout", "billing")]
    with ServerProcess("--max-tags", "1") as server, kube.operator(server, control_plane.environment):
        kube.create(tags=tags)
        assert verdicts(kube.wait_reason("DeclarationRefused")) == FAILED
        kube.change(tags=tags[:1])
        assert verdicts(kube.wait_ready()) == CURRENT


def test_a_declaration_that_is_refused_for_now_is_in_progress(
    kube: QueuesOfAClass, control_plane: ControlPlane
) -> None:
    with ServerProcess("--max-queues", "1") as server, kube.operator(server, control_plane.environment):
        client = Rpc(server.address)
        client.new_queue("in-the-way")
        client.close()
        kube.create()
        assert verdicts(kube.wait_reason("DeclarationRefused")) == IN_PROGRESS


def test_while_the_server_is_away_it_is_in_progress_and_so_it_is_when_messages_were_lost(
    kube: QueuesOfAClass, own_operator: OperatorProcess, own_server: ServerProcess, control_plane: ControlPlane
) -> None:
    with own_operator:
        kube.create()
        kube.wait_ready()
        with History(control_plane, kube) as history:
            own_server.kill()
            assert verdicts(kube.wait_reason("ServerUnavailable")) == IN_PROGRESS
            with server_in_place_of(own_server):
                history.wait(["orders"], ["ServerUnavailable", "ServerStateLost", "Ready"])
            assert settled(history, "orders") == [IN_PROGRESS, CURRENT]


# Requests of users and tools


def test_paused_it_is_what_it_was_and_argo_cd_shows_that_it_is_suspended(
    kube: QueuesOfAClass, own_operator: OperatorProcess
) -> None:
    with own_operator:
        kube.create(limit=1)
        kube.wait_ready()
        kube.annotate(paused="true")
        paused = kube.wait("orders", lambda each: reason_of(each) == "Paused", "paused")
        assert verdicts(paused) == (Kstatus.CURRENT, Health.SUSPENDED)
        assert kstatus(kube.change(limit=2)) is Kstatus.IN_PROGRESS, "its change is not carried out"
        kube.create("new", annotations={"queuelet.dev/paused": "true"})
        new = kube.wait("new", lambda each: reason_of(each) == "Paused", "paused")
        assert verdicts(new) == (Kstatus.IN_PROGRESS, Health.SUSPENDED), "there is no queue"
        for name in ("orders", "new"):
            kube.annotate(name, paused=None)
            assert verdicts(kube.wait_ready(name)) == CURRENT


def test_a_drain_is_terminating_until_its_last_message_is_taken(
    kube: QueuesOfAClass, own_operator: OperatorProcess, own_server: ServerProcess, kubectl: Kubectl
) -> None:
    client = Rpc(own_server.address)
    with own_operator:
        kube.create(deletionPolicy="Drain")
        kube.wait_ready()
        client.add(kube.server_name("orders"), b"last")
        kubectl("delete", "queue/orders", "--wait=false")
        draining = kube.wait_reason("WaitingForDrain")
        assert verdicts(draining) == TERMINATING
        assert condition(draining, "Reconciling")
        assert times_out(kubectl, "--for=delete", "queue/orders")
        client.call("Pop", pb.PopRequest(queue_id=kube.server_name("orders")), pb.PopResponse)
        kubectl("wait", "--for=delete", "queue/orders", "--timeout=30s")
    client.close()


def test_a_pipeline_asks_for_a_look_and_waits_for_the_result(
    kube: QueuesOfAClass, own_operator: OperatorProcess, kubectl: Kubectl
) -> None:
    """By the commands of docs/gitops.md."""
    documented = [shlex.split(each) for each in commands("docs/gitops.md") if "queue/orders" in each]
    assert [words[1] for words in documented] == ["annotate", "wait"]
    with own_operator:
        kube.create()
        kube.wait_ready()
        for _, *words in documented:
            kubectl(*(word.replace("$BUILD", "build-17") for word in words))
        assert kube.status()["lastHandledReconcileAt"] == "build-17"
        assert verdicts(kube.get()) == CURRENT


def test_a_deletion_that_no_operator_carries_out_is_terminating_and_can_be_ended_by_hand(
    kube: QueuesOfAClass, own_operator: OperatorProcess, own_server: ServerProcess, kubectl: Kubectl
) -> None:
    """By the command of docs/operator.md."""
    text = (ROOT / "docs" / "operator.md").read_text()
    (documented,) = re.findall("`kubectl (patch .*?}')`", text)
    with own_operator:
        kube.create()
        kube.wait_ready()
        own_operator.stop()
    kubectl("delete", "queue/orders", "--wait=false")
    assert verdicts(kube.get()) == TERMINATING
    kubectl(*shlex.split(documented))
    kube.wait_gone()
    client = Rpc(own_server.address)
    assert client.get_queue(kube.server_name("orders")).name, "the queue stays"
    client.close()
