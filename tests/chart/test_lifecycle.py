"""Installing, upgrading and uninstalling the chart by the real helm, on a real API server."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from support.helm import CHART, INSTANCE, HelmError, Object, helm, install, rollback, template, uninstall, upgrade
from support.kube_queues import KubeQueues
from support.rpc import eventually, unique_name
from tools.control_plane import Api, ApiError, ControlPlane, binaries
from tools.control_plane.api import DEFINITIONS

NewNamespace = Callable[..., str]

MANIFEST = Path(__file__).parents[2] / "crds" / "queues.yaml"
DEFINITION = f"{DEFINITIONS}/queues.queuelet.dev"

WITHOUT_CRDS: Object = {"crds": {"enabled": False}}
"""Values for a cluster whose definition of Queue was installed separately."""

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
    """Return the names of all objects of a release, each as kind/name."""
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
    """A cluster without the kind Queue; afterwards it has the kind."""
    remove_definition(control_plane.api)
    yield
    remove_definition(control_plane.api)
    control_plane.api.define(MANIFEST)


def remove_definition(api: Api) -> None:
    """Remove the definition of Queue, and with it all Queues that other tests have left."""
    everywhere = "/apis/queuelet.dev/v1alpha1/queues"
    eventually(lambda: api.is_served(everywhere), "Queues are served", 30.0)
    for each in api.get(everywhere)["items"]:
        path = (
            f"/apis/queuelet.dev/v1alpha1/namespaces/{each['metadata']['namespace']}/queues/{each['metadata']['name']}"
        )
        # It may disappear meanwhile with the namespace of another test.
        with suppress(ApiError):
            api.merge(path, {"metadata": {"finalizers": None}})
    api.delete(DEFINITION)
    eventually(lambda: not api.is_there(DEFINITION), "the definition is gone", 30.0)


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
        "clusterroles/queuelet.dev:class:default",
        f"clusterroles/{namespace}:shop-queuelet-operator",
        f"clusterroles/{namespace}:shop-queuelet-view",
        f"clusterroles/{namespace}:shop-queuelet-edit",
        "clusterrolebindings/queuelet.dev:class:default",
        f"clusterrolebindings/{namespace}:shop-queuelet-operator",
    }
    queues = KubeQueues(api, namespace)
    eventually(lambda: api.is_served(queues.path), "Queues are served", 30.0)
    queues.create()

    upgrade(control_plane, namespace, "shop", {"operator": {"replicas": 3}, "networkPolicy": {"enabled": True}})
    policies = {"networkpolicies/shop-queuelet-server", "networkpolicies/shop-queuelet-operator"}
    assert installed(api, namespace) == first | policies
    deployment = api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/shop-queuelet-operator")
    assert deployment["spec"]["replicas"] == 3

    uninstall(control_plane, namespace, "shop")
    eventually(lambda: not installed(api, namespace), "the release is gone", 30.0)
    assert api.is_there(DEFINITION)
    assert queues.is_there()

    # The reinstalled release finds the objects that were kept.
    install(control_plane, namespace, "shop", {})
    assert installed(api, namespace) == first
    uninstall(control_plane, namespace, "shop")


# The volume


def with_volume(**persistence: object) -> Object:
    """Return values with a volume for the server."""
    return {**WITHOUT_CRDS, "server": {"persistence": {"enabled": True, **persistence}}}


def claim_in(namespace: str) -> str:
    """Return the path of the claim of a release's server."""
    return f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/data-shop-queuelet-server-0"


def stateful_set_in(namespace: str) -> str:
    """Return the path of the StatefulSet of a release's server."""
    return f"/apis/apps/v1/namespaces/{namespace}/statefulsets/shop-queuelet-server"


def mounted(api: Api, namespace: str) -> list[str]:
    """Return the names of the claims that the Pod of the server mounts."""
    volumes = api.get(stateful_set_in(namespace))["spec"]["template"]["spec"].get("volumes", [])
    return [each["persistentVolumeClaim"]["claimName"] for each in volumes if "persistentVolumeClaim" in each]


