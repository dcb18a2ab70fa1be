"""Two installations with the same queue class: the second is refused, or stays idle and says why."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from support.helm import CHART, HelmError, Object, helm, install, operator_environment, uninstall, upgrade
from support.kube_queues import KubeQueues
from support.operator_process import OperatorProcess
from support.pages import fetch, samples
from support.rpc import eventually
from support.server_process import ServerProcess
from tools.control_plane import Api, ControlPlane, binaries

NewNamespace = Callable[..., str]

ROLES = "/apis/rbac.authorization.k8s.io/v1"

NOT_ACTING = "not acting: another installation serves the queue class"
ENDING = "stopping: another installation serves the queue class"


@pytest.fixture
def queue_class() -> str:
    """A queue class of the test's own."""
    return f"class-{secrets.token_hex(3)}"


@pytest.fixture
def claims(api: Api, queue_class: str) -> Claims:
    """The claims of the class."""
    return Claims(api, queue_class)


class Claims:
    """The claims of a class."""

    def __init__(self, api: Api, queue_class: str) -> None:
        self._api = api
        self._name = f"queuelet.dev:class:{queue_class}"

    def path(self, namespace: str = "") -> str:
        """Return the path of the cluster-wide claim, or of a namespace's."""
        return (
            f"{ROLES}/namespaces/{namespace}/roles/{self._name}" if namespace else f"{ROLES}/clusterroles/{self._name}"
        )

    def holder(self, namespace: str = "") -> str | None:
        """Return the installation that holds a claim."""
        annotations: dict[str, str] = self._api.get(self.path(namespace))["metadata"]["annotations"]
        return annotations.get("queuelet.dev/held-by")

    def maker(self) -> str:
        """Return the installation that the cluster-wide claim was created for."""
        return str(self._api.get(self.path())["metadata"]["annotations"]["queuelet.dev/claimed-by"])

    def annotate(self, **annotations: str) -> None:
        """Overwrite an annotation of the cluster-wide claim."""
        named = {f"queuelet.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}
        self._api.merge(self.path(), {"metadata": {"annotations": named}})


def values_of(queue_class: str, *namespaces: str) -> Object:
    """Return the values of a release with a class."""
    return {"crds": {"enabled": False}, "operator": {"queueClassName": queue_class, "namespaces": list(namespaces)}}


def operator_of(control_plane: ControlPlane, namespace: str, server: ServerProcess) -> OperatorProcess:
    """Return the operator of the release "shop" in a namespace, with its rights and settings; not started."""
    environment = operator_environment(control_plane, namespace, "shop", server=server.address)
    return OperatorProcess(env=environment | {"QUEUELET_OPERATOR_ADDRESS": server.address})


@contextmanager
def applied_manifests(control_plane: ControlPlane, namespace: str, values: Object) -> Iterator[None]:
    """Install without letting Helm read the cluster, until the end of the block."""
    manifests = helm("template", "shop", str(CHART), f"--namespace={namespace}", values=values)

    def kubectl(*arguments: str) -> None:
        command = [str(binaries.get("kubectl")), *arguments, "--filename=-"]
        environment = os.environ | control_plane.environment
        done = subprocess.run(command, env=environment, input=manifests, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    kubectl("apply")
    try:
        yield
    finally:
        kubectl("delete", "--ignore-not-found", "--wait=false")


def waits_for(process: OperatorProcess, other: str) -> None:
    """Expect an operator that stays idle, and whose log and health say that another installation has the class."""
    assert process.wait_for_log(NOT_ACTING)["other"] == other, "the log is written last"
    ready = fetch(f"{process.metrics_url}/readyz")
    assert (ready.status, f"served by the installation {other};" in ready.text) == (503, True)
    assert fetch(f"{process.metrics_url}/healthz").status == 200, "a restart would not help"
    assert samples(f"{process.metrics_url}/metrics", "queuelet_operator_class_conflict") == {"": 1}
    assert not process.log("waiting for the Lease"), "a free Lease does not make it act"


def wait_for_event(api: Api, namespace: str, other: str) -> None:
    """Wait for the Event about it in the namespace of the idle installation."""

    def is_there() -> bool:
        events = api.get(f"/api/v1/namespaces/{namespace}/events")["items"]
        return any(each["reason"] == "QueueClassTaken" and other in each["message"] for each in events)

    eventually(is_there, f"an Event that names {other}")


def test_helm_refuses_a_second_release_until_the_first_is_uninstalled(
    chart_control_plane: ControlPlane, new_namespace: NewNamespace, queue_class: str, claims: Claims
) -> None:
    first, second = new_namespace(), new_namespace()
    install(chart_control_plane, first, "shop", values_of(queue_class))
    with pytest.raises(HelmError, match=f"is claimed by release {first}/shop; give this release another class"):
        install(chart_control_plane, second, "shop", values_of(queue_class))
    uninstall(chart_control_plane, first, "shop")
    install(chart_control_plane, second, "shop", values_of(queue_class))
    assert claims.maker() == f"{second}/shop"
    uninstall(chart_control_plane, second, "shop")


def test_manifests_that_are_applied_over_a_claim_do_not_take_the_class(
    chart_control_plane: ControlPlane, api: Api, new_namespace: NewNamespace, queue_class: str, claims: Claims
) -> None:
    first, second = new_namespace(), new_namespace()
    kube = KubeQueues(api, new_namespace())
    install(chart_control_plane, first, "shop", values_of(queue_class))
    with (
        ServerProcess() as server,
        ServerProcess() as empty_server,
        operator_of(chart_control_plane, first, server) as acting,
        applied_manifests(chart_control_plane, second, values_of(queue_class)),
    ):
        assert (claims.maker(), claims.holder()) == (f"{second}/shop", f"{first}/shop")
        with operator_of(chart_control_plane, second, empty_server).launch() as waiting:
            waiting.wait_until_started()
            waits_for(waiting, f"{first}/shop")
            wait_for_event(api, second, f"{first}/shop")
            kube.create(queueClassName=queue_class)
            assert kube.wait_ready()["status"]["address"] == server.address
            kube.delete()
            kube.wait_gone()
            assert acting.stop() == 0
            uninstall(chart_control_plane, first, "shop")
            waiting.wait_until_leading()
            eventually(lambda: fetch(f"{waiting.metrics_url}/readyz").status == 200, "it is ready")
            assert samples(f"{waiting.metrics_url}/metrics", "queuelet_operator_class_conflict") == {"": 0}


def test_an_operator_ends_once_another_has_its_class_and_waits_when_it_is_started_again(
    chart_control_plane: ControlPlane, new_namespace: NewNamespace, queue_class: str, claims: Claims
) -> None:
    here, there = new_namespace(), new_namespace()
    install(chart_control_plane, here, "shop", values_of(queue_class))
    with ServerProcess() as server:
        with operator_of(chart_control_plane, here, server) as acting:
            claims.annotate(claimed_by=f"{there}/shop")
            claims.annotate(held_by=f"{there}/shop")
            assert acting.wait() == 1
            assert acting.wait_for_log(ENDING)["other"] == f"{there}/shop"
        with operator_of(chart_control_plane, here, server).launch() as waiting:
            waiting.wait_until_started()
            waits_for(waiting, f"{there}/shop")
            claims.annotate(claimed_by=f"{here}/shop", held_by="")
            waiting.wait_until_leading()
            assert claims.holder() == f"{here}/shop"
    uninstall(chart_control_plane, here, "shop")


def test_the_class_of_an_installation_whose_namespace_is_gone_is_free(
    chart_control_plane: ControlPlane, new_namespace: NewNamespace, queue_class: str, claims: Claims
) -> None:
    here = new_namespace()
    install(chart_control_plane, here, "shop", values_of(queue_class))
    claims.annotate(held_by="never-there/shop")
    with ServerProcess() as server, operator_of(chart_control_plane, here, server):
        assert claims.holder() == f"{here}/shop"
    uninstall(chart_control_plane, here, "shop")


def test_operators_of_the_same_namespace_do_not_share_a_class(
    chart_control_plane: ControlPlane, api: Api, new_namespace: NewNamespace, queue_class: str, claims: Claims
) -> None:
    served, first, second = (new_namespace() for _ in range(3))
    values = values_of(queue_class, served)
    install(chart_control_plane, first, "shop", values)
    with pytest.raises(HelmError, match=f"is claimed by release {first}/shop in namespace {served}; give this"):
        install(chart_control_plane, second, "shop", values)
    with ServerProcess() as server, operator_of(chart_control_plane, first, server):
        assert claims.holder(served) == f"{first}/shop"
        with (
            applied_manifests(chart_control_plane, second, values),
            operator_of(chart_control_plane, second, server).launch() as waiting,
        ):
            waiting.wait_until_started()
            waits_for(waiting, f"{first}/shop")
            wait_for_event(api, second, f"{first}/shop")
    uninstall(chart_control_plane, first, "shop")


def test_a_release_of_the_whole_cluster_does_not_take_the_class_of_one_that_serves_a_namespace(
    chart_control_plane: ControlPlane, api: Api, new_namespace: NewNamespace, queue_class: str, claims: Claims
) -> None:
    served, first, whole = (new_namespace() for _ in range(3))
    install(chart_control_plane, first, "shop", values_of(queue_class, served))
    with pytest.raises(HelmError, match=f"is claimed by release {first}/shop in namespace {served}; give this"):
        install(chart_control_plane, whole, "shop", values_of(queue_class))
    with (
        ServerProcess() as server,
        operator_of(chart_control_plane, first, server) as acting,
        applied_manifests(chart_control_plane, whole, values_of(queue_class)),
        operator_of(chart_control_plane, whole, server).launch() as waiting,
    ):
        waiting.wait_until_started()
        waits_for(waiting, f"{first}/shop in namespace {served}")
        wait_for_event(api, whole, f"{first}/shop")
        assert acting.stop() == 0
        with operator_of(chart_control_plane, first, server) as restarted:
            assert claims.holder(served) == f"{first}/shop", "a restart does not give up the class"
            assert restarted.stop() == 0
        uninstall(chart_control_plane, first, "shop")
        waiting.wait_until_leading()
        assert claims.holder() == f"{whole}/shop"
        assert samples(f"{waiting.metrics_url}/metrics", "queuelet_operator_class_conflict") == {"": 0}


def test_an_operator_of_a_namespace_yields_to_a_release_that_serves_the_whole_cluster(
    chart_control_plane: ControlPlane, new_namespace: NewNamespace, queue_class: str, claims: Claims
) -> None:
    served, first, whole = (new_namespace() for _ in range(3))
    install(chart_control_plane, whole, "shop", values_of(queue_class))
    with ServerProcess() as server, operator_of(chart_control_plane, whole, server):
        install(chart_control_plane, first, "shop", values_of(queue_class, served))
        with operator_of(chart_control_plane, first, server).launch() as waiting:
            waiting.wait_until_started()
            waits_for(waiting, f"{whole}/shop")
            assert not claims.holder(served)
        upgrade(chart_control_plane, whole, "shop", values_of(queue_class))
    uninstall(chart_control_plane, whole, "shop")
    uninstall(chart_control_plane, first, "shop")


def test_without_the_right_to_patch_the_claim_an_operator_acts_and_says_so(
    chart_control_plane: ControlPlane, api: Api, new_namespace: NewNamespace, queue_class: str, claims: Claims
) -> None:
    here = new_namespace()
    install(chart_control_plane, here, "shop", values_of(queue_class))
    role = f"{ROLES}/clusterroles/{here}:shop-queuelet-operator"
    rules = [rule for rule in api.get(role)["rules"] if rule["resources"] != ["clusterroles"]]
    api.merge(role, {"rules": rules})
    with ServerProcess() as server, operator_of(chart_control_plane, here, server) as acting:
        line = acting.wait_for_log("cannot hold the queue class")
        assert 'cannot patch resource "clusterroles"' in line["error"]
        assert claims.holder() is None
    uninstall(chart_control_plane, here, "shop")


def test_without_the_right_to_list_the_claims_of_namespaces_an_operator_acts_and_says_so(
    chart_control_plane: ControlPlane, api: Api, new_namespace: NewNamespace, queue_class: str, claims: Claims
) -> None:
    here = new_namespace()
    install(chart_control_plane, here, "shop", values_of(queue_class))
    role = f"{ROLES}/clusterroles/{here}:shop-queuelet-operator"
    rules = [rule for rule in api.get(role)["rules"] if rule["resources"] != ["roles"]]
    api.merge(role, {"rules": rules})
    with ServerProcess() as server, operator_of(chart_control_plane, here, server) as acting:
        line = acting.wait_for_log("cannot check whether releases for single namespaces have the queue class")
        assert 'cannot list resource "roles"' in line["error"]
        assert claims.holder() == f"{here}/shop"
    uninstall(chart_control_plane, here, "shop")
