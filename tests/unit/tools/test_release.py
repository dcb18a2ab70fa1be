"""A release is refused unless the tag, the versions and the changelog agree."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.documents import ROOT
from tools.release import notes, problems


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """A checkout that can be released as v1.2.3."""
    (tmp_path / "helm/queuelet").mkdir(parents=True)
    (tmp_path / "newsfragments").mkdir()
    shutil.copy(ROOT / "newsfragments/README.md", tmp_path / "newsfragments")
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (tmp_path / "helm/queuelet/Chart.yaml").write_text("version: 1.2.3\nappVersion: 1.2.3\n")
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## 1.2.3 (2027-01-02)\n\n### Fixed\n\n- Much.\n\n## 1.2.2 (2027-01-01)\n\n- Little.\n"
    )
    return tmp_path


def test_a_commit_whose_versions_and_changelog_agree_can_be_released(ready: Path) -> None:
    assert problems("v1.2.3", ready) == []


@pytest.mark.parametrize("tag", ["1.2.3", "v1.2", "v1.2.3-beta", "main"])
def test_a_tag_that_is_no_version_is_refused(ready: Path, tag: str) -> None:
    assert problems(tag, ready) == [
        f"tag: {tag!r} is not a release; use vMAJOR.MINOR.PATCH, with rcN behind it for a candidate"
    ]


def test_each_version_that_differs_is_named(ready: Path) -> None:
    found = problems("v1.2.4", ready)
    assert [each.partition(";")[0] for each in found] == [
        "pyproject.toml: version is 1.2.3",
        "helm/queuelet/Chart.yaml: version is 1.2.3",
        "helm/queuelet/Chart.yaml: appVersion is 1.2.3",
        "CHANGELOG.md: there is no section 1.2.4",
    ]


def test_fragments_that_are_not_in_the_changelog_are_named(ready: Path) -> None:
    (ready / "newsfragments/+more.added.md").write_text("More.\n")
    assert problems("v1.2.3", ready) == [
        "newsfragments/: 1 are not in the changelog, such as +more.added.md; run `make changelog`"
    ]


def test_the_notes_of_a_release_are_its_section_of_the_changelog(ready: Path) -> None:
    assert notes("v1.2.3", ready) == "### Fixed\n\n- Much."
    assert notes("v1.2.2", ready) == "- Little."
    assert notes("v9.9.9", ready) == ""