@pytest.fixture
def storage_class(api: Api) -> Iterator[str]:
    """A StorageClass whose volumes can grow, and which is not the default."""
    name = unique_name("can-grow")
    classes = "/apis/storage.k8s.io/v1/storageclasses"
    body = {"metadata": {"name": name}, "provisioner": "example.com/none", "allowVolumeExpansion": True}
    api.create(classes, body)
    yield name
    api.delete(f"{classes}/{name}")


def bind(api: Api, namespace: str, size: str) -> None:
    """Set the status that the volume controller would set: there is none here."""
    status = {"phase": "Bound", "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"]}
    api.merge(f"{claim_in(namespace)}/status", {"status": status})


def test_an_upgrade_turns_the_volume_on_and_off_and_deletes_nothing(
    control_plane: ControlPlane, api: Api, namespace: str
) -> None:
    assert "Queues with spec.store Disk or Postgres get" in install(control_plane, namespace, "shop", WITHOUT_CRDS)
    assert not api.is_there(claim_in(namespace))
    first = api.get(stateful_set_in(namespace))["metadata"]["uid"]
    claims = set()
    for values in (with_volume(), WITHOUT_CRDS, with_volume(), with_volume()):
        said = upgrade(control_plane, namespace, "shop", values)
        is_on = values is not WITHOUT_CRDS
        expected = "keep their messages" if is_on else "or Postgres get"
        assert f"Queues with spec.store Disk {expected}" in said
        assert mounted(api, namespace) == (["data-shop-queuelet-server-0"] if is_on else [])
        claims.add(api.get(claim_in(namespace))["metadata"]["uid"])

    # Revision 1 has no volume, revision 2 has one.
    for revision in ("1", "2", "3"):
        rollback(control_plane, namespace, "shop", revision)
        assert bool(mounted(api, namespace)) is (revision == "2")
        claims.add(api.get(claim_in(namespace))["metadata"]["uid"])
    assert len(claims) == 1
    assert api.get(stateful_set_in(namespace))["metadata"]["uid"] == first
    uninstall(control_plane, namespace, "shop")


def test_the_next_install_takes_over_the_claim_that_an_uninstall_left(
    control_plane: ControlPlane, api: Api, namespace: str
) -> None:
    install(control_plane, namespace, "shop", with_volume())
    first = api.get(claim_in(namespace))["metadata"]["uid"]
    bind(api, namespace, "10Gi")
    uninstall(control_plane, namespace, "shop")
    assert not api.is_there(stateful_set_in(namespace))
    install(control_plane, namespace, "shop", with_volume())
    assert api.get(claim_in(namespace))["metadata"]["uid"] == first
    assert mounted(api, namespace) == ["data-shop-queuelet-server-0"]
    uninstall(control_plane, namespace, "shop")
    # A release without a volume does not touch the claim.
    install(control_plane, namespace, "shop", WITHOUT_CRDS)
    uninstall(control_plane, namespace, "shop")
    assert api.get(claim_in(namespace))["metadata"]["uid"] == first


def test_a_claim_that_helm_did_not_make_is_taken_over_if_helm_is_asked_to(
    control_plane: ControlPlane, api: Api, namespace: str
) -> None:
    claims = claim_in(namespace).rpartition("/")[0]
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}}
    made = api.create(claims, {"metadata": {"name": "data-shop-queuelet-server-0"}, "spec": spec})
    with pytest.raises(HelmError, match=r"PersistentVolumeClaim.*data-shop-queuelet-server-0.*invalid ownership"):
        install(control_plane, namespace, "shop", with_volume())
    install(control_plane, namespace, "shop", with_volume(), "--take-ownership")
    after = api.get(claim_in(namespace))["metadata"]
    assert after["uid"] == made["metadata"]["uid"]
    assert after["annotations"]["helm.sh/resource-policy"] == "keep"
    uninstall(control_plane, namespace, "shop")
    assert api.is_there(claim_in(namespace))


