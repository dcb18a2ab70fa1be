"""Writes OCI archives, for `ctr images import`, `podman load` and `skopeo`. The same folders give the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

_MEDIA = "application/vnd.oci.image"
_EPOCH = "1970-01-01T00:00:00Z"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_OPAQUE = "trusted.overlay.opaque"
"""The extended attribute that marks a folder of an overlay as opaque: it hides the one below it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The configuration of an image's containers."""

    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = ""
    entrypoint: Sequence[str] = ()
    ports: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    def as_oci(self) -> dict[str, Any]:
        """Return it in the form of an image's configuration."""
        fields = {
            "Env": [f"{name}={value}" for name, value in self.environment.items()],
            "WorkingDir": self.folder,
            "User": self.user,
            "Entrypoint": list(self.entrypoint),
            "ExposedPorts": {port: {} for port in self.ports},
            "Labels": dict(self.labels),
        }
        return {name: value for name, value in fields.items() if value}


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A tar file, its digests and its size."""

    path: Path
    digest: str
    size: int


def write_layer(folder: Path, path: Path) -> Layer:
    """Write the files of a folder as a layer. If it is the upper folder of an overlay, include its deletions."""
    with path.open("wb") as file:
        written = _Digesting(file)
        with tarfile.open(fileobj=written, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            for entry, content in _entries(folder):
                if content is None:
                    tar.addfile(entry)
                else:
                    with content.open("rb") as source:
                        tar.addfile(entry, source)
    return Layer(path=path, digest=written.hash.hexdigest(), size=written.size)


def write_archive(path: Path, tag: str, layers: Sequence[Layer], settings: Settings) -> str:
    """Write an image of layers, the lowest first, and return its digest."""
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    config = _json(
        {
            "architecture": architecture,
            "os": "linux",
            "created": _EPOCH,
            "config": settings.as_oci(),
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in layers]},
            "history": [{"created": _EPOCH} for _ in layers],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{_MEDIA}.manifest.v1+json",
            "config": _described(config, "config.v1+json"),
            "layers": [
                {"mediaType": f"{_MEDIA}.layer.v1.tar", "digest": f"sha256:{layer.digest}", "size": layer.size}
                for layer in layers
            ],
        }
    )
    described = {
        **_described(manifest, "manifest.v1+json"),
        "platform": {"architecture": architecture, "os": "linux"},
        "annotations": {
            "io.containerd.image.name": tag,
            "org.opencontainers.image.ref.name": tag.rpartition(":")[2],
        },
    }
    index = {"schemaVersion": 2, "mediaType": f"{_MEDIA}.index.v1+json", "manifests": [described]}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        _put(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _put(tar, "index.json", _json(index))
        for blob in (config, manifest):
            _put(tar, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)
        # An image may have the same layer twice, but an archive holds each name only once.
        for layer in {layer.digest: layer for layer in layers}.values():
            entry = tarfile.TarInfo(f"blobs/sha256/{layer.digest}")
            entry.size = layer.size
            with layer.path.open("rb") as source:
                tar.addfile(entry, source)
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"


def _entries(top: Path) -> Iterator[tuple[tarfile.TarInfo, Path | None]]:
    """Yield the entries of a layer of a folder, sorted, and the path of each file's content."""
    linked: dict[tuple[int, int], str] = {}
    for folder, folders, files in os.walk(top):
        folders.sort()
        if Path(folder) != top and _is_opaque(folder):
            yield _entry(f"{os.path.relpath(folder, top)}/.wh..wh..opq"), None
        for name in sorted([*folders, *files]):
            path = Path(folder, name)
            found = path.lstat()
            entry = _entry(str(path.relative_to(top)), found)
            if stat.S_ISLNK(found.st_mode):
                entry.type, entry.linkname = tarfile.SYMTYPE, str(path.readlink())
            elif stat.S_ISDIR(found.st_mode):
                entry.type = tarfile.DIRTYPE
            elif stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
                entry = _entry(str(path.relative_to(top).with_name(f".wh.{name}")))
            elif not stat.S_ISREG(found.st_mode):
                continue  # the container runtime creates devices, and a socket has no content
            elif (found.st_dev, found.st_ino) in linked:
                entry.type, entry.linkname = tarfile.LNKTYPE, linked[found.st_dev, found.st_ino]
            else:
                linked[found.st_dev, found.st_ino] = entry.name
                entry.size = found.st_size
                yield entry, path
                continue
            yield entry, None


def _entry(name: str, found: os.stat_result | None = None) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    if found:
        # Keep the time, because Python uses compiled code only if its source has the time recorded in it.
        entry.mode, entry.mtime = stat.S_IMODE(found.st_mode), int(found.st_mtime)
        entry.uid, entry.gid = found.st_uid, found.st_gid
    return entry


def _is_opaque(folder: str) -> bool:
    try:
        return os.getxattr(folder, _OPAQUE) == b"y"
    except OSError:
        return False


class _Digesting(io.RawIOBase):
    """Counts and hashes the bytes that are written to a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, data: Any, /) -> int:  # noqa: ANN401  # any buffer, as RawIOBase has it
        """Write data."""
        self.hash.update(data)
        self.size += len(data)
        return self._file.write(data)


def _described(blob: bytes, kind: str) -> dict[str, Any]:
    digest = hashlib.sha256(blob).hexdigest()
    return {"mediaType": f"{_MEDIA}.{kind}", "digest": f"sha256:{digest}", "size": len(blob)}


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _put(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
