"""Installing, upgrading and uninstalling the chart by the real helm, on a real API server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.helm import INSTANCE, HelmError, Object, install, uninstall, upgrade
from support.kube_queues import KubeQueues
from support.rpc import eventually
from tools.control_plane import Api, ApiError, ControlPlane
from tools.control_plane.api import DEFINITIONS

NewNamespace = Callable[..., str]

MANIFEST = Path(__file__).parents[2] / "crds" / "queues.yaml"
DEFINITION = f"{DEFINITIONS}/queues.queuelet.dev"

WITHOUT_CRDS: Object = {"crds": {"enabled": False}}
"""For a cluster that has the definition from elsewhere."""

KINDS = (
    "/apis/apps/v1/{}/deployments",
    "/apis/apps/v1/{}/statefulsets",
    "/api/v1/{}/services",
    "/api/v1/{}/serviceaccounts",
    "/apis/policy/v1/{}/poddisruptionbudgets",
    "/apis/networking.k8s.io/v1/{}/networkpolicies",
    "/apis/rbac.authorization.k8s.io/v1/{}/roles",
    "/apis/rbac.authorization.k8s.io/v1/{}/rolebindings",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
)


def installed(api: Api, namespace: str, release: str = "shop") -> set[str]:
    """Return the names of all objects of a release, each behind the name of its kind."""
    found = set()
    for path in KINDS:
        listed = api.get(path.format(f"namespaces/{namespace}"), labelSelector=f"{INSTANCE}={release}")["items"]
        kind = path.rpartition("/")[2]
        found |= {
            f"{kind}/{each['metadata']['name']}"
            for each in listed
            if each["metadata"].get("namespace", namespace) == namespace and _is_of(each, namespace)
        }
    return found


def _is_of(body: Object, namespace: str) -> bool:
    return str(body["metadata"]["annotations"]["meta.helm.sh/release-namespace"]) == namespace


@pytest.fixture
def without_definition(control_plane: ControlPlane) -> Iterator[None]:
    """A cluster that does not know Queues; afterwards it does."""
    remove_definition(control_plane.api)
    yield
    remove_definition(control_plane.api)
    control_plane.api.define(MANIFEST)


def remove_definition(api: Api) -> None:
    """Remove the definition of Queue, and with it all Queues that other tests have left."""
    everywhere = "/apis/queuelet.dev/v1alpha1/queues"
    eventually(lambda: is_there(api, everywhere), "Queues are served", 30.0)
    for each in api.get(everywhere)["items"]:
        path = (
            f"/apis/queuelet.dev/v1alpha1/namespaces/{each['metadata']['namespace']}/queues/{each['metadata']['name']}"
        )
        # It may go by itself meanwhile, with the namespace of another test.
        with suppress(ApiError):
            api.merge(path, {"metadata": {"finalizers": None}})
    api.delete(DEFINITION)
    eventually(lambda: not is_there(api, DEFINITION), "the definition is gone", 30.0)


def is_there(api: Api, path: str) -> bool:
    """Tell whether there is an object or a list at a path."""
    try:
        api.get(path)
    except ApiError as error:
        # The second is the answer for a list that begins to be served.
        if error.code not in {404, 429}:
            raise
        return False
    return True


def test_a_release_comes_changes_and_goes_and_leaves_the_queues(
    control_plane: ControlPlane, api: Api, namespace: str, without_definition: None
) -> None:
    said = install(control_plane, namespace, "shop", {})
    assert f"shop-queuelet-server.{namespace}.svc:10002" in said
    first = installed(api, namespace)
    assert first == {
        "deployments/shop-queuelet-operator",
        "statefulsets/shop-queuelet-server",
        "services/shop-queuelet-server",
        "services/shop-queuelet-server-headless",
        "services/shop-queuelet-operator",
        "serviceaccounts/shop-queuelet-server",
        "serviceaccounts/shop-queuelet-operator",
        "poddisruptionbudgets/shop-queuelet-operator",
        "roles/shop-queuelet-operator",
        "rolebindings/shop-queuelet-operator",
        f"clusterroles/{namespace}:shop-queuelet-operator",
        f"clusterroles/{namespace}:shop-queuelet-view",
        f"clusterroles/{namespace}:shop-queuelet-edit",
        f"clusterrolebindings/{namespace}:shop-queuelet-operator",
    }
    queues = KubeQueues(api, namespace)
    eventually(lambda: is_there(api, queues.path), "Queues are served", 30.0)
    queues.create()

    upgrade(control_plane, namespace, "shop", {"operator": {"replicas": 3}, "networkPolicy": {"enabled": True}})
    policies = {"networkpolicies/shop-queuelet-server", "networkpolicies/shop-queuelet-operator"}
    assert installed(api, namespace) == first | policies
    deployment = api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/shop-queuelet-operator")
    assert deployment["spec"]["replicas"] == 3

    uninstall(control_plane, namespace, "shop")
    eventually(lambda: not installed(api, namespace), "the release is gone", 30.0)
    assert is_there(api, DEFINITION)
    assert queues.is_there()

    # It comes back and finds what it has left.
    install(control_plane, namespace, "shop", {})
    assert installed(api, namespace) == first
    uninstall(control_plane, namespace, "shop")


def test_a_volume_comes_and_goes_with_the_stateful_set(control_plane: ControlPlane, api: Api, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets/shop-queuelet-server"
    with_volume = {**WITHOUT_CRDS, "server": {"persistence": {"enabled": True}}}
    assert "Queues with spec.store Disk are refused" in install(control_plane, namespace, "shop", WITHOUT_CRDS)
    for values, said in (
        (with_volume, "Queues with spec.store Disk keep their messages"),
        (WITHOUT_CRDS, "Queues with spec.store Disk are refused"),
    ):
        with pytest.raises(HelmError) as refused:
            upgrade(control_plane, namespace, "shop", values)
        sentence = "server.persistence.enabled cannot change while the StatefulSet is there"
        assert sentence in str(refused.value)
        assert f"kubectl --namespace {namespace} delete statefulset shop-queuelet-server" in str(refused.value)
        api.delete(path)
        eventually(lambda: not is_there(api, path), "the StatefulSet is gone", 30.0)
        assert said in upgrade(control_plane, namespace, "shop", values)
        assert bool(api.get(path)["spec"].get("volumeClaimTemplates")) is (values is with_volume)
        assert said in upgrade(control_plane, namespace, "shop", values), "the same again is no change"
    uninstall(control_plane, namespace, "shop")


def test_a_second_release_leaves_the_definition_to_the_first(
    control_plane: ControlPlane, api: Api, new_namespace: NewNamespace, without_definition: None
) -> None:
    one, two = new_namespace(), new_namespace()
    install(control_plane, one, "shop", {})
    with pytest.raises(HelmError, match=r"queues\.queuelet\.dev.*invalid ownership metadata"):
        install(control_plane, two, "shop", {})
    assert not installed(api, two)
    said = install(control_plane, two, "shop", {**WITHOUT_CRDS, "operator": {"queueClassName": "second"}})
    assert "queueClassName: second" in said
    assert len(installed(api, two)) == len(installed(api, one))
    uninstall(control_plane, two, "shop")
    assert is_there(api, DEFINITION)
    assert installed(api, one)
    uninstall(control_plane, one, "shop")


def test_a_definition_from_elsewhere_is_left_alone(control_plane: ControlPlane, api: Api, namespace: str) -> None:
    before = api.get(DEFINITION)["metadata"]["resourceVersion"]
    assert "crds.enabled is false" in install(control_plane, namespace, "shop", WITHOUT_CRDS)
    uninstall(control_plane, namespace, "shop")
    assert api.get(DEFINITION)["metadata"]["resourceVersion"] == before


def test_namespaces_other_than_those_named_get_no_role(
    control_plane: ControlPlane, api: Api, new_namespace: NewNamespace
) -> None:
    here, one, two = new_namespace(), new_namespace(), new_namespace()
    values = {**WITHOUT_CRDS, "operator": {"namespaces": [one, two]}, "rbac": {"aggregatedRoles": False}}
    install(control_plane, here, "shop", values)
    assert not {each for each in installed(api, here) if each.startswith("cluster")}
    roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles"
    assert [[each["metadata"]["name"] for each in api.get(roles.format(name))["items"]] for name in (one, two)] == [
        [f"{here}:shop-queuelet-operator"],
        [f"{here}:shop-queuelet-operator"],
    ]
    upgrade(control_plane, here, "shop", {**values, "operator": {"namespaces": [one]}})
    eventually(lambda: api.get(roles.format(two))["items"] == [], "the second namespace's role is gone", 30.0)
    uninstall(control_plane, here, "shop")
    assert api.get(roles.format(one))["items"] == []


# Whom the aggregated roles let do what

MAY: dict[str, set[str]] = {
    "view": {"get", "list", "watch"},
    "edit": {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"},
    "admin": {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"},
}


@pytest.fixture
def release(control_plane: ControlPlane, namespace: str) -> Iterator[str]:
    """A release in the test's namespace."""
    install(control_plane, namespace, "shop", WITHOUT_CRDS)
    yield "shop"
    uninstall(control_plane, namespace, "shop")


