"""What the chart's README says about images, quotas and many Queues, tested on a real API server."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable

import pytest
import yaml

from support.documents import ROOT
from support.helm import CHART, HelmError, Object, helm, install, template, uninstall
from support.kube_queues import KubeQueues
from support.queue_objects import queue_object, tag
from tools.control_plane import Api, ApiError, ControlPlane, binaries

NewNamespace = Callable[..., str]

README = (CHART / "README.md").read_text()

ANNOTATION_BYTES = 262_144
"""The total size limit of an object's annotations."""


def pods(objects: list[Object]) -> list[Object]:
    """Return the Pods of the chart's workloads, without their ServiceAccounts."""
    templates = [each["spec"]["template"] for each in objects if each["kind"] in {"Deployment", "StatefulSet"}]
    return [
        {
            "metadata": {**each["metadata"], "generateName": "shop-"},
            "spec": {**each["spec"], "serviceAccountName": "default"},
        }
        for each in templates
    ]


# Images


def test_images_come_first_and_with_all_that_names_them() -> None:
    assert README.index("## Images first") < README.index("helm install")
    (block,) = re.findall(r"```yaml\n(server:\n  image:.*?)```", README, re.DOTALL)
    images = {
        pod["spec"]["containers"][0]["image"] for pod in pods(template("queuelet", "queuelet", yaml.safe_load(block)))
    }
    pushed = set(re.findall(r"^\$ docker push (\S+)$", README, re.MULTILINE))
    assert images == pushed
    assert all("." in image.split("/")[0] for image in images), "the host of the registry is named"


def test_the_images_that_make_builds_are_those_that_are_pushed() -> None:
    built = set(re.findall(r"docker build .*--tag (\S+)", (ROOT / "Makefile").read_text()))
    assert built == set(re.findall(r"^\$ docker tag (\S+) ", README, re.MULTILINE))


# Access


def test_the_values_that_close_the_server_are_those_of_the_readme() -> None:
    (flags,) = re.findall(r"^helm upgrade queuelet .* --reset-then-reuse-values (.*)$", README, re.MULTILINE)
    assert "auth.tokenSecretName" in flags
    objects = template("queuelet", "queuelet", {}, *flags.split())
    (operator,) = [
        pod for pod in pods(objects) if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "operator"
    ]
    environment = {each["name"]: each["value"] for each in operator["spec"]["containers"][0]["env"]}
    host = environment["QUEUELET_OPERATOR_SERVER"].partition(":")[0]
    assert f"`{host}`" in README, "the name that the certificate needs"
    with pytest.raises(HelmError, match=r"auth\.tokenSecretName: the token would be sent in plain text"):
        template("queuelet", "queuelet", {}, "--set", "auth.tokenSecretName=queuelet-token")


# Namespaces of the operator


def test_an_upgrade_goes_back_from_some_namespaces_to_all(
    control_plane: ControlPlane, api: Api, namespace: str
) -> None:
    values = {"crds": {"enabled": False}, "operator": {"namespaces": [namespace], "queueClassName": namespace}}
    install(control_plane, namespace, "shop", values)
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"

    def change(*flags: str) -> None:
        where = ("shop", str(CHART), f"--namespace={namespace}", "--reset-then-reuse-values")
        helm("upgrade", *where, *flags, control_plane=control_plane)

    assert f"{namespace}:shop-queuelet-operator" not in names(api, roles)
    with pytest.raises(HelmError, match="/operator/namespaces/0"):
        change("--set", "operator.namespaces={}")
    (flag,) = re.findall(r"`--set-json '(operator\.namespaces=\S+)'`", README)
    change("--set-json", flag)
    assert f"{namespace}:shop-queuelet-operator" in names(api, roles)
    uninstall(control_plane, namespace, "shop")


def names(api: Api, path: str) -> set[str]:
    """Return the names of the objects at a path."""
    return {each["metadata"]["name"] for each in api.get(path)["items"]}


# Quotas


QUOTA = {"requests.cpu": "4", "requests.memory": "8Gi", "limits.memory": "8Gi"}