def test_an_upgrade_enlarges_a_claim_that_kubectl_made_if_conflicts_are_forced(
    control_plane: ControlPlane, api: Api, namespace: str, storage_class: str, tmp_path: Path
) -> None:
    name = claim_in(namespace).rpartition("/")[2]
    (made,) = (
        each
        for each in template(namespace, "shop", with_volume(storageClassName=storage_class))
        if each["kind"] == "PersistentVolumeClaim"
    )
    path = tmp_path / "claim.yaml"
    bare = {"metadata": {"name": name, "namespace": namespace}}
    path.write_text(yaml.safe_dump({**made, **bare}))
    kubectl(control_plane, "apply", "--filename", str(path))
    bind(api, namespace, "10Gi")
    install(control_plane, namespace, "shop", with_volume(storageClassName=storage_class), "--take-ownership")
    larger = with_volume(storageClassName=storage_class, size="11Gi")
    with pytest.raises(HelmError, match=r'conflict with "kubectl.*\.spec\.resources\.requests\.storage'):
        upgrade(control_plane, namespace, "shop", larger)
    upgrade(control_plane, namespace, "shop", larger, "--force-conflicts")
    assert api.get(claim_in(namespace))["spec"]["resources"]["requests"]["storage"] == "11Gi"
    upgrade(control_plane, namespace, "shop", with_volume(storageClassName=storage_class, size="12Gi"))
    uninstall(control_plane, namespace, "shop")


def test_a_field_that_kubectl_scaled_is_the_charts_again_if_conflicts_are_forced(
    control_plane: ControlPlane, api: Api, namespace: str
) -> None:
    install(control_plane, namespace, "shop", WITHOUT_CRDS)
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/shop-queuelet-operator"
    kubectl(control_plane, "scale", "deployment/shop-queuelet-operator", f"--namespace={namespace}", "--replicas=1")
    with pytest.raises(HelmError, match=r'conflict with "kubectl".*\.spec\.replicas'):
        upgrade(control_plane, namespace, "shop", WITHOUT_CRDS)
    upgrade(control_plane, namespace, "shop", WITHOUT_CRDS, "--force-conflicts")
    assert api.get(path)["spec"]["replicas"] == 2
    uninstall(control_plane, namespace, "shop")


def test_an_upgrade_enlarges_the_volume(
    control_plane: ControlPlane, api: Api, namespace: str, storage_class: str
) -> None:
    install(control_plane, namespace, "shop", with_volume(storageClassName=storage_class))
    bind(api, namespace, "10Gi")
    upgrade(control_plane, namespace, "shop", with_volume(storageClassName=storage_class, size="0.5Ti"))
    assert api.get(claim_in(namespace))["spec"]["resources"]["requests"]["storage"] == "512Gi"
    # The same size in another notation is not a change.
    upgrade(control_plane, namespace, "shop", with_volume(storageClassName=storage_class, size="512Gi"))
    uninstall(control_plane, namespace, "shop")


def test_a_class_that_the_cluster_chose_may_stay_unnamed(
    control_plane: ControlPlane, api: Api, namespace: str, storage_class: str
) -> None:
    path = f"/apis/storage.k8s.io/v1/storageclasses/{storage_class}"
    default = "storageclass.kubernetes.io/is-default-class"
    api.merge(path, {"metadata": {"annotations": {default: "true"}}})

    def chosen() -> bool:
        # The API server notices a default class after a moment, so a claim may be created without it.
        install(control_plane, namespace, "shop", with_volume())
        name = api.get(claim_in(namespace))["spec"].get("storageClassName")
        if name != storage_class:
            uninstall(control_plane, namespace, "shop")
            api.delete(claim_in(namespace))
        return bool(name == storage_class)

    eventually(chosen, "a claim has the default class", 30.0)
    bind(api, namespace, "10Gi")
    upgrade(control_plane, namespace, "shop", with_volume(size="11Gi"))
    upgrade(control_plane, namespace, "shop", with_volume(size="12Gi", storageClassName=storage_class))
    assert api.get(claim_in(namespace))["spec"]["resources"]["requests"]["storage"] == "12Gi"
    uninstall(control_plane, namespace, "shop")


