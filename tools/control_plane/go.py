"""Builds programs from their Go modules, and reports progress."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.control_plane.errors import ControlPlaneError
from tools.control_plane.steps import say

BUILDING = "building."
"""Prefix of the folder of a build. A build that is killed leaves its folder behind."""

_PROGRESS = 15.0
"""Seconds between two lines of progress."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The source of a program."""

    module: str
    version: str
    package: str
    """The import path of its `main`."""
    oldest_go: str
    """The oldest Go that its module supports."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Variables set at link time: the version that the program prints."""


def check_version(source: Source, wanted_for: str) -> None:
    """Raise `ControlPlaneError` if this machine has no Go that can build the source."""
    need = f"{wanted_for} {source.version} is built from its Go module, which needs Go {source.oldest_go} or newer"
    if not shutil.which("go"):
        raise ControlPlaneError(
            f"{need}; there is no Go on the PATH. Install it (https://go.dev/dl/), "
            f"or set KUBEBUILDER_ASSETS to a folder that has {wanted_for}."
        )
    have = _output(["env", "GOVERSION"], Path.cwd())
    if _numbers(have) < _numbers(source.oldest_go):
        raise ControlPlaneError(f"{need}; this is {have.strip()}. Install a newer one: https://go.dev/dl/")


def build(source: Source, place: Path) -> None:
    """Build a program and move it to its place atomically. Raises `ControlPlaneError` with Go's output."""
    name = place.name
    say(f"building {name} {source.version} into {place.parent} (once; minutes)")
    began = time.monotonic()
    # In the same folder, so that the last step is a rename.
    with tempfile.TemporaryDirectory(prefix=BUILDING, dir=place.parent) as temporary:
        folder = Path(temporary)
        (folder / "go.mod").write_text(_go_mod(source, folder))
        flags = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in source.variables.items())])
        packages = len(_output(["list", "-deps", source.package], folder).split())
        _compile(["build", "-v", "-trimpath", "-ldflags", flags, "-o", name, source.package], folder, packages)
        (folder / name).rename(place)
    say(f"built {name} in {time.monotonic() - began:.0f} s, {place.stat().st_size / 2**20:.0f} MiB")


def module_folder(module: str, version: str) -> Path:
    """Return the folder with the files of a module, which Go downloads into its cache once."""
    with tempfile.TemporaryDirectory() as temporary:
        return Path(json.loads(_output(["mod", "download", "-json", f"{module}@{version}"], Path(temporary)))["Dir"])


def _go_mod(source: Source, folder: Path) -> str:
    """Return a go.mod of our own that requires the source's module.

    A program can't be built in its own module if that module replaces others by folders next to it, because its zip
    lacks those folders. Kubernetes also requires those modules as v0.0.0. They are published as v0.<minor>.<patch> of
    the release v1.<minor>.<patch>.
    """
    downloaded = json.loads(_output(["mod", "download", "-json", f"{source.module}@{source.version}"], folder))
    theirs = Path(downloaded["GoMod"]).read_text()
    staged = re.findall(r"^(?:replace)?\s+(\S+) => \./staging/", theirs, re.MULTILINE)
    staged_version = source.version.replace("v1.", "v0.", 1)
    versions = dict(re.findall(r"^(?:require)?\s+(\S+) (v\S+)", theirs, re.MULTILINE)) if staged else {}
    versions.update({source.module: source.version, **dict.fromkeys(staged, staged_version)})
    return "\n".join(
        [
            "module queuelet.dev/building",
            *re.findall(r"^go \S+$|^godebug .*$", theirs, re.MULTILINE),
            *(f"require {module} {version}" for module, version in versions.items()),
            *(f"replace {module} => {module} {staged_version}" for module in staged),
            "",
        ]
    )


def _compile(arguments: Sequence[str], folder: Path, packages: int) -> None:
    """Run go, and count the packages that it prints while it compiles them."""
    last, compiled, reported = deque[str](maxlen=30), 0, time.monotonic()
    with subprocess.Popen(
        ["go", *arguments], cwd=folder, env=_environment(), stderr=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        for line in process.stderr or ():
            last.append(line)
            compiled += not line.startswith("go: ")
            if time.monotonic() - reported >= _PROGRESS:
                reported = time.monotonic()
                say(f"  {compiled} packages compiled, of at most {packages}")
    if process.returncode:
        raise ControlPlaneError(f"go {arguments[0]} failed:\n{''.join(last)}")


def _output(arguments: Sequence[str], folder: Path) -> str:
    command = ["go", *arguments]
    done = subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ControlPlaneError(f"go {' '.join(arguments)} failed:\n{done.stdout[-1000:]}{done.stderr[-3000:]}")
    return done.stdout


def _environment() -> dict[str, str]:
    # -mod=mod: go adds the requirements that our go.mod leaves out. GOTOOLCHAIN=local: it must not download another Go.
    mine = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod -buildvcs=false", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    return {**os.environ, **mine}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