def test_whoever_may_view_edit_or_administer_a_namespace_may_do_so_with_its_queues(
    api: Api, namespace: str, release: str
) -> None:
    for role in MAY:
        body = {
            "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": f"{namespace}-{role}"}],
        }
        api.create(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings", body)
    # The controller that puts roles together takes a moment.
    for role, verbs in MAY.items():
        eventually(
            lambda role=role, verbs=verbs: may(api, namespace, role) == verbs,  # type: ignore[misc]  # bound now
            f"{role} may {', '.join(sorted(verbs))}",
            30.0,
        )
        assert may(api, namespace, role, "status") == {"get"}


def may(api: Api, namespace: str, role: str, subresource: str = "") -> set[str]:
    """Return what the user with a role may do with Queues."""
    allowed = set()
    for verb in MAY["admin"]:
        asked = {
            "group": "queuelet.dev",
            "resource": "queues",
            "subresource": subresource,
            "namespace": namespace,
            "verb": verb,
        }
        body = {"spec": {"user": f"{namespace}-{role}", "resourceAttributes": asked}}
        answer = api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
        if answer["status"]["allowed"]:
            allowed.add(verb)
    return allowed


def test_the_server_may_do_nothing(control_plane: ControlPlane, namespace: str, release: str) -> None:
    token = control_plane.service_account_token(namespace, "shop-queuelet-server")
    server = control_plane.api_as(token)
    body = {"spec": {"namespace": namespace}}
    answer = server.create("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", body)
    granted = {resource for rule in answer["status"]["resourceRules"] for resource in rule["resources"]}
    # What every user of a cluster may ask about itself.
    assert granted == {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"}
    server.close()
