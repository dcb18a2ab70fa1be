"""A real node for the tests here, with our images, and a namespace of its own for each test.

`make test` excludes this folder: `make test-node` runs it, if the machine can run a node.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from support.programs import need
from support.workers import keep_on_one_worker
from tools.control_plane import Api, binaries
from tools.image.dockerfile import parse
from tools.node import Node, why_not

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CRDS = ROOT / "crds"

Command = Callable[..., str]

TIMEOUT = 600.0
"""Timeout of a test in seconds, because the first one waits for the images and the node."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests here on one worker, because they share a node, and set their timeout."""
    keep_on_one_worker(items, HERE, "node", timeout=TIMEOUT)


@pytest.fixture(scope="session")
def able() -> None:
    """Skip if the machine can't run a node; fail if a program is missing that takes minutes to build."""
    if reason := why_not():
        pytest.skip(reason)
    need(*binaries.SERVERS, *binaries.OF_A_NODE, "kubectl", "helm", made_by="make test-node does it")


@pytest.fixture(scope="session")
def images() -> Mapping[str, str]:
    """The image name of each target of the Dockerfile. Only the node has them, so imagePullPolicy can't be Always."""
    targets = parse((ROOT / "Dockerfile").read_text()).targets()
    return {target.name: f"localhost/queuelet-{target.name}:node" for target in targets}


@pytest.fixture(scope="session")
def archives(able: None, images: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The images, built."""
    folder = tmp_path_factory.mktemp("images")
    for target, tag in images.items():
        output = folder / f"{target}.tar"
        command = [sys.executable, "-m", "tools.image", f"--target={target}", f"--output={output}", f"--tag={tag}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return sorted(folder.iterdir())


@pytest.fixture(scope="session")
def node(archives: list[Path]) -> Iterator[Node]:
    """A node with our images and kinds: no test may end it, or use namespaces that are not its own."""
    with Node(archives) as started:
        for manifest in sorted(CRDS.glob("*.yaml")):
            started.api.define(manifest)
        yield started
        started.check()


@pytest.fixture
def api(node: Node) -> Api:
    """The API server, as admin."""
    return node.api


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A new namespace."""
    name = f"test-{secrets.token_hex(4)}"
    api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    # The end of the namespace is not waited for.
    api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def kubectl(node: Node, namespace: str) -> Command:
    """Runs kubectl in the namespace, as users do, and returns its output. `stdin` is its standard input."""
    return _runner(node, "kubectl", namespace)


@pytest.fixture
def helm(node: Node, namespace: str, tmp_path: Path) -> Command:
    """Runs helm in the namespace, as users do, and returns its output."""
    own = {f"HELM_{kind}_HOME": str(tmp_path / "helm" / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
    return _runner(node, "helm", namespace, own)


def _runner(node: Node, program: str, namespace: str, more: Mapping[str, str] | None = None) -> Command:
    environment = os.environ | node.environment | dict(more or {})

    def run(*arguments: str, stdin: str | None = None) -> str:
        command = [str(binaries.get(program)), f"--namespace={namespace}", *arguments]
        done = subprocess.run(command, env=environment, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{program} {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    return run
