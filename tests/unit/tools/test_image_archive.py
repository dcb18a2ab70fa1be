"""Layers and archives of images, and the semantics of COPY."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tools.image import copying
from tools.image.archive import Settings, write_archive, write_layer
from tools.image.building import build
from tools.image.errors import ImageError


def fill(folder: Path) -> Path:
    """Create a file of each kind."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "tool").write_text("a tool")
    (folder / "bin" / "tool").chmod(0o4755)
    (folder / "bin" / "same").hardlink_to(folder / "bin" / "tool")
    (folder / "bin" / "link").symlink_to("/bin/tool")
    os.utime(folder / "bin" / "tool", (1_000_000_000.5, 1_000_000_000.5))
    os.mkfifo(folder / "pipe")
    return folder


def test_a_layer_has_the_files_of_a_folder(tmp_path: Path) -> None:
    layer = write_layer(fill(tmp_path / "files"), tmp_path / "layer.tar")
    assert layer.digest == hashlib.sha256(layer.path.read_bytes()).hexdigest()
    assert layer.size == layer.path.stat().st_size
    with tarfile.open(layer.path) as tar:
        found = {entry.name: entry for entry in tar}
        assert list(found) == ["bin", "bin/link", "bin/same", "bin/tool"], "in an order of its own, without the pipe"
        assert tar.extractfile("bin/same") is not None
    assert (found["bin/link"].issym(), found["bin/link"].linkname) == (True, "/bin/tool")
    assert (found["bin/tool"].islnk(), found["bin/tool"].linkname) == (True, "bin/same")
    assert (found["bin/same"].mode, found["bin/same"].mtime) == (0o4755, 1_000_000_000)


def test_a_layer_lists_what_it_takes_away(tmp_path: Path) -> None:
    files = tmp_path / "files"
    (files / "replaced").mkdir(parents=True)
    try:
        os.mknod(files / "gone", stat.S_IFCHR, os.makedev(0, 0))
        os.setxattr(files / "replaced", "trusted.overlay.opaque", b"y")
    except (AttributeError, OSError) as error:
        pytest.skip(f"what overlayfs makes can't be made here: {error!r}")
    layer = write_layer(files, tmp_path / "layer.tar")
    with tarfile.open(layer.path) as tar:
        assert tar.getnames() == [".wh.gone", "replaced", "replaced/.wh..wh..opq"]


def test_the_same_files_give_the_same_archive(tmp_path: Path) -> None:
    files = fill(tmp_path / "files")
    settings = Settings(environment={"PATH": "/bin"}, user="7:8", entrypoint=["tool"])
    archives = []
    for name in ("first", "second"):
        layer = write_layer(files, tmp_path / f"{name}.layer")
        write_archive(tmp_path / name, "localhost/tool:dev", [layer, layer], settings)
        archives.append((tmp_path / name).read_bytes())
    assert archives[0] == archives[1]


def test_an_archive_is_whole(tmp_path: Path) -> None:
    layer = write_layer(fill(tmp_path / "files"), tmp_path / "layer")
    digest = write_archive(tmp_path / "archive", "localhost:5000/tool:dev", [layer], Settings(user="7:8"))
    with tarfile.open(tmp_path / "archive") as tar:
        contents = {entry.name: content.read() for entry in tar if (content := tar.extractfile(entry))}
    blobs = {name.rpartition("/")[2]: blob for name, blob in contents.items() if name.startswith("blobs/sha256/")}
    assert {digest: hashlib.sha256(blob).hexdigest() for digest, blob in blobs.items()} == {
        each: each for each in blobs
    }

    def described(entry: dict[str, Any]) -> bytes:
        blob = blobs[entry["digest"].removeprefix("sha256:")]
        assert len(blob) == entry["size"]
        return blob

    assert json.loads(contents["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(contents["index.json"])["manifests"]
    assert entry["digest"] == digest
    assert entry["annotations"]["io.containerd.image.name"] == "localhost:5000/tool:dev"
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "dev"
    manifest = json.loads(described(entry))
    assert described(manifest["layers"][0]) == layer.path.read_bytes()
    config = json.loads(described(manifest["config"]))
    assert config["rootfs"]["diff_ids"] == [f"sha256:{layer.digest}"]
    assert config["config"] == {"User": "7:8", "WorkingDir": "/"}


# COPY


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A checkout with files to copy."""
    top = tmp_path / "checkout"
    (top / "folder" / "deep").mkdir(parents=True)
    (top / "folder" / "deep" / "file").write_text("deep")
    (top / "folder" / "ignored").write_text("ignored")
    (top / "folder" / "link").symlink_to("deep/file")
    (top / "file").write_text("a file")
    return top


def kept(path: str) -> bool:
    """Return whether to keep a path, like .dockerignore."""
    return "ignored" not in path


@pytest.mark.skipif(os.geteuid() != 0, reason="root owns the copies")
def test_copy_puts_files_where_docker_does(sources: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    copying.copy(sources, ["folder"], root, "/app/folder", kept)
    copying.copy(sources, ["folder", "file"], root, "/several/", kept)
    copying.copy(sources, ["file"], root, "/renamed", kept)
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()) == [
        "app/folder/deep/file",
        "app/folder/link",
        "renamed",
        "several/deep/file",
        "several/file",
        "several/link",
    ]
    assert (root / "several" / "link").readlink() == Path("deep/file")
    assert (root / "renamed").stat().st_mtime == (sources / "file").stat().st_mtime


def test_only_what_is_copied_makes_a_difference(sources: Path) -> None:
    before = copying.digest(sources, ["folder", "file"], kept)
    (sources / "folder" / "ignored").write_text("other")
    os.utime(sources / "file", (0, 0))
    assert copying.digest(sources, ["folder", "file"], kept) == before
    (sources / "file").chmod(0o700)
    with_mode = copying.digest(sources, ["folder", "file"], kept)
    (sources / "folder" / "deep" / "file").write_text("changed")
    assert len({before, with_mode, copying.digest(sources, ["folder", "file"], kept)}) == 3


def test_a_user_who_is_not_root_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(ImageError, match="building an image needs root"):
        build(tmp_path, "server", tmp_path / "out.tar", "localhost/a:b")
