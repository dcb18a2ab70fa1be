"""The console's files come from the packages of npm that its lock file names, with their licences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.console_assets import CONSOLE, FILES, VENDOR, VERSIONS, AssetsError, copy, folder_of


def test_files_are_copied_from_every_package_and_no_other() -> None:
    assert set(FILES) == set(json.loads((CONSOLE / "package.json").read_text())["dependencies"])


def test_the_lock_file_has_a_checksum_for_each_package_and_no_address() -> None:
    lock = json.loads((CONSOLE / "package-lock.json").read_text())["packages"]
    assert lock.pop("")["dependencies"] == json.loads((CONSOLE / "package.json").read_text())["dependencies"]
    assert [name for name, each in lock.items() if "integrity" not in each or "resolved" in each] == []


def test_make_sync_installs_each_file_and_its_licence() -> None:
    for package, files in FILES.items():
        for name in ("LICENSE", *files):
            assert (VENDOR / folder_of(package) / Path(name).name).is_file()
    lock = json.loads((CONSOLE / "package-lock.json").read_text())["packages"]
    versions = json.loads((VENDOR / VERSIONS).read_text())
    assert versions == {name: lock[f"node_modules/{name}"]["version"] for name in FILES}


def test_a_file_that_a_new_version_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "htm").mkdir()
    (tmp_path / "htm" / "LICENSE").touch()
    with pytest.raises(AssetsError, match=r"htm: this version has no dist/htm\.mjs; change FILES"):
        copy(tmp_path / "htm", tmp_path / "to", ["dist/htm.mjs"])
