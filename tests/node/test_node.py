"""The node that the other tests here need: its features, and that it is cleaned up."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tools.node import BUSYBOX, Node

ROOT = Path(__file__).parents[2]
Command = Callable[..., str]


def until(true: Callable[[], bool], within: float = 60.0) -> None:
    """Wait for a condition of the node."""
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end, f"condition not met after {within:.0f} s"
        time.sleep(0.1)


def succeeds(kubectl: Command, *arguments: str) -> bool:
    """Return whether a command succeeds, because a Service works only a moment after its Pods are ready."""
    try:
        kubectl(*arguments)
    except AssertionError:
        return False
    return True


def pod(name: str, image: str, *command: str, **spec: Any) -> str:  # noqa: ANN401  # any YAML of a spec
    """Return a Pod of one container, to be applied."""
    container: dict[str, Any] = {"name": name, "image": image, "imagePullPolicy": "Never"}
    if command:
        container["command"] = list(command)
    container["volumeMounts"] = spec.pop("mounts", [])
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        # The containers need no time to end.
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, **spec},
    }
    return yaml.safe_dump(made)


def test_our_server_runs_as_a_pod_and_is_reached_by_the_name_of_its_service(
    kubectl: Command, namespace: str, images: Mapping[str, str]
) -> None:
    kubectl("apply", "--filename=-", stdin=pod("server", images["server"]))
    kubectl("apply", "--filename=-", stdin=pod("client", images["server"], "sleep", "600"))
    kubectl("expose", "pod", "server", "--port=10002")
    kubectl("wait", "--for=condition=Ready", "pod/server", "pod/client", "--timeout=60s")

    assert kubectl("exec", "server", "--", "id", "--user").strip() == "65532"
    address = f"server.{namespace}.svc.cluster.local:10002"
    queuelet = ["exec", "--stdin", "client", "--", "queuelet", f"--server={address}"]
    until(lambda: succeeds(kubectl, *queuelet, "list"))
    kubectl(*queuelet, "new", "memory", "--name=orders")
    kubectl(*queuelet, "add", "orders", stdin="hello")
    printed = json.loads(kubectl(*queuelet, "pop", "orders"))
    assert base64.b64decode(printed["message"]["payload"]) == b"hello"
    assert '"msg": "serving"' in kubectl("logs", "server")


def test_a_deployment_is_scheduled_and_replaces_a_pod_that_is_gone(kubectl: Command) -> None:
    kubectl("create", "deployment", "sleeper", f"--image={BUSYBOX}", "--replicas=2", "--", "sleep", "600")
    kubectl("rollout", "status", "deployment/sleeper", "--timeout=60s")
    first, second = kubectl("get", "pods", "--output=name").split()
    kubectl("delete", first, "--grace-period=1")
    kubectl("rollout", "status", "deployment/sleeper", "--timeout=60s")
    assert second in kubectl("get", "pods", "--output=name").split()


def test_a_claim_gets_a_volume_that_another_user_than_root_may_write_and_that_stays(
    kubectl: Command, images: Mapping[str, str]
) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    kubectl("apply", "--filename=-", stdin=yaml.safe_dump(claim))
    with_data = {
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        "mounts": [{"name": "data", "mountPath": "/data"}],
        "securityContext": {"fsGroup": 65532},
        "restartPolicy": "Never",
    }
    writer = pod("writer", images["server"], "sh", "-c", "id -u >/data/whose", **with_data)
    kubectl("apply", "--filename=-", stdin=writer)
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/writer", "--timeout=60s")
    reader = pod("reader", images["server"], "cat", "/data/whose", **with_data)
    kubectl("apply", "--filename=-", stdin=reader)
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/reader", "--timeout=60s")
    assert kubectl("logs", "reader") == "65532\n"


def test_a_pod_reaches_the_api_server_as_its_service_account(kubectl: Command, images: Mapping[str, str]) -> None:
    program = (
        "import pathlib, ssl, urllib.request as request;"
        "given = pathlib.Path('/var/run/secrets/kubernetes.io/serviceaccount');"
        "headers = {'Authorization': 'Bearer ' + (given / 'token').read_text()};"
        "asked = request.Request('https://kubernetes.default.svc/api', headers=headers);"
        "trusted = ssl.create_default_context(cafile=given / 'ca.crt');"
        "print(request.urlopen(asked, context=trusted).status)"
    )
    kubectl(
        "apply", "--filename=-", stdin=pod("asker", images["server"], "python", "-c", program, restartPolicy="Never")
    )
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/asker", "--timeout=60s")
    assert kubectl("logs", "asker") == "200\n"


def test_a_service_is_reached_from_here(node: Node, kubectl: Command, images: Mapping[str, str]) -> None:
    kubectl("apply", "--filename=-", stdin=pod("server", images["server"]))
    kubectl("expose", "pod", "server", "--port=10003")
    kubectl("wait", "--for=condition=Ready", "pod/server", "--timeout=60s")
    address = kubectl("get", "service", "server", "--output=jsonpath={.spec.clusterIP}")

    from_the_node = f"import urllib.request; print(urllib.request.urlopen('http://{address}:10003/metrics').read())"
    until(lambda: subprocess.run(node.command([sys.executable, "-c", from_the_node]), check=False).returncode == 0)
    assert "queuelet_" in node.run([sys.executable, "-c", from_the_node])
    with urllib.request.urlopen(f"http://127.0.0.1:{node.reach(address, 10003)}/metrics") as response:
        assert b"queuelet_" in response.read()


def test_helm_installs_a_chart(helm: Command, kubectl: Command, tmp_path: Path) -> None:
    (tmp_path / "chart" / "templates").mkdir(parents=True)
    (tmp_path / "chart" / "Chart.yaml").write_text("apiVersion: v2\nname: small\nversion: 0.1.0\n")
    made = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "made"},
        "data": {"by": "{{ .Release.Name }}"},
    }
    (tmp_path / "chart" / "templates" / "made.yaml").write_text(yaml.safe_dump(made))
    helm("install", "tried", str(tmp_path / "chart"))
    assert kubectl("get", "configmap", "made", "--output=jsonpath={.data.by}") == "tried"
    helm("uninstall", "tried")
    assert kubectl("get", "configmaps", "--output=name").split() == ["configmap/kube-root-ca.crt"]


def test_another_node_whose_owner_is_killed_leaves_nothing(node: Node, tmp_path: Path) -> None:
    program = """
