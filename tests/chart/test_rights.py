"""The operator works with the rights that the chart grants, needs each of them, and requests no others.

Each test removes one right, checks that something fails and that the operator reports it, and restores the right.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.request import urlopen

import pytest

from support.helm import Right, install, operator_environment, rights_of, rules_without, template, uninstall
from support.kube_queues import KubeQueues
from support.logged_process import LogLine
from support.operator_process import OperatorProcess
from support.rpc import Rpc, eventually
from support.server_process import ServerProcess
from tools.control_plane import Api, ApiError, ControlPlane

NewNamespace = Callable[..., str]

ROLES = "/apis/rbac.authorization.k8s.io/v1"

RELEASE = "shop"

CANNOT_GO_ON = "Queue not reconciled; will retry"

IN_THE_CLUSTER: set[Right] = {
    ("get", "queues"),
    ("list", "queues"),
    ("watch", "queues"),
    ("patch", "queues"),
    ("patch", "queues/status"),
    ("create", "events"),
    ("get", "namespaces"),
    ("get", "clusterroles"),
    ("patch", "clusterroles"),
    ("list", "roles"),
}
IN_ITS_NAMESPACE: set[Right] = {
    ("create", "leases"),
    ("get", "leases"),
    ("update", "leases"),
    ("get", "services"),
}
"""All rights that the chart grants. Each has a test below, or in test_class_claim.py."""


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A release with a class of its own, and a server for it. Tests run processes instead of its Pods."""

    control_plane: ControlPlane
    namespace: str
    queue_class: str
    server: ServerProcess

    def operator(self, *flags: str) -> OperatorProcess:
        """Return an operator with the chart's settings and rights; not started."""
        server = self.server.address
        environment = operator_environment(self.control_plane, self.namespace, RELEASE, server=server)
        return OperatorProcess("--debug", *flags, env=environment)

    @property
    def role(self) -> str:
        """The path of the role in its namespace."""
        return f"{ROLES}/namespaces/{self.namespace}/roles/{RELEASE}-queuelet-operator"

    @property
    def cluster_role(self) -> str:
        """The path of the cluster role."""
        return f"{ROLES}/clusterroles/{self.namespace}:{RELEASE}-queuelet-operator"

    @contextmanager
    def without(self, *right: str) -> Iterator[str]:
        """Remove a right until the end of the block, and yield the API server's refusal."""
        verb, resource = right
        api = self.control_plane.api
        path = self.cluster_role if (verb, resource) in IN_THE_CLUSTER else self.role
        role = api.get(path)
        before = role["rules"]
        api.merge(path, {"rules": rules_without(role, (verb, resource))})
        try:
            yield f'cannot {verb} resource "{resource}" in API group'
        finally:
            api.merge(path, {"rules": before})

    def forget_the_lease(self) -> None:
        """Delete the Lease of an earlier operator."""
        with suppress(ApiError):
            self.control_plane.api.delete(
                f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases/{RELEASE}-queuelet-operator"
            )


@contextmanager
def installed(control_plane: ControlPlane, namespace: str, **operator: object) -> Iterator[Installed]:
    """Install a release with these values of the operator."""
    queue_class = f"class-{secrets.token_hex(3)}"
    values = {"crds": {"enabled": False}, "operator": {"queueClassName": queue_class, **operator}}
    install(control_plane, namespace, RELEASE, values)
    with ServerProcess() as server:
        yield Installed(control_plane=control_plane, namespace=namespace, queue_class=queue_class, server=server)
    uninstall(control_plane, namespace, RELEASE)


@pytest.fixture(scope="module")
def shop(chart_control_plane: ControlPlane, new_namespace: NewNamespace) -> Iterator[Installed]:
    """A release whose operator the tests share."""
    with installed(chart_control_plane, new_namespace()) as found:
        yield found


@pytest.fixture(scope="module")
def operator(shop: Installed) -> Iterator[OperatorProcess]:
    """The shared operator: no test may stop it."""
    with shop.operator() as process:
        yield process
        assert process.stop() == 0


@pytest.fixture(scope="module")
def idle(chart_control_plane: ControlPlane, new_namespace: NewNamespace) -> Iterator[Installed]:
    """A release without a running operator, for tests of the start."""
    with installed(chart_control_plane, new_namespace()) as found:
        yield found


@pytest.fixture
def rpc(shop: Installed) -> Iterator[Rpc]:
    """A client of the shared operator's server."""
    client = Rpc(shop.server.address)
    yield client
    client.close()


@pytest.fixture
def kube(api: Api, new_namespace: NewNamespace) -> Iterator[KubeQueues]:
    """The Queues of a new namespace. Afterwards none has a finalizer, which could outlive its operator."""
    queues = KubeQueues(api, new_namespace())
    yield queues
    for each in queues.all():
        with suppress(ApiError):
            api.merge(f"{queues.path}/{each['metadata']['name']}", {"metadata": {"finalizers": None}})


