"""The workflows of a public host: they use targets and files that exist, and have no more rights than they need."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.documents import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))

OF_RELEASE = {"packages", "id-token", "attestations", "contents"}

Workflow = dict[str, Any]


def read(path: Path) -> Workflow:
    # PyYAML reads the key `on` as a boolean.
    found: Workflow = yaml.safe_load(path.read_text())
    return found


def jobs(path: Path) -> list[Workflow]:
    return list(read(path)["jobs"].values())


def steps(path: Path) -> list[Workflow]:
    return [step for job in jobs(path) for step in job["steps"]]


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_actions_are_pinned_by_full_version_tags(workflow: Path) -> None:
    for step in steps(workflow):
        if "uses" in step:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@v\d+\.\d+\.\d+", step["uses"]), step["uses"]


def test_one_action_has_one_version_everywhere() -> None:
    pins = {step["uses"] for path in WORKFLOWS for step in steps(path) if "uses" in step}
    assert len(pins) == len({pin.partition("@")[0] for pin in pins})


def test_a_job_may_write_only_where_it_says_so_and_only_in_a_release(workflow: Path) -> None:
    assert set(read(workflow)["permissions"].items()) <= {("contents", "read")}
    for job in jobs(workflow):
        granted = {name for name, right in job.get("permissions", {}).items() if right == "write"}
        assert not granted or workflow.stem == "release"
        assert granted <= OF_RELEASE


def test_a_checkout_leaves_no_token_behind(workflow: Path) -> None:
    for step in steps(workflow):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_every_job_ends_after_a_time(workflow: Path) -> None:
    assert all("timeout-minutes" in job for job in jobs(workflow))


def test_only_targets_and_tools_are_run_that_there_are(workflow: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for step in steps(workflow):
        text = step.get("run", "")
        assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= targets
        for module in re.findall(r"python -m (tools\.\w+)", text):
            path = ROOT / module.replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").exists(), module


def test_the_quick_tests_run_on_every_python_that_is_supported() -> None:
    versions = read(ROOT / ".github/workflows/check.yaml")["jobs"]["quick"]["strategy"]["matrix"]["python"]
    assert versions == ["3.11", "3.12", "3.13", "3.14"]
    assert f'requires-python = ">={versions[0]}"' in (ROOT / "pyproject.toml").read_text()