def give_quota(api: Api, namespace: str, hard: dict[str, str]) -> None:
    """Create a ResourceQuota and set its usage, because there is no controller here that counts."""
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"
    api.create(path, {"metadata": {"name": "quota"}, "spec": {"hard": hard}})
    api.merge(f"{path}/quota/status", {"status": {"hard": hard, "used": dict.fromkeys(hard, "0")}})


def admit(api: Api, namespace: str, values: Object) -> None:
    """Create the Pods of a release with a dry run. Raises `ApiError` if the API server refuses one."""
    for pod in pods(template(namespace, "shop", values)):
        api.create(f"/api/v1/namespaces/{namespace}/pods", pod, dryRun="All")


def test_quotas_on_requests_and_memory_need_no_values(api: Api, namespace: str) -> None:
    give_quota(api, namespace, QUOTA)
    admit(api, namespace, {})


def test_a_quota_on_cpu_limits_needs_the_values_that_the_readme_names(api: Api, namespace: str) -> None:
    give_quota(api, namespace, {**QUOTA, "limits.cpu": "5"})
    with pytest.raises(ApiError, match=r"must specify limits\.cpu"):
        admit(api, namespace, {})
    values: Object = {}
    for part, cpu in re.findall(r"--set\s+(server|operator)\.resources\.limits\.cpu=(\d+)", README):
        values[part] = {"resources": {"limits": {"cpu": cpu}}}
    assert set(values) == {"server", "operator"}
    admit(api, namespace, values)


# The restore


def test_the_pod_that_restores_a_backup_is_admitted_where_the_chart_is(api: Api, new_namespace: NewNamespace) -> None:
    namespace = new_namespace(**{"pod-security.kubernetes.io/enforce": "restricted"})
    give_quota(api, namespace, {**QUOTA, "limits.cpu": "5"})
    text = (ROOT / "docs" / "operator.md").read_text().split("\n### A backup\n")[1]
    (block,) = re.findall(r"```yaml\n(apiVersion: v1\nkind: Pod\n.*?)```", text, re.DOTALL)
    pod = yaml.safe_load(block)
    pod["metadata"]["namespace"] = namespace
    api.create(f"/api/v1/namespaces/{namespace}/pods", pod, dryRun="All")
    values = {"server": {"persistence": {"enabled": True}}}
    claims = [
        each["metadata"]["name"]
        for each in template("queuelet", "queuelet", values)
        if each["kind"] == "PersistentVolumeClaim"
    ]
    assert [volume["persistentVolumeClaim"]["claimName"] for volume in pod["spec"]["volumes"]] == claims


# Many Queues, and large ones


def test_one_request_lists_the_queues_that_are_not_ready(control_plane: ControlPlane, kube: KubeQueues) -> None:
    for name, ready in (("new", ""), ("orders", "True"), ("broken", "False")):
        kube.create(name)
        if ready:
            condition = {
                "type": "Ready",
                "status": ready,
                "reason": "Test",
                "message": "A test.",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
                "observedGeneration": 1,
            }
            status = {"observedGeneration": 1, "conditions": [condition]}
            kube.api.merge(f"{kube.path}/{name}/status", {"status": status})
    (block,) = re.findall(r"```sh\n(kubectl get queues .*?)```", README, re.DOTALL)
    command = block.replace("--namespace shop", f"--namespace {kube.namespace}")
    folder = str(binaries.get("kubectl").parent)
    environment = os.environ | control_plane.environment | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["broken", "new"], done.stderr


def test_server_side_apply_has_no_limit_that_a_valid_queue_reaches(
    control_plane: ControlPlane, kube: KubeQueues
) -> None:
    """Tags at their bound fit either way; with annotations of others only the server-side apply has room."""
    body = queue_object("large", tags=[tag(f"{number:02}", "<" * 254) for number in range(64)])

    def apply(*how: str) -> str:
        command = [str(binaries.get("kubectl")), "apply", *how, f"--namespace={kube.namespace}", "--filename=-"]
        environment = os.environ | control_plane.environment
        done = subprocess.run(
            command, env=environment, input=json.dumps(body), capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    assert "created" in apply()
    body["metadata"]["annotations"] = {"example.com/notes": "x" * (ANNOTATION_BYTES * 2 // 3)}
    assert f"may not be more than {ANNOTATION_BYTES} bytes" in apply()
    assert "serverside-applied" in apply("--server-side", "--force-conflicts")