def refusals(process: OperatorProcess) -> int:
    """Return how many requests the API server has refused."""
    with urlopen(f"{process.metrics_url}/metrics") as response:  # noqa: S310  # a URL of our own
        text = response.read().decode()
    lines = [line for line in text.splitlines() if line.startswith("queuelet_operator_api_requests_total")]
    return sum(int(float(line.rpartition(" ")[2])) for line in lines if 'code="403"' in line)


def about(kube: KubeQueues, sentence: str) -> Callable[[LogLine], bool]:
    """Return a condition: the log has a line about the test's Queue that contains a sentence."""
    return lambda line: line["queue"] == f"{kube.namespace}/orders" and sentence in line["error"]


# All rights


def test_the_chart_grants_what_is_looked_at_here_and_nothing_else() -> None:
    roles = [each for each in template("prod", RELEASE, {}) if each["kind"] in {"Role", "ClusterRole"}]
    granted = {
        each["metadata"]["name"]: set(rights_of(each))
        for each in roles
        if each["metadata"]["labels"]["app.kubernetes.io/component"] == "operator"
    }
    assert granted.pop("queuelet.dev:class:default") == {("get", "clusterroles")}, "a claim grants to see itself"
    assert granted == {
        f"prod:{RELEASE}-queuelet-operator": IN_THE_CLUSTER,
        f"{RELEASE}-queuelet-operator": IN_ITS_NAMESPACE,
    }
    for rule in (rule for each in roles for rule in each["rules"]):
        assert "*" not in {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
        assert "secrets" not in rule["resources"]
    (role,) = [each for each in roles if each["kind"] == "Role"]
    for rule in role["rules"]:
        assert rule["verbs"] == ["create"] or rule["resourceNames"], "a right in its namespace is for its own objects"


def test_with_its_rights_the_operator_lacks_nothing(idle: Installed, kube: KubeQueues) -> None:
    """A queue is created, changed, repaired, drained and deleted, and no request is refused from the start on."""
    idle.forget_the_lease()
    rpc = Rpc(idle.server.address)
    with idle.operator() as process:
        kube.create(queueClassName=idle.queue_class, deletionPolicy="Drain")
        kube.wait_ready()
        assert (
            rpc.get_queue(kube.server_name("orders")).owner.name
            == f"{idle.namespace}/{RELEASE}/{kube.namespace}/orders"
        )
        kube.change(limit=5)
        kube.wait_ready()
        rpc.delete_queue(kube.server_name("orders"))
        kube.wait_event("QueueRestored")
        rpc.add(kube.server_name("orders"), b"the last")
        kube.delete()
        kube.wait_reason("WaitingForDrain")
        rpc.pop(kube.server_name("orders"))
        kube.wait_gone()
        assert refusals(process) == 0
        assert process.stop() == 0
        assert "forbidden" not in process.output()
    rpc.close()


def test_rights_in_some_namespaces_are_enough_for_those(
    control_plane: ControlPlane, api: Api, new_namespace: NewNamespace
) -> None:
    here = new_namespace()
    served = [KubeQueues(api, new_namespace()) for _ in range(2)]
    with installed(control_plane, here, namespaces=[each.namespace for each in served]) as release:
        rpc = Rpc(release.server.address)
        elsewhere = KubeQueues(api, here)
        elsewhere.create(queueClassName=release.queue_class)
        with release.operator() as process:
            for kube in served:
                kube.create(queueClassName=release.queue_class, deletionPolicy="Drain")
            for kube in served:
                kube.wait_ready()
                rpc.delete_queue(kube.server_name("orders"))
                kube.wait_event("QueueRestored")
                rpc.add(kube.server_name("orders"), b"the last")
                kube.delete()
                kube.wait_reason("WaitingForDrain")
                rpc.pop(kube.server_name("orders"))
                kube.wait_gone()
            assert elsewhere.status() == {"observedGeneration": -1}
            assert refusals(process) == 0
            assert process.stop() == 0
            assert "forbidden" not in process.output()
        rpc.close()


def test_two_releases_side_by_side_serve_a_class_each(
    shop: Installed, operator: OperatorProcess, idle: Installed, kube: KubeQueues
) -> None:
    idle.forget_the_lease()
    with idle.operator():
        kube.create("ours", queueClassName=shop.queue_class)
        kube.create("theirs", queueClassName=idle.queue_class)
        for name, release in (("ours", shop), ("theirs", idle)):
            status = kube.wait_ready(name)["status"]
            assert status["address"] == f"{RELEASE}-queuelet-server.{release.namespace}.svc:10002"
            rpc = Rpc(release.server.address)
            owner = rpc.get_queue(kube.server_name(name)).owner.name
            assert owner == f"{release.namespace}/{RELEASE}/{kube.namespace}/{name}"
            rpc.close()
        kube.delete("theirs")
        kube.wait_gone("theirs")


# Cluster-wide rights, removed one by one


def test_without_patch_a_queue_gets_no_finalizer(shop: Installed, operator: OperatorProcess, kube: KubeQueues) -> None:
    with shop.without("patch", "queues") as sentence:
        kube.create(queueClassName=shop.queue_class)
        operator.wait_for_log(CANNOT_GO_ON, about(kube, sentence))
        assert "finalizers" not in kube.get()["metadata"]
    kube.wait_ready()


def test_without_patch_of_the_status_a_queue_is_never_ready(
    shop: Installed, operator: OperatorProcess, kube: KubeQueues
) -> None:
    with shop.without("patch", "queues/status") as sentence:
        kube.create(queueClassName=shop.queue_class)
        operator.wait_for_log(CANNOT_GO_ON, about(kube, sentence))
        assert kube.status() == {"observedGeneration": -1}
    kube.wait_ready()


def test_without_get_the_operator_is_stuck_with_a_queue_that_changed_under_its_hands(
    shop: Installed, operator: OperatorProcess, kube: KubeQueues
) -> None:
    """It reads a Queue only if its write was based on an older version, so Queues change during the writes."""

    def was_refused(sentence: str) -> bool:
        name = f"orders-{secrets.token_hex(4)}"
        kube.create(name, queueClassName=shop.queue_class)
        for number in range(5):
            kube.annotate(name, note=str(number))
        return any(sentence in line["error"] for line in operator.log(CANNOT_GO_ON))

    with shop.without("get", "queues") as sentence:
        eventually(lambda: was_refused(sentence), "a write has a conflict", 30.0)
    kube.wait_all_ready(len(kube.all()))


def test_without_create_no_event_is_posted(
    shop: Installed, operator: OperatorProcess, kube: KubeQueues, rpc: Rpc
) -> None:
    kube.create(queueClassName=shop.queue_class)
    kube.wait_ready()
    with shop.without("create", "events") as sentence:
        rpc.delete_queue(kube.server_name("orders"))
        operator.wait_for_log("Event not posted", about(kube, sentence))
        assert kube.events() == []
    rpc.delete_queue(kube.server_name("orders"))
    kube.wait_event("QueueRestored")


@pytest.mark.parametrize("resource", ["namespaces", "services"])
def test_without_get_of_what_is_around_it_a_drain_does_not_go_on(
    shop: Installed, operator: OperatorProcess, kube: KubeQueues, rpc: Rpc, resource: str
) -> None:
    """It waits for the last message unless the namespace or the server is deleted, so it has to read both."""
    kube.create(queueClassName=shop.queue_class, deletionPolicy="Drain")
    kube.wait_ready()
    rpc.add(kube.server_name("orders"), b"the last")
    with shop.without("get", resource) as sentence:
        kube.delete()
        operator.wait_for_log(CANNOT_GO_ON, about(kube, sentence))
        assert kube.is_there()
    kube.wait_reason("WaitingForDrain")
    rpc.pop(kube.server_name("orders"))
    kube.wait_gone()


# Rights that an operator needs at its start


@pytest.mark.parametrize("verb", ["list", "watch"])
def test_without_list_and_watch_an_operator_sees_no_queue(idle: Installed, kube: KubeQueues, verb: str) -> None:
    idle.forget_the_lease()
    with idle.without(verb, "queues") as sentence:
        process = idle.operator().start()
        eventually(lambda: any(sentence in line["msg"] for line in process.log()), "it was refused", 30.0)
        kube.create(queueClassName=idle.queue_class)
        # It retries after a second. By then the Queue is old enough that an operator with the right would have seen it.
        eventually(lambda: sum(sentence in line["msg"] for line in process.log()) > 1, "it was refused again", 30.0)
        assert kube.status() == {"observedGeneration": -1}
    with process:
        kube.wait_ready()


def test_without_create_there_is_no_lease_to_hold(idle: Installed) -> None:
    idle.forget_the_lease()
    process = idle.operator().launch()
    with idle.without("create", "leases") as sentence, process:
        process.wait_for_log("the Lease was not created", lambda line: sentence.replace('"', r"\"") in line["error"])
        assert not process.log("leading")


def test_without_get_no_operator_knows_that_the_lease_is_free(idle: Installed) -> None:
    idle.forget_the_lease()
    with idle.operator().launch() as process:
        with idle.without("get", "leases"):
            process.wait_for_log("waiting for the Lease")
            eventually(lambda: "Error retrieving resource lock" in process.output(), "it was refused", 30.0)
            assert not process.log("leading")
        process.wait_until_leading()


def test_without_update_an_operator_loses_its_lease(idle: Installed) -> None:
    idle.forget_the_lease()
    with idle.without("update", "leases"), idle.operator() as process:
        assert process.wait(30.0) == 1
        assert process.log("the Lease was lost")
