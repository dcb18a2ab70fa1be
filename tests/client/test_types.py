"""A user's program type-checks against the installed package, strictly and by two checkers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("typed_program.py")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A copy of the program in a folder of its own, out of reach of the settings here."""
    copied = tmp_path / "program.py"
    copied.write_text(PROGRAM.read_text())
    return copied


def check(program: Path, *command: str) -> None:
    """Run a type checker in the program's folder."""
    done = subprocess.run(
        [sys.executable, "-m", *command, str(program)], check=False, cwd=program.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_mypy_finds_nothing_but_the_errors_that_are_expected(program: Path) -> None:
    """Expected ones stand in the program as ignored, and one that is not needed is an error too."""
    check(program, "mypy", "--strict", "--config-file=", f"--cache-dir={program.parent / 'cache'}")


@pytest.mark.timeout(300)
def test_pyright_finds_nothing_but_the_errors_that_are_expected(program: Path) -> None:
    """By the build of it that brings all it runs on."""
    settings: dict[str, object] = {"typeCheckingMode": "strict", "reportUnnecessaryTypeIgnoreComment": "error"}
    settings |= {"enableTypeIgnoreComments": False, "reportExplicitAny": False}
    (program.parent / "pyrightconfig.json").write_text(json.dumps(settings))
    check(program, "basedpyright", "--pythonpath", sys.executable, "--level", "error")
