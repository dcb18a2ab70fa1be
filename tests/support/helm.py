"""The chart, rendered and installed by the real helm."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tools.control_plane import Api, ControlPlane, binaries

Object = dict[str, Any]

CHART = Path(__file__).parents[2] / "helm" / "queuelet"

INSTANCE = "app.kubernetes.io/instance"
COMPONENT = "app.kubernetes.io/component"


class HelmError(Exception):
    """Helm failed; the text is its output."""


def helm(*arguments: str, values: Object | None = None, control_plane: ControlPlane | None = None) -> str:
    """Run helm with these values, and return its output. Raises `HelmError` if it fails."""
    environment = dict(os.environ)
    if control_plane:
        # Helm's own files are removed with the control plane.
        homes = {f"HELM_{each}_HOME": str(control_plane.folder / "helm") for each in ("CACHE", "CONFIG", "DATA")}
        environment |= control_plane.environment | homes
    given = [] if values is None else ["--values", "-"]
    done = subprocess.run(
        [str(binaries.get("helm")), *arguments, *given],
        env=environment,
        input=json.dumps(values or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise HelmError(f"{done.stdout}{done.stderr}")
    return done.stdout


def template(namespace: str, release: str, values: Object, *flags: str) -> list[Object]:
    """Return the objects that the chart renders from values, without a cluster."""
    text = helm("template", release, str(CHART), f"--namespace={namespace}", *flags, values=values)
    return [each for each in yaml.safe_load_all(text) if each]


def install(
    control_plane: ControlPlane, namespace: str, release: str, values: Object, *flags: str, chart: Path = CHART
) -> str:
    """Install the chart in an existing namespace, and return helm's notes for the user."""
    return helm(
        "install",
        release,
        str(chart),
        f"--namespace={namespace}",
        *flags,
        values=values,
        control_plane=control_plane,
    )


def upgrade(
    control_plane: ControlPlane, namespace: str, release: str, values: Object, *flags: str, chart: Path = CHART
) -> str:
    """Upgrade a release to only these values, and return helm's notes for the user."""
    where = (release, str(chart), f"--namespace={namespace}", "--reset-values")
    return helm("upgrade", *where, *flags, values=values, control_plane=control_plane)


def rollback(control_plane: ControlPlane, namespace: str, release: str, revision: str, *flags: str) -> str:
    """Roll a release back to a revision, and return helm's output."""
    where = (release, revision, f"--namespace={namespace}")
    return helm("rollback", *where, *flags, control_plane=control_plane)


def uninstall(control_plane: ControlPlane, namespace: str, release: str) -> str:
    """Uninstall a release, and return helm's output."""
    return helm("uninstall", release, f"--namespace={namespace}", control_plane=control_plane)


# Installed objects


def operator_deployment(api: Api, namespace: str, release: str) -> Object:
    """Return the Deployment of a release's operator."""
    labels = f"{INSTANCE}={release},{COMPONENT}=operator"
    found = api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments", labelSelector=labels)["items"]
    deployment: Object = found[0]
    return deployment


def service_account_kubeconfig(control_plane: ControlPlane, namespace: str, release: str) -> Path:
    """Write a kubeconfig for the ServiceAccount of a release's operator, with exactly its rights."""
    account = operator_deployment(control_plane.api, namespace, release)["spec"]["template"]["spec"][
        "serviceAccountName"
    ]
    token = control_plane.service_account_token(namespace, account)
    return control_plane.kubeconfig_as(f"{namespace}:{account}", token)


def operator_environment(control_plane: ControlPlane, namespace: str, release: str, *, server: str) -> dict[str, str]:
    """Return the operator's environment from a release's Deployment, adapted to a process here.

    It reaches the API server by the kubeconfig of its ServiceAccount, and the queue server at `server`.
    """
    deployment = operator_deployment(control_plane.api, namespace, release)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environment = {each["name"]: str(each["value"]) for each in container["env"]}
    kubeconfig = service_account_kubeconfig(control_plane, namespace, release)
    return {**environment, "QUEUELET_OPERATOR_SERVER": server, "KUBECONFIG": str(kubeconfig)}


# Rights

Right = tuple[str, str]
"""A verb, and a resource with its subresource."""


def rights_of(role: Object) -> Iterator[Right]:
    """Return the rights that a role grants, one by one."""
    for rule in role["rules"]:
        for resource in rule["resources"]:
            yield from ((verb, resource) for verb in rule["verbs"])


def rules_without(role: Object, right: Right) -> list[Object]:
    """Return the rules of a role that grant all but one right."""
    rules: list[Object] = []
    for rule in role["rules"]:
        for resource in rule["resources"]:
            verbs = [verb for verb in rule["verbs"] if (verb, resource) != right]
            if verbs:
                rules.append({**rule, "resources": [resource], "verbs": verbs})
    return rules
