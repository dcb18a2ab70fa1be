"""A real Kubernetes control plane for the tests in this directory, and a separate namespace for each of them."""

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
from support.programs import need
from support.rpc import Rpc
from support.server_process import ServerProcess
from tools.control_plane import Api, ApiError, ControlPlane, binaries

HERE = Path(__file__).parent
CRDS = HERE.parents[1] / "crds"

Kubectl = Callable[..., str]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of a file on one worker, because they share servers. Each worker has one control plane."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session")
def built() -> None:
    """Fail if a program is missing, because building it would take longer than a test may."""
    need(*binaries.SERVERS, "kubectl")


@pytest.fixture(scope="session")
def control_plane(built: None) -> Iterator[ControlPlane]:
    """A shared control plane with the CRDs. A test must not stop it, or change namespaces of other tests."""
    with ControlPlane() as started:
        for manifest in sorted(CRDS.glob("*.yaml")):
            started.api.define(manifest)
        yield started
        started.check()


@pytest.fixture
def api(control_plane: ControlPlane) -> Api:
    """A client of the API server with all permissions."""
    return control_plane.api


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A new namespace."""
    name = f"test-{secrets.token_hex(4)}"
    api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    remove_finalizers(api, name)
    # A test may have deleted it already. There is no need to wait for the deletion.
    with suppress(ApiError):
        api.delete(f"/api/v1/namespaces/{name}")


def remove_finalizers(api: Api, namespace: str) -> None:
    """Remove the finalizers of Queues whose operator stopped with the test.

    Otherwise the namespace controller would retry to delete them as long as the tests run.
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
    """Runs kubectl in the namespace and returns its output."""

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
    """A queue server that the tests of a file share. A test must not stop it, or change queues of other tests."""
    with ServerProcess() as process:
        yield process


@pytest.fixture(scope="session")
def release(control_plane: ControlPlane) -> Release:
    """The installed chart: operators in these tests have exactly the permissions of the chart's operator."""
    return Release(control_plane)


@pytest.fixture(scope="module")
def operator(release: Release, server: ServerProcess) -> Iterator[OperatorProcess]:
    """An operator that the tests of a file share, for the Queues of the class "default" in every namespace.

    It is stopped with the file, because it would conflict with operators for single namespaces in other files.
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
    """Starts operators and servers for this test only."""
    return Apart(release, kube)


@pytest.fixture
def own_server() -> Iterator[ServerProcess]:
    """A server that the test may stop."""
    with ServerProcess() as process:
        yield process


@pytest.fixture
def faulty(control_plane: ControlPlane, tmp_path: Path) -> Iterator[FaultyApi]:
    """A proxy in front of the API server."""
    with FaultyApi(control_plane, tmp_path) as started:
        yield started
