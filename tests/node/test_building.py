"""Building images without Docker: the parts that need root and Debian packages. No test here needs a node."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tools.image import machine

ROOT = Path(__file__).parents[2]
FROM = "FROM python:3.13-slim AS app\n"


@pytest.fixture(autouse=True)
def able() -> None:
    """Skip if the machine can't build images."""
    if reason := machine.why_not():
        pytest.skip(reason)


class Checkout:
    """A checkout with a Dockerfile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive = folder / "app.tar"

    def build(self, dockerfile: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Build its target `app`."""
        (self.folder / "Dockerfile").write_text(dockerfile)
        command = [sys.executable, "-m", "tools.image", "--target=app", "--tag=localhost/app:test"]
        return subprocess.run(
            [*command, f"--output={self.archive}", f"--checkout={self.folder}"],
            cwd=ROOT,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def layers(self) -> list[dict[str, str]]:
        """Return the contents of each layer, the lowest first: names, and targets of links."""
        found = []
        with tarfile.open(self.archive) as outer:
            for name in [name for name in outer.getnames() if name.startswith("blobs/")][2:]:
                blob = outer.extractfile(name)
                assert blob
                with tarfile.open(fileobj=io.BytesIO(blob.read())) as layer:
                    found.append({entry.name: entry.linkname for entry in layer})
        return found


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout with a folder of files."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "one").write_text("1")
    return Checkout(tmp_path)


def test_each_step_is_a_layer_of_what_it_changes(checkout: Checkout) -> None:
    changes = "echo 2 >files/two && rm files/one && rm /usr/bin/pip && ln -s two files/l"
    done = checkout.build(f"{FROM}WORKDIR /app\nCOPY files files\nRUN {changes}\n")
    assert done.returncode == 0, done.stderr
    base, folder, copied, ran = checkout.layers()
    assert {"usr/bin/pip", "usr/bin/python3", "etc/passwd"} <= set(base)
    assert set(folder) == {"app"}
    assert set(copied) == {"app", "app/files", "app/files/one"}
    changed = {name for name in ran if name.startswith(("app/files/", "usr/bin/"))}
    assert changed == {"app/files/.wh.one", "app/files/two", "app/files/l", "usr/bin/.wh.pip"}
    assert ran["app/files/l"] == "two"


def test_the_same_again_is_the_same_and_done_at_once(checkout: Checkout) -> None:
    steps = f"COPY files /files\nRUN date +%N >/when # {os.getpid()}\n"
    archives = []
    for _ in range(2):
        done = checkout.build(FROM + steps)
        assert done.returncode == 0, done.stderr
        archives.append(checkout.archive.read_bytes())
    assert archives[0] == archives[1]
    assert "RUN" not in done.stderr, "the step is cached"
    (checkout.folder / "files" / "one").write_text("changed")
    assert "RUN" in checkout.build(FROM + steps).stderr


def test_steps_have_what_the_machine_says_of_indexes_and_nothing_of_it_stays(checkout: Checkout) -> None:
    wheels = checkout.folder / "wheels"
    wheels.mkdir()
    (wheels / "known").write_text("")
    steps = (
        f"ENV PIP_RETRIES=7\nRUN test $PIP_RETRIES = 7 && test -e {wheels}/known && test $PIP_FIND_LINKS = {wheels} "
        "&& cat /etc/resolv.conf >/kept && ! touch /etc/resolv.conf && test -z $UV_PROJECT_ENVIRONMENT\n"
    )
    settings = {"PIP_FIND_LINKS": str(wheels), "PIP_RETRIES": "3", "UV_PROJECT_ENVIRONMENT": "/elsewhere"}
    done = checkout.build(FROM + steps, **settings)
    assert done.returncode == 0, done.stderr
    ran = checkout.layers()[-1]
    assert "kept" in ran
    assert set(ran) <= {"kept", "etc", "root", "tmp"}, "folders whose time has changed, and the file"
    with tarfile.open(checkout.archive) as archive:
        for entry in archive:
            content = archive.extractfile(entry)
            assert content is None or str(wheels).encode() not in content.read()


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        ("RUN echo why; false", "Dockerfile, line 2: RUN ended with exit code 1:\nwhy\n"),
        ("USER 7:8\nRUN touch /root/x", "Dockerfile, line 3: RUN ended with exit code 1:\ntouch: cannot touch"),
        ("COPY nothing /", "Dockerfile, line 2: no nothing in "),
        ("COPY secret /", "Dockerfile, line 2: .dockerignore excludes secret\n"),
        ("FROM debian AS app", "no substitute for the base image debian; use python:<version>\n"),
    ],
)
def test_a_step_that_fails_is_reported_and_leaves_nothing(checkout: Checkout, step: str, sentence: str) -> None:
    (checkout.folder / ".dockerignore").write_text("secret\n")
    (checkout.folder / "secret").write_text("")
    done = checkout.build(step if step.startswith("FROM") else f"{FROM}{step}\n")
    assert done.returncode == 1
    assert f"image: {sentence}" in done.stderr
    assert not checkout.archive.exists()
    assert "building." not in Path("/proc/self/mountinfo").read_text()
