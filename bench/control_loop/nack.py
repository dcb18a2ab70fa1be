"""NACK, the operator of NATS JetStream: built once from its Go module, like the programs of the control plane."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

from bench.errors import NotHere
from tools.control_plane import Api, ControlPlaneError, binaries, go

PROGRAM = "jetstream-controller"

_SOURCE = go.Source(
    module="github.com/nats-io/nack",
    version="v0.22.4",
    package="github.com/nats-io/nack/cmd/jetstream-controller",
    oldest_go="1.25.0",
)

NAME = f"NACK {_SOURCE.version}"


def built() -> Path:
    """Return the path of its controller, building it first if it is missing; raise `NotHere` if that fails."""
    place = binaries.cache() / f"nack-{_SOURCE.version}" / PROGRAM
    try:
        if not os.access(place, os.X_OK):
            go.check_version(_SOURCE, wanted_for=PROGRAM)
            with binaries.one_at_a_time():
                if not os.access(place, os.X_OK):
                    place.parent.mkdir(parents=True, exist_ok=True)
                    go.build(_SOURCE, place)
    except ControlPlaneError as error:
        raise NotHere(str(error)) from error
    return place


def definitions() -> list[dict[str, Any]]:
    """Return the CustomResourceDefinitions of its kinds; raise `NotHere` if its module is not available."""
    module = f"{_SOURCE.module}@{_SOURCE.version}"
    # The build has filled the module cache, so nothing is fetched twice.
    command = ["go", "mod", "download", "-json", module]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise NotHere("its definitions are in its Go module, but there is no Go on the PATH") from error
    if done.returncode:
        raise NotHere(f"{module} could not be downloaded: {done.stderr.strip() or done.stdout.strip()}")
    manifests = yaml.safe_load_all((Path(json.loads(done.stdout)["Dir"]) / "deploy" / "crds.yml").read_text())
    # One definition is no longer served, and the controller does not use it.
    return [each for each in manifests if each and any(version["served"] for version in each["spec"]["versions"])]


def define_kinds(api: Api, folder: Path) -> None:
    """Apply NACK's CustomResourceDefinitions from its module."""
    for number, definition in enumerate(definitions()):
        path = folder / f"definition-{number}.yaml"
        path.write_text(yaml.safe_dump(definition))
        api.define(path)