def test_what_a_volume_cannot_do_is_refused_before_anything_changes(
    control_plane: ControlPlane, api: Api, namespace: str, storage_class: str
) -> None:
    given: Object = {"storageClassName": storage_class, "size": "10Gi"}
    install(control_plane, namespace, "shop", with_volume(**given))
    before = api.get(stateful_set_in(namespace))["metadata"]["resourceVersion"]

    def refused(**changed: str) -> str:
        with pytest.raises(HelmError) as raised:
            upgrade(control_plane, namespace, "shop", with_volume(**{**given, **changed}))
        assert api.get(stateful_set_in(namespace))["metadata"]["resourceVersion"] == before
        return str(raised.value)

    claim = "PersistentVolumeClaim data-shop-queuelet-server-0"
    delete = f"kubectl --namespace {namespace} delete pvc data-shop-queuelet-server-0"
    assert f"server.persistence.size: {claim} has no volume yet" in (said := refused(size="11Gi"))
    assert delete in said
    bind(api, namespace, "10Gi")
    for size in ("9Gi", "10G", "5000Mi"):
        said = refused(size=size)
        assert f"server.persistence.size: {claim} asks for 10Gi, and a volume cannot shrink" in said
        assert "set it to 10Gi or more" in said
    said = refused(accessMode="ReadWriteOncePod")
    assert f"server.persistence.accessMode: {claim} has ReadWriteOnce, which cannot change" in said
    for name in ("other", ""):
        said = refused(storageClassName=name)
        assert f"server.persistence.storageClassName: {claim} has {storage_class}, which cannot change" in said
    assert f"set it to {storage_class}, or move the messages to another volume" in said
    uninstall(control_plane, namespace, "shop")
    # The next install may not use another class either.
    with pytest.raises(HelmError, match="which cannot change"):
        install(control_plane, namespace, "shop", with_volume(storageClassName="other"))


def test_nothing_of_the_manifests_depends_on_what_the_cluster_has(
    control_plane: ControlPlane, namespace: str, storage_class: str
) -> None:
    """Argo CD renders without a cluster, Flux with one: the result must be the same."""
    values = with_volume(storageClassName=storage_class)
    install(control_plane, namespace, "shop", values)
    rendered = helm(
        *("get", "manifest", "shop", f"--namespace={namespace}"),
        control_plane=control_plane,
    )
    upgrade(control_plane, namespace, "shop", values)
    again = helm("get", "manifest", "shop", f"--namespace={namespace}", control_plane=control_plane)
    alone = template(namespace, "shop", values)
    assert [each for each in yaml.safe_load_all(rendered) if each] == alone
    assert [each for each in yaml.safe_load_all(again) if each] == alone
    uninstall(control_plane, namespace, "shop")


# The definition


def test_a_second_release_leaves_the_definition_to_the_first(
    control_plane: ControlPlane, api: Api, new_namespace: NewNamespace, without_definition: None
) -> None:
    one, two = new_namespace(), new_namespace()
    install(control_plane, one, "shop", {})
    with pytest.raises(HelmError, match=r"queues\.queuelet\.dev.*invalid ownership metadata"):
        install(control_plane, two, "shop", {"operator": {"queueClassName": "second"}})
    assert not installed(api, two)
    said = install(control_plane, two, "shop", {**WITHOUT_CRDS, "operator": {"queueClassName": "second"}})
    assert "queueClassName: second" in said
    assert len(installed(api, two)) == len(installed(api, one))
    uninstall(control_plane, two, "shop")
    assert api.is_there(DEFINITION)
    assert installed(api, one)
    uninstall(control_plane, one, "shop")


