"""A rollback repairs a failed rollout, with the real helm, API server and StatefulSet controller."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from support.helm import HelmError, Object, install, rollback, uninstall, upgrade
from support.pods_without_node import WRONG, PodsWithoutNode
from support.rpc import eventually
from tools.control_plane import Api, ApiError, ControlPlane
from tools.control_plane.plane import CONTROLLERS

NAMESPACE = "queuelet"
POD = f"/api/v1/namespaces/{NAMESPACE}/pods/queuelet-server-0"
STATEFUL_SET = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/queuelet-server"
CLAIM = f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims/data-queuelet-server-0"

WITHIN = ("--wait", "--timeout=120s")
"""Values of a working release."""


@pytest.fixture(scope="module")
def rollouts(helm_is_there: None) -> Iterator[ControlPlane]:
    """A control plane that creates Pods of StatefulSets."""
    controllers = (*CONTROLLERS, "statefulset-controller", "deployment-controller", "disruption-controller")
    with ControlPlane(controllers=controllers) as started:
        started.api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        with PodsWithoutNode(started, NAMESPACE):
            yield started
        started.check()


@pytest.fixture
def control_plane(rollouts: ControlPlane) -> Iterator[ControlPlane]:
    """The same, for one test, with a working release."""
    install(rollouts, NAMESPACE, "queuelet", values(), *WITHIN)
    yield rollouts
    uninstall(rollouts, NAMESPACE, "queuelet")
    eventually(lambda: not image(rollouts.api), "the Pod is gone", 30.0)
    with suppress(ApiError):
        rollouts.api.merge(CLAIM, {"metadata": {"finalizers": None}})
        rollouts.api.delete(CLAIM)


@pytest.fixture
def api(control_plane: ControlPlane) -> Api:
    """The API server, as admin."""
    return control_plane.api


def values(tag: str = "", **persistence: object) -> Object:
    """Return values without an operator, which is not needed here."""
    server = {"image": {"tag": tag}, "persistence": persistence}
    return {"crds": {"enabled": False}, "server": server, "operator": {"replicas": 0}}


def image(api: Api) -> str:
    """Return the tag of the image of the server's Pod; empty if there is no Pod."""
    try:
        return str(api.get(POD)["spec"]["containers"][0]["image"]).rpartition(":")[2]
    except ApiError as error:
        if error.code != 404:
            raise
        return ""


def break_the_server(control_plane: ControlPlane, **persistence: object) -> None:
    """Upgrade to an image that cannot be pulled, which helm reports after a timeout."""
    with pytest.raises(HelmError, match=r"timeout|deadline"):
        upgrade(control_plane, NAMESPACE, "queuelet", values(WRONG, **persistence), "--wait", "--timeout=2s")
    eventually(lambda: image(control_plane.api) == WRONG, "the Pod has the wrong image", 30.0)


def test_a_rollback_heals_a_server_whose_image_cannot_be_pulled(control_plane: ControlPlane, api: Api) -> None:
    before = image(api)
    break_the_server(control_plane)
    rollback(control_plane, NAMESPACE, "queuelet", "1", *WITHIN)
    assert image(api) == before
    assert api.get(STATEFUL_SET)["status"]["readyReplicas"] == 1


def test_an_upgrade_heals_a_server_whose_image_cannot_be_pulled(control_plane: ControlPlane, api: Api) -> None:
    break_the_server(control_plane)
    upgrade(control_plane, NAMESPACE, "queuelet", values("0.1.0"), *WITHIN)
    assert image(api) == "0.1.0"


@pytest.mark.parametrize("was_on", [False, True])
def test_a_rollback_heals_across_a_change_of_the_volume(control_plane: ControlPlane, api: Api, *, was_on: bool) -> None:
    # There is no volume controller, so helm would wait forever.
    upgrade(control_plane, NAMESPACE, "queuelet", values(enabled=was_on))
    break_the_server(control_plane, enabled=not was_on)
    rollback(control_plane, NAMESPACE, "queuelet", "2")
    eventually(lambda: image(api) == "0.1.0", "the Pod has the image of before", 30.0)
    volumes = api.get(POD)["spec"].get("volumes", [])
    assert bool(volumes) is was_on
    assert api.get(CLAIM)["metadata"]["annotations"]["meta.helm.sh/release-name"] == "queuelet"


def test_a_rollback_heals_the_server_though_its_volume_cannot_shrink(control_plane: ControlPlane, api: Api) -> None:
    """Helm then reports the rollback as failed, so the README says to enlarge a volume in an upgrade of its own."""
    storage: Object = {"enabled": True, "storageClassName": "can-grow"}
    body = {"metadata": {"name": "can-grow"}, "provisioner": "example.com/none", "allowVolumeExpansion": True}
    api.create("/apis/storage.k8s.io/v1/storageclasses", body)
    upgrade(control_plane, NAMESPACE, "queuelet", values(**storage, size="1Gi"))
    bound = {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}
    api.merge(f"{CLAIM}/status", {"status": bound})
    break_the_server(control_plane, **storage, size="2Gi")
    with pytest.raises(HelmError, match="field can not be less than"):
        rollback(control_plane, NAMESPACE, "queuelet", "2")
    eventually(lambda: image(api) == "0.1.0", "the Pod has the image of before", 30.0)
    upgrade(control_plane, NAMESPACE, "queuelet", values(**storage, size="2Gi"))
