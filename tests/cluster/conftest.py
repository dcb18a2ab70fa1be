"""A real Kubernetes control plane for the tests here, and a namespace of its own for each test."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.apart import Apart, Release
from support.faulty_api import FaultyApi
from support.kube_queues import KubeQueues
from support.operator_process import OperatorProcess
from support.rpc import Rpc
from support.server_process import ServerProcess
from tools.control_plane import Api, ApiError, ControlPlane, binaries

HERE = Path(__file__).parent
CRDS = HERE.parents[1] / "crds"

Kubectl = Callable[..., str]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file on one worker, because they share servers. Each worker has one control plane."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session")
def built() -> None:
    """Fail if a program is missing. Building it would exceed a test's timeout."""
    missing = [name for name in (*binaries.SERVERS, "kubectl") if not binaries.find(name)]
    if missing:
        pytest.fail(f"{', '.join(missing)} must be built first: make test does it, or make binaries")


@pytest.fixture(scope="session")
def control_plane(built: None) -> Iterator[ControlPlane]:
    """A control plane with our kinds: no test may end it, or use namespaces that are not its own."""
    with ControlPlane() as started:
        for manifest in sorted(CRDS.glob("*.yaml")):
            started.api.define(manifest)
        yield started
        started.check()


@pytest.fixture
def api(control_plane: ControlPlane) -> Api:
    """The API server, as admin."""
    return control_plane.api


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A new namespace."""
    name = f"test-{secrets.token_hex(4)}"
    api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    let_go(api, name)
    # The end of the namespace is not waited for. A test may have deleted it already.
    with suppress(ApiError):
        api.delete(f"/api/v1/namespaces/{name}")


def let_go(api: Api, namespace: str) -> None:
    """Remove the finalizers of Queues whose operator ended with the test.

    Otherwise the namespace controller would retry to delete them for as long as the tests run.
    """
    queues = f"/apis/queuelet.dev/v1alpha1/namespaces/{namespace}/queues"
    for each in api.get(queues)["items"]:
        if each["metadata"].get("finalizers"):
            with suppress(ApiError):
                api.merge(f"{queues}/{each['metadata']['name']}", {"metadata": {"finalizers": []}})


@pytest.fixture
def queues(namespace: str) -> str:
    """The path of the Queues of the namespace."""
    return f"/apis/queuelet.dev/v1alpha1/namespaces/{namespace}/queues"


@pytest.fixture
def kubectl(control_plane: ControlPlane, namespace: str) -> Kubectl:
    """Runs kubectl in the namespace, as users do, and returns what it prints."""

    def run(*arguments: str) -> str:
        command = [str(binaries.get("kubectl")), f"--namespace={namespace}", *arguments]
        environment = os.environ | control_plane.environment
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


# The operator


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A queue server that the tests of a file share: none may end it, or use queues that are not its own."""
    with ServerProcess() as process:
        yield process


@pytest.fixture(scope="session")
def release(control_plane: ControlPlane) -> Release:
    """The chart, installed: operators here have exactly the rights that it grants."""
    return Release(control_plane)


@pytest.fixture(scope="module")
def operator(release: Release, server: ServerProcess) -> Iterator[OperatorProcess]:
    """An operator that the tests of a file share, for the Queues of the class "default" in every namespace.

    It stops after the file, because it would interfere with operators for a single namespace.
    """
    with OperatorProcess("--counts-every", "0.5", env=release.environment(server), quick_lease=False) as process:
        yield process
        assert process.stop() == 0
        assert not [line for line in process.log() if "exception" in line], "the operator logged no defect"


@pytest.fixture
def rpc(server: ServerProcess) -> Iterator[Rpc]:
    """A client of the shared server."""
    client = Rpc(server.address)
    yield client
    client.close()


@pytest.fixture
def kube(api: Api, namespace: str) -> KubeQueues:
    """The Queues of a new namespace."""
    return KubeQueues(api, namespace)


@pytest.fixture
def apart(release: Release, kube: KubeQueues) -> Apart:
    """Operators and servers of the test's own."""
    return Apart(release, kube)


@pytest.fixture
def own_server() -> Iterator[ServerProcess]:
    """A server that the test may end."""
    with ServerProcess() as process:
        yield process


@pytest.fixture
def faulty(control_plane: ControlPlane, tmp_path: Path) -> Iterator[FaultyApi]:
    """A proxy in front of the API server."""
    with FaultyApi(control_plane, tmp_path) as started:
        yield started