def test_a_definition_from_elsewhere_is_left_alone(control_plane: ControlPlane, api: Api, namespace: str) -> None:
    before = api.get(DEFINITION)["metadata"]["resourceVersion"]
    assert "crds.enabled is false" in install(control_plane, namespace, "shop", WITHOUT_CRDS)
    uninstall(control_plane, namespace, "shop")
    assert api.get(DEFINITION)["metadata"]["resourceVersion"] == before


@pytest.fixture
def newer_chart(tmp_path: Path) -> Path:
    """A chart as a later version may have it: its definition of Queue has one more field."""
    chart = tmp_path / "queuelet"
    shutil.copytree(CHART, chart)
    path = chart / "files" / "crds" / "queues.yaml"
    definition = yaml.safe_load(path.read_text())
    spec = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["later"] = {"type": "string"}
    path.write_text(yaml.safe_dump(definition))
    return chart


def knows_the_later_field(api: Api) -> bool:
    """Return whether the cluster has the definition of the newer chart."""
    version = api.get(DEFINITION)["spec"]["versions"][0]
    return "later" in version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]


@pytest.mark.parametrize("how", [(), ("--server-side",)], ids=["client-side", "server-side"])
def test_an_upgrade_changes_a_definition_that_kubectl_applied_if_conflicts_are_forced(
    control_plane: ControlPlane, namespace: str, without_definition: None, newer_chart: Path, how: tuple[str, ...]
) -> None:
    """`--take-ownership` adopts the object, but kubectl stays the manager of its fields."""
    api = control_plane.api
    kubectl(control_plane, "apply", *how, "--filename", str(MANIFEST))
    with pytest.raises(HelmError, match=r"queues\.queuelet\.dev.*invalid ownership metadata"):
        install(control_plane, namespace, "shop", {})
    install(control_plane, namespace, "shop", {}, "--take-ownership")
    with pytest.raises(HelmError, match=r'conflict with "kubectl.*\.spec\.versions'):
        upgrade(control_plane, namespace, "shop", {}, chart=newer_chart)
    assert not knows_the_later_field(api)
    upgrade(control_plane, namespace, "shop", {}, "--force-conflicts", chart=newer_chart)
    assert knows_the_later_field(api)
    # Only once, because Helm manages the fields from then on.
    upgrade(control_plane, namespace, "shop", {})
    assert not knows_the_later_field(api)
    uninstall(control_plane, namespace, "shop")


def test_a_definition_of_another_version_is_taken_over_if_conflicts_are_forced(
    control_plane: ControlPlane, api: Api, namespace: str, without_definition: None, newer_chart: Path
) -> None:
    kubectl(control_plane, "apply", "--filename", str(MANIFEST))
    with pytest.raises(HelmError, match=r'conflict with "kubectl.*\.spec\.versions'):
        install(control_plane, namespace, "shop", {}, "--take-ownership", chart=newer_chart)
    uninstall(control_plane, namespace, "shop")
    install(control_plane, namespace, "shop", {}, "--take-ownership", "--force-conflicts", chart=newer_chart)
    assert knows_the_later_field(api)
    uninstall(control_plane, namespace, "shop")


