"""The control plane that the other tests use: its features, and its cleanup."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kubernetes import client as official
from kubernetes import config as official_config

from support.queue_objects import queue_object
from tools.control_plane import Api, ApiError, ControlPlane, ControlPlaneError, plane, ports

ROOT = Path(__file__).parents[2]
CONFIG_MAPS = "/api/v1/namespaces/{}/configmaps"


def until(true: Callable[[], bool], within: float = 40.0) -> None:
    """Wait for the work of the controllers, which has no deadline."""
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end, f"still not so after {within:.0f} s"
        time.sleep(0.05)


def is_gone(api: Api, path: str) -> bool:
    """Return whether the object at a path does not exist."""
    try:
        api.get(path)
    except ApiError as error:
        if error.reason != "NotFound":
            raise
        return True
    return False


def commands_that_name(folder: Path) -> list[str]:
    """Return the command lines of running processes that contain a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in command:
            found.append(command)
    return found


# Stop and failure: on control planes for one test each


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory for the state of control planes during a test."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def own(built: None, temporary: Path) -> Iterator[ControlPlane]:
    """A control plane that the test may break."""
    with ControlPlane() as started:
        yield started


def test_two_run_at_once_and_leave_nothing(built: None, temporary: Path) -> None:
    two = [ControlPlane(), ControlPlane()]
    with ThreadPoolExecutor() as threads:
        list(threads.map(ControlPlane.start, two))
    first, second = two
    first.api.create("/api/v1/namespaces", {"metadata": {"name": "only-in-first"}})
    assert first.url != second.url
    assert is_gone(second.api, "/api/v1/namespaces/only-in-first")
    assert len(commands_that_name(temporary)) == 8, "three each, and one that watches over them"

    second.stop()
    assert first.api.get("/readyz") == {"text": "ok"}
    first.stop()
    assert commands_that_name(temporary) == []
    assert list(temporary.iterdir()) == []


def test_a_killed_api_server_is_reported_in_a_sentence_and_can_come_back(own: ControlPlane) -> None:
    own.api.create("/api/v1/namespaces", {"metadata": {"name": "kept"}})
    own.check()
    own.api_server.kill()
    with pytest.raises(ControlPlaneError, match=f"the API server at {own.url} does not respond: "):
        own.api.get("/api/v1/namespaces/kept")
    with pytest.raises(ControlPlaneError, match=r"kube-apiserver was ended by SIGKILL; the end of .*\n"):
        own.check()

    own.start_api_server()
    own.check()
    assert own.api.get("/api/v1/namespaces/kept")["metadata"]["name"] == "kept"


def test_a_control_plane_that_can_not_start_says_why_and_keeps_its_logs(built: None, temporary: Path) -> None:
    broken = ControlPlane(api_server_flags=["--no-such-flag"])
    with pytest.raises(ControlPlaneError, match=r"kube-apiserver ended with exit code 1; (.|\n)*: --no-such-flag"):
        broken.start()
    assert commands_that_name(temporary) == []
    kept = [str(path.relative_to(broken.folder)) for path in sorted(temporary.rglob("*")) if path.is_file()]
    assert kept == ["logs/etcd.log", "logs/kube-apiserver.log"]


@pytest.mark.parametrize("whose", [0, 1, 2], ids=["etcd's", "etcd's for peers", "the API server's"])
def test_a_port_that_another_takes_first_is_no_trouble(
    built: None, temporary: Path, monkeypatch: pytest.MonkeyPatch, whose: int
) -> None:
    asked: list[int] = []

    def free_ports(count: int) -> list[int]:
        asked.append(count)
        found = ports.free_ports(count)
        if len(asked) == 1:
            found[whose] = taken.getsockname()[1]
        return found

    monkeypatch.setattr(plane, "free_ports", free_ports)
    with socket.create_server(("127.0.0.1", 0)) as taken, ControlPlane() as started:
        assert started.api.get("/readyz") == {"text": "ok"}
    assert len(asked) == 2
    assert list(temporary.iterdir()) == []


