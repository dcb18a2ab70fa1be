"""A control plane for the chart, where helm may install cluster-wide objects without affecting other tests."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from support.kube_queues import KubeQueues
from support.programs import need
from support.workers import keep_on_one_worker
from tools.control_plane import Api, ApiError, ControlPlane, binaries
from tools.control_plane.go import module_folder

HERE = Path(__file__).parent
CRDS = HERE.parents[1] / "crds"

CLOUDNATIVE_PG = ("github.com/cloudnative-pg/cloudnative-pg", "v1.28.0")
"""The oldest release with which the chart's database works."""

NewNamespace = Callable[..., str]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests here on one worker, that of the cluster tests, because they share a control plane."""
    keep_on_one_worker(items, HERE, "cluster")


@pytest.fixture(scope="session")
def helm_is_there() -> None:
    """Fail if helm is missing. Building it would exceed a test's timeout."""
    need("helm")


@pytest.fixture(scope="session")
def chart_control_plane(helm_is_there: None) -> Iterator[ControlPlane]:
    """A control plane with our kind, and the kinds of others that the chart can create objects of."""
    need(*binaries.SERVERS)
    with ControlPlane() as started:
        for manifest in sorted(CRDS.glob("*.yaml")):
            started.api.define(manifest)
        for definition in yaml.safe_load_all((HERE / "foreign_kinds.yaml").read_text()):
            name = definition["metadata"]["name"]
            path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
            started.api.apply(path, definition, "tests")
        # CloudNativePG's own definition, because a Cluster has hundreds of fields with rules about each other.
        started.api.define(module_folder(*CLOUDNATIVE_PG) / "config/crd/bases/postgresql.cnpg.io_clusters.yaml")
        yield started
        started.check()


@pytest.fixture
def control_plane(chart_control_plane: ControlPlane) -> ControlPlane:
    """The same, for one test."""
    return chart_control_plane


@pytest.fixture
def api(control_plane: ControlPlane) -> Api:
    """The API server, as admin."""
    return control_plane.api


@pytest.fixture(scope="session")
def new_namespace(chart_control_plane: ControlPlane) -> Iterator[NewNamespace]:
    """Creates namespaces with labels, and deletes all of them at the end."""
    made: list[str] = []

    def make(**labels: str) -> str:
        name = f"chart-{secrets.token_hex(4)}"
        body = {"metadata": {"name": name, "labels": labels}}
        chart_control_plane.api.create("/api/v1/namespaces", body)
        made.append(name)
        return name

    yield make
    for name in made:
        with suppress(ApiError):
            chart_control_plane.api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def namespace(new_namespace: NewNamespace) -> str:
    """A new namespace."""
    return new_namespace()


@pytest.fixture
def kube(api: Api, namespace: str) -> KubeQueues:
    """The Queues of a new namespace."""
    return KubeQueues(api, namespace)