def test_a_rollback_drops_the_fields_that_only_the_newer_definition_has(
    control_plane: ControlPlane, api: Api, namespace: str, without_definition: None, newer_chart: Path
) -> None:
    install(control_plane, namespace, "shop", {})
    upgrade(control_plane, namespace, "shop", {}, chart=newer_chart)
    queues = KubeQueues(api, namespace)
    eventually(lambda: api.is_served(queues.path), "Queues are served", 30.0)

    def has_the_field(name: str) -> bool:
        return "later" in queues.get(name)["spec"]

    def keeps_the_field(name: str) -> bool:
        # A changed definition takes effect after a moment.
        with suppress(ApiError):
            queues.delete(name)
        queues.create(name, limit=7, later="something")
        return has_the_field(name)

    for name in ("orders", "untouched"):
        eventually(lambda name=name: keeps_the_field(name), "the later field is kept", 30.0)  # type: ignore[misc]  # a default argument binds the loop variable
    rollback(control_plane, namespace, "shop", "1")
    eventually(lambda: not has_the_field("orders"), "the later field is not shown", 30.0)
    assert queues.get("orders")["spec"]["limit"] == 7
    # The next write removes it for good, for example the operator's write of a status.
    queues.annotate("orders", paused="true")
    upgrade(control_plane, namespace, "shop", {}, chart=newer_chart)
    eventually(lambda: has_the_field("untouched"), "the definition is the newer one again", 30.0)
    assert not has_the_field("orders")
    uninstall(control_plane, namespace, "shop")


def kubectl(control_plane: ControlPlane, *arguments: str) -> str:
    """Run kubectl as admin, and return its output."""
    environment = os.environ | control_plane.environment
    command = [str(binaries.get("kubectl")), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_namespaces_other_than_those_named_get_no_role(
    control_plane: ControlPlane, api: Api, new_namespace: NewNamespace
) -> None:
    here, one, two = new_namespace(), new_namespace(), new_namespace()
    values = {**WITHOUT_CRDS, "operator": {"namespaces": [one, two]}, "rbac": {"aggregatedRoles": False}}
    install(control_plane, here, "shop", values)
    assert not {each for each in installed(api, here) if each.startswith("cluster")}
    roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles"
    assert [[each["metadata"]["name"] for each in api.get(roles.format(name))["items"]] for name in (one, two)] == [
        [f"{here}:shop-queuelet-operator", "queuelet.dev:class:default"],
        [f"{here}:shop-queuelet-operator", "queuelet.dev:class:default"],
    ]
    upgrade(control_plane, here, "shop", {**values, "operator": {"namespaces": [one]}})
    eventually(lambda: api.get(roles.format(two))["items"] == [], "the second namespace's role is gone", 30.0)
    uninstall(control_plane, here, "shop")
    assert api.get(roles.format(one))["items"] == []


# Rights of the aggregated roles

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


def test_users_who_may_view_edit_or_administer_a_namespace_may_do_so_with_its_queues(
    api: Api, namespace: str, release: str
) -> None:
    for role in MAY:
        body = {
            "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": f"{namespace}-{role}"}],
        }
        api.create(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings", body)
    # The controller that aggregates roles takes a moment.
    for role, verbs in MAY.items():
        eventually(
            lambda role=role, verbs=verbs: may(api, namespace, role) == verbs,  # type: ignore[misc]  # a default argument binds the loop variable
            f"{role} may {', '.join(sorted(verbs))}",
            30.0,
        )
        assert may(api, namespace, role, "status") == {"get"}


def may(api: Api, namespace: str, role: str, subresource: str = "") -> set[str]:
    """Return what a user with the role may do with Queues."""
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
        response = api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
        if response["status"]["allowed"]:
            allowed.add(verb)
    return allowed


def test_the_server_may_do_nothing(control_plane: ControlPlane, namespace: str, release: str) -> None:
    def granted(account: str) -> set[str]:
        user = control_plane.api_as(control_plane.service_account_token(namespace, account))
        body = {"spec": {"namespace": namespace}}
        try:
            response = user.create("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", body)
        finally:
            user.close()
        return {resource for rule in response["status"]["resourceRules"] for resource in rule["resources"]}

    of_all = granted("default")
    assert granted("shop-queuelet-server") == of_all, "no more than any other service account"
    assert "clusterroles" in of_all, "which may see the claim of the class"
