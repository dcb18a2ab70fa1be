"""How the programs of a control plane are found and built, with a script instead of Go, which takes minutes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.patience import patient
from tools.control_plane import ControlPlaneError, binaries

ROOT = Path(__file__).parents[2]

GO = """#!/bin/sh
case "$1 $2" in
  "env GOVERSION") echo go{version} ;;
  "mod download") echo '{{"GoMod": "{theirs}"}}' ;;
  "list -deps") echo one two three ;;
  "build -v")
    echo one >&2
    {build}
    while [ "$1" != -o ]; do shift; done
    echo built >>"{built}"
    cp go.mod "{built}.mod"
    printf '#!/bin/sh\\n' >"$2"
    chmod +x "$2" ;;
esac
"""

STAGED = """module k8s.io/kubernetes

go 1.24.0

godebug default=go1.24

require (
\tgithub.com/some/thing v1.2.3 // indirect
\tk8s.io/api v0.0.0
)

replace k8s.io/api => ./staging/src/k8s.io/api
replace (
\tk8s.io/client-go => ./staging/src/k8s.io/client-go
)
"""


class FakeGo:
    """A fake `go` that builds at once, and counts its builds."""

    def __init__(self, folder: Path, version: str = "1.99.1", theirs: str = "go 1.26.0\n", build: str = ":") -> None:
        self.folder = folder
        self.built = folder / "built"
        (folder / "bin").mkdir()
        (folder / "their.mod").write_text(theirs)
        go = folder / "bin" / "go"
        go.write_text(GO.format(version=version, theirs=folder / "their.mod", build=build, built=self.built))
        go.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a process that uses the fake, with an empty cache."""
        path = f"{self.folder / 'bin'}:/usr/bin:/bin"
        return {**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache"), "PATH": path, "KUBEBUILDER_ASSETS": ""}

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make this process use the fake."""
        for name in ("XDG_CACHE_HOME", "PATH", "KUBEBUILDER_ASSETS"):
            monkeypatch.setenv(name, self.environment[name])


def test_a_program_is_built_once_and_then_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = FakeGo(tmp_path)
    go.use(monkeypatch)
    assert binaries.find("etcd") is None
    place = tmp_path / "cache" / "queuelet" / "etcd-v3.6.16" / "etcd"
    (place.parent / "building.killed").mkdir(parents=True)
    assert [binaries.get("etcd"), binaries.get("etcd"), binaries.find("etcd")] == [place] * 3
    assert go.built.read_text() == "built\n"
    assert [path.name for path in place.parent.iterdir()] == ["etcd"]


def test_two_builds_at_once_are_one(tmp_path: Path) -> None:
    go = FakeGo(tmp_path, build="sleep 0.5")
    command = [sys.executable, "-m", "tools.control_plane", "build", "etcd"]
    two = [
        subprocess.Popen(
            command, cwd=ROOT, env=go.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=patient(30)) for process in two]
    assert [process.returncode for process in two] == [0, 0], outputs
    assert len({printed for printed, _ in outputs}) == 1
    assert go.built.read_text() == "built\n"


def test_a_module_that_replaces_others_by_folders_is_built_with_their_releases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeGo(tmp_path, theirs=STAGED).use(monkeypatch)
    binaries.get("kube-apiserver")
    staged = binaries.KUBERNETES.replace("v1.", "v0.", 1)
    assert (tmp_path / "built.mod").read_text().splitlines() == [
        "module queuelet.dev/building",
        "go 1.24.0",
        "godebug default=go1.24",
        "require github.com/some/thing v1.2.3",
        f"require k8s.io/api {staged}",
        f"require k8s.io/kubernetes {binaries.KUBERNETES}",
        f"require k8s.io/client-go {staged}",
        f"replace k8s.io/api => k8s.io/api {staged}",
        f"replace k8s.io/client-go => k8s.io/client-go {staged}",
    ]


def test_a_failed_build_shows_the_error_of_go_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeGo(tmp_path, build="echo no space left >&2; exit 1").use(monkeypatch)
    with pytest.raises(ControlPlaneError, match="go build failed:\none\nno space left"):
        binaries.get("etcd")
    assert list((tmp_path / "cache" / "queuelet" / "etcd-v3.6.16").iterdir()) == []


def test_an_older_go_is_refused_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGo(tmp_path, version="1.25.9").use(monkeypatch)
    with pytest.raises(ControlPlaneError, match=r"etcd v3\.6\.16 .* needs Go 1\.26\.0 or newer; this is go1\.25"):
        binaries.get("etcd")
    assert not (tmp_path / "cache").exists()


def test_a_missing_go_is_reported_with_what_to_do(tmp_path: Path) -> None:
    environment = {**FakeGo(tmp_path).environment, "PATH": "/nowhere"}
    command = [sys.executable, "-m", "tools.control_plane", "build", "kube-apiserver"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"control plane: kube-apiserver {binaries.KUBERNETES} is built from its Go module, which needs Go 1.24.0 or "
        "newer; there is no Go on the PATH. Install it (https://go.dev/dl/), or set KUBEBUILDER_ASSETS to a folder "
        "that has kube-apiserver.\n"
    )


def test_programs_of_the_users_own_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = FakeGo(tmp_path)
    go.use(monkeypatch)
    built = binaries.get("etcd")
    assets = tmp_path / "assets"
    assets.mkdir()
    (assets / "etcd").symlink_to("/bin/true")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    assert binaries.find("etcd") == assets / "etcd"
    (assets / "etcd").unlink()
    assert binaries.find("etcd") == built


def test_tools_that_are_installed_are_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = FakeGo(tmp_path)
    go.use(monkeypatch)
    for name in ("helm", "etcd"):
        (tmp_path / "bin" / name).symlink_to("/bin/true")
    assert binaries.get("helm") == tmp_path / "bin" / "helm"
    assert binaries.get("etcd") != tmp_path / "bin" / "etcd", "a server must be of the version that is asked for"


def test_a_missing_program_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ControlPlaneError, match="unknown program 'kubeadm'; use one of etcd, kube-apiserver"):
        binaries.find("kubeadm")