def test_one_whose_owner_is_killed_ends_too(built: None, temporary: Path) -> None:
    program = "import time; from tools.control_plane import ControlPlane; ControlPlane().start(); time.sleep(600)"
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE, text=True) as owner:
        assert owner.stderr
        assert "ready after" in owner.stderr.readline()
        assert len(commands_that_name(temporary)) == 4, "the three, and the one that watches over them"
        owner.kill()
    until(lambda: not commands_that_name(temporary))
    assert list(temporary.iterdir()) == []


# Features: on the control plane that all tests in this directory share


def test_a_service_account_may_do_what_its_role_says_and_no_more(control_plane: ControlPlane, namespace: str) -> None:
    api, rbac = control_plane.api, f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "reader"}})
    rule = {"apiGroups": ["queuelet.dev"], "resources": ["queues"], "verbs": ["list"]}
    api.create(f"{rbac}/roles", {"metadata": {"name": "reader"}, "rules": [rule]})
    binding = {
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": namespace}],
    }
    api.create(f"{rbac}/rolebindings", binding)

    reader = control_plane.api_as(control_plane.service_account_token(namespace, "reader"))
    queues = f"/apis/queuelet.dev/v1alpha1/namespaces/{namespace}/queues"
    until(lambda: may(reader, "GET", queues))
    assert not may(reader, "POST", queues)
    assert not may(reader, "GET", CONFIG_MAPS.format(namespace))
    reader.close()


def may(api: Api, method: str, path: str) -> bool:
    """Return whether a user has a permission."""
    try:
        api.request(method, path, queue_object() if method == "POST" else None)
    except ApiError as error:
        if error.reason != "Forbidden":
            raise
        return False
    return True


def test_the_official_client_takes_its_kubeconfigs(control_plane: ControlPlane, namespace: str) -> None:
    admin = official.CoreV1Api(official_client(control_plane.kubeconfig))
    until(lambda: "default" in str(admin.list_namespaced_service_account(namespace)))

    user = f"system:serviceaccount:{namespace}:default"
    kubeconfig = control_plane.kubeconfig_as(user, control_plane.service_account_token(namespace, "default"))
    account = official.AuthenticationV1Api(official_client(kubeconfig))
    review = account.create_self_subject_review(official.V1SelfSubjectReview())
    assert review.to_dict()["status"]["user_info"]["username"] == user


def official_client(kubeconfig: Path) -> official.ApiClient:
    """Return the official client, configured by a kubeconfig."""
    made = official_config.new_client_from_config(str(kubeconfig))  # type: ignore[no-untyped-call]  # it has no types
    assert isinstance(made, official.ApiClient)
    return made


def test_a_deleted_namespace_goes_with_what_is_in_it(api: Api) -> None:
    path = "/api/v1/namespaces/short-lived"
    api.create("/api/v1/namespaces", {"metadata": {"name": "short-lived"}})
    queue = "/apis/queuelet.dev/v1alpha1/namespaces/short-lived/queues"
    api.create(queue, queue_object())
    api.delete(path)
    until(lambda: is_gone(api, path))
    assert is_gone(api, f"{queue}/orders")


def test_what_an_object_owns_goes_with_it(api: Api, namespace: str) -> None:
    path = CONFIG_MAPS.format(namespace)
    owner = api.create(path, {"metadata": {"name": "owner"}})["metadata"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["uid"]}
    api.create(path, {"metadata": {"name": "owned", "ownerReferences": [reference]}})
    api.delete(f"{path}/owner", propagationPolicy="Background")
    until(lambda: is_gone(api, f"{path}/owned"))


def test_aggregated_roles_are_filled(api: Api, namespace: str) -> None:
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    rule = {"apiGroups": ["queuelet.dev"], "resources": ["queues"], "verbs": ["get"]}
    labels = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    api.create(roles, {"metadata": {"name": namespace, "labels": labels}, "rules": [rule]})
    until(lambda: rule in (api.get(f"{roles}/view").get("rules") or []))
    api.delete(f"{roles}/{namespace}")
