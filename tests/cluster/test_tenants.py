"""The limits of examples/tenants: the number of Queues in a namespace, and of messages in each of them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress

import pytest
import yaml

from support.documents import ROOT
from support.kube_queues import KubeQueues
from support.operator_process import OperatorProcess
from support.queue_objects import queue_object, tag
from support.rpc import eventually
from support.server_process import ServerProcess
from tools.control_plane import Api, ApiError, ControlPlane
from tools.control_plane.api import DEFINITIONS
from tools.control_plane.plane import CONTROLLERS

TENANTS = ROOT / "examples" / "tenants"
MANIFEST = ROOT / "crds" / "queues.yaml"
DEFINITION = f"{DEFINITIONS}/queues.queuelet.dev"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"


@pytest.fixture(scope="module")
def tenants(built: None) -> Iterator[ControlPlane]:
    """A control plane with the controllers of quotas. Its tests install and remove the CRD."""
    with ControlPlane(controllers=(*CONTROLLERS, "resourcequota-controller")) as started:
        yield started
        started.check()


@pytest.fixture
def control_plane(tenants: ControlPlane) -> ControlPlane:
    """That control plane, for one test."""
    return tenants


@pytest.fixture
def namespace(api: Api) -> str:
    """A new namespace, which is deleted with the control plane."""
    name = f"test-{secrets.token_hex(4)}"
    api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    return name


@pytest.fixture
def kube(api: Api, namespace: str) -> KubeQueues:
    """The Queues of a new namespace."""
    return KubeQueues(api, namespace)


def manifests(name: str) -> list[dict[str, object]]:
    """Return the objects of an example."""
    return list(yaml.safe_load_all((TENANTS / name).read_text()))


def refusal(kube: KubeQueues, name: str = "orders", **spec: object) -> str:
    """Create a Queue as a dry run; return why it is refused, empty if it is not."""
    try:
        kube.api.create(kube.path, queue_object(name, **spec), dryRun="All")
    except ApiError as error:
        return str(error)
    return ""


# How many


def test_a_quota_bounds_the_queues_of_a_namespace_but_refuses_all_if_it_is_older_than_the_definition(
    control_plane: ControlPlane, api: Api, kube: KubeQueues
) -> None:
    if api.is_there(DEFINITION):
        api.delete(DEFINITION)
        eventually(lambda: not api.is_there(DEFINITION), "the definition is gone", 30.0)
    (quota,) = manifests("quota.yaml")
    hard = {"count/queues.queuelet.dev": "2"}
    quotas = f"/api/v1/namespaces/{kube.namespace}/resourcequotas"
    assert isinstance(quota["metadata"], dict)
    quota["metadata"]["namespace"] = kube.namespace
    assert isinstance(quota["spec"], dict)
    assert set(quota["spec"]["hard"]) == set(hard)
    api.create(quotas, {**quota, "spec": {"hard": hard}})
    eventually(lambda: api.get(f"{quotas}/queues")["status"].get("hard") == hard, "the quota is looked at", 30.0)

    api.define(MANIFEST)
    with pytest.raises(ApiError, match=r"status unknown for quota: queues"):
        kube.create("first")
    # The full sync runs every 5 minutes, and when the controller starts.
    control_plane.controllers.kill()
    control_plane.controllers.start()
    eventually(lambda: not refusal(kube), "the quota counts Queues", 60.0)
    kube.create("first")
    kube.create("second")
    with pytest.raises(ApiError, match=r"exceeded quota: queues, .*used: count/queues\.queuelet\.dev=2"):
        kube.create("third")
    kube.delete("first")
    eventually(lambda: not refusal(kube), "there is room again", 30.0)


# How large


@pytest.fixture
def defined(api: Api) -> None:
    """Install the CRD in the cluster."""
    api.define(MANIFEST)


@pytest.fixture
def policy(api: Api, defined: None) -> Iterator[Api]:
    """Remove the policy after a test that applied it."""
    yield api
    for kind in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
        with suppress(ApiError):
            api.delete(f"{ADMISSION}/{kind}/limits.queuelet.dev")


def apply_policy(api: Api, kube: KubeQueues) -> None:
    """Apply the policy, and wait until it is enforced."""
    for body in manifests("limits.yaml"):
        plural = {
            "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
            "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
        }[str(body["kind"])]
        api.apply(f"{ADMISSION}/{plural}/limits.queuelet.dev", body, "tests")
    eventually(lambda: "is not allowed" in refusal(kube, "probe", limit=-1), "the policy is enforced", 30.0)


def test_a_policy_bounds_the_limit_of_queues_by_their_namespace(policy: Api, kube: KubeQueues) -> None:
    apply_policy(policy, kube)
    says = "spec.limit: -1 is not allowed in this namespace; set it to 1 to 10000, or ask who administers the cluster"
    assert says in refusal(kube), "a Queue without a limit is unlimited"
    assert not refusal(kube, limit=1)
    assert not refusal(kube, limit=10_000)
    assert "spec.limit: 10001 is not allowed" in refusal(kube, limit=10_001)

    kube.create(limit=10_000)
    with pytest.raises(ApiError, match=r"spec\.limit: 10001 is not allowed"):
        kube.change(limit=10_001)
    namespace = f"/api/v1/namespaces/{kube.namespace}"
    policy.merge(namespace, {"metadata": {"annotations": {"queuelet.dev/max-limit": "50"}}})
    eventually(lambda: "set it to 1 to 50," in refusal(kube, limit=51), "the annotation counts", 30.0)
    assert not refusal(kube, "other", limit=50)
    # A Queue that exceeds the new limit can be changed in other fields, and its limit can be lowered.
    kube.change(tags=[tag("team", "checkout")])
    kube.change(limit=50)
    # A value that is not a number admits no Queue.
    policy.merge(namespace, {"metadata": {"annotations": {"queuelet.dev/max-limit": "many"}}})
    eventually(lambda: "denied request" in refusal(kube, "other", limit=1), "nothing is let in", 30.0)


def test_a_queue_that_is_older_than_the_policy_is_served_and_can_be_deleted(
    control_plane: ControlPlane, policy: Api, kube: KubeQueues
) -> None:
    """The operator removes the finalizer, which is an update that the policy checks."""
    with (
        ServerProcess() as server,
        OperatorProcess("--server", server.address, "--namespace", kube.namespace, env=control_plane.environment),
    ):
        kube.create(limit=-1)
        kube.wait_ready()
        apply_policy(policy, kube)
        kube.change(tags=[tag("team", "checkout")])
        kube.wait_ready()
        kube.delete()
        kube.wait_gone()