import os, subprocess, time
from tools.node import BUSYBOX, Node
node = Node()
node.start()
environment = os.environ | node.environment
for command in (
    ["kubectl", "run", "sleeper", f"--image={BUSYBOX}", "--", "sleep", "98765"],
    ["kubectl", "wait", "--for=condition=Ready", "pod/sleeper"],
):
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
print(node.cgroup, flush=True)
time.sleep(600)
"""
    before = mounts()
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        cgroup = owner.stdout.readline().strip()
        assert re.fullmatch(r"queuelet-[0-9a-f]{8}", cgroup)
        assert list(Path("/sys/fs/cgroup").glob(f"**/{cgroup}/kubepods"))
        assert len(list(tmp_path.iterdir())) == 2
        owner.send_signal(signal.SIGKILL)
    until(lambda: not list(tmp_path.iterdir()))
    assert not list(Path("/sys/fs/cgroup").glob(f"**/{cgroup}"))
    # The guard ends last: after the folder, whose name is one of its arguments.
    until(lambda: not [path for path in Path("/proc").glob("[0-9]*/cmdline") if names(path, str(tmp_path), "98765")])
    assert mounts() == before
    node.check()


def names(cmdline: Path, *words: str) -> bool:
    """Return whether the command line of a process contains one of the words."""
    try:
        printed = cmdline.read_bytes().decode(errors="replace")
    except OSError:
        return False
    return any(word in printed for word in words)


def mounts() -> list[str]:
    """Return the mount points of the machine."""
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
