"""The programs of a control plane: found on this machine, or built once from their Go modules."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.control_plane import go
from tools.control_plane.errors import ControlPlaneError
from tools.control_plane.steps import say

KUBERNETES = os.environ.get("QUEUELET_KUBERNETES") or "v1.34.4"
"""The release to build: `make test KUBERNETES=v1.36.3` selects another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Binary:
    """A program: its name, and its source."""

    name: str
    product: str
    """Its folder in the cache, in addition to the version."""
    source: go.Source
    is_a_users_tool: bool = False
    """Whether an installed one of any version will do."""


_ETCD = go.Source(
    module="go.etcd.io/etcd/server/v3", version="v3.6.16", package="go.etcd.io/etcd/server/v3", oldest_go="1.26.0"
)
_HELM = go.Source(
    module="helm.sh/helm/v4",
    version="v4.3.1",
    package="helm.sh/helm/v4/cmd/helm",
    oldest_go="1.26.0",
    variables={"helm.sh/helm/v4/internal/version.version": "v4.3.1"},
)
_COREDNS = go.Source(
    module="github.com/coredns/coredns", version="v1.15.0", package="github.com/coredns/coredns", oldest_go="1.26.0"
)


def _kubernetes(command: str) -> go.Source:
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    versions = {"gitVersion": KUBERNETES, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return go.Source(
        module="k8s.io/kubernetes",
        version=KUBERNETES,
        package=f"k8s.io/kubernetes/cmd/{command}",
        oldest_go="1.24.0",
        variables={
            f"k8s.io/{module}.{variable}": value
            for module in ("component-base/version", "client-go/pkg/version")
            for variable, value in versions.items()
        },
    )


SERVERS = ("etcd", "kube-apiserver", "kube-controller-manager")
"""The programs of a control plane."""

OF_A_NODE = ("kube-scheduler", "kubelet", "kube-proxy", "coredns")
"""The further programs of a node. Only the tests with a node need them: they take minutes more to build."""

BINARIES = {
    binary.name: binary
    for binary in (
        Binary(name="etcd", product="etcd", source=_ETCD),
        Binary(name="kube-apiserver", product="kubernetes", source=_kubernetes("kube-apiserver")),
        Binary(name="kube-controller-manager", product="kubernetes", source=_kubernetes("kube-controller-manager")),
        Binary(name="kubectl", product="kubernetes", source=_kubernetes("kubectl"), is_a_users_tool=True),
        Binary(name="helm", product="helm", source=_HELM, is_a_users_tool=True),
        Binary(name="kube-scheduler", product="kubernetes", source=_kubernetes("kube-scheduler")),
        Binary(name="kubelet", product="kubernetes", source=_kubernetes("kubelet")),
        Binary(name="kube-proxy", product="kubernetes", source=_kubernetes("kube-proxy")),
        Binary(name="coredns", product="coredns", source=_COREDNS),
    )
}
"""All programs."""


def cache() -> Path:
    """Return the cache of built programs, shared by all checkouts of this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "queuelet"


def find(name: str) -> Path | None:
    """Return a program's path, or None: in `$KUBEBUILDER_ASSETS`, the cache or, for users' tools, the PATH."""
    binary = BINARIES.get(name)
    if binary is None:
        raise ControlPlaneError(f"unknown program {name!r}; use one of {', '.join(BINARIES)}")
    candidates = [_place(binary)]
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        candidates.insert(0, Path(assets) / name)
    if binary.is_a_users_tool and (on_path := shutil.which(name)):
        candidates.append(Path(on_path))
    return next((path for path in candidates if os.access(path, os.X_OK)), None)


def get(name: str) -> Path:
    """Return the path of a program, building it first if it is missing.

    Two processes may need it at once: the second waits, and finds what the first has built.
    """
    if found := find(name):
        return found
    binary = BINARIES[name]
    go.check_version(binary.source, wanted_for=name)
    with one_at_a_time():
        if found := find(name):
            return found
        place = _place(binary)
        place.parent.mkdir(parents=True, exist_ok=True)
        for left_behind in place.parent.glob(f"{go.BUILDING}*"):
            shutil.rmtree(left_behind)
        go.build(binary.source, place)
        return place


def _place(binary: Binary) -> Path:
    return cache() / f"{binary.product}-{binary.source.version}" / binary.name


@contextmanager
def one_at_a_time(lock: str = "building.lock") -> Iterator[None]:
    """Hold a lock of the cache. The kernel releases it when its holder ends, however it ends."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / lock).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build is under way; waiting for it to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
