"""OCI archives: what `ctr images import`, `podman load` and `skopeo` read. The same folders give the same bytes."""

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
"""How overlayfs marks a folder that hides the one below it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How a container of an image is run."""

    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = ""
    entrypoint: Sequence[str] = ()
    ports: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    def as_oci(self) -> dict[str, Any]:
        """Return them as an image's configuration has them."""
        told = {
            "Env": [f"{name}={value}" for name, value in self.environment.items()],
            "WorkingDir": self.folder,
            "User": self.user,
            "Entrypoint": list(self.entrypoint),
            "ExposedPorts": {port: {} for port in self.ports},
            "Labels": dict(self.labels),
        }
        return {name: value for name, value in told.items() if value}


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A tar file, and what it is known by."""

    path: Path
    digest: str
    size: int


def write_layer(folder: Path, path: Path) -> Layer:
    """Write the files of a folder as a layer. Where it is the upper folder of an overlay, so is what it takes away."""
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
    """Write an image of layers, the lowest first, and return the digest that it is known by."""
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
        # An image may have the same layer twice, an archive the same name only once.
        for layer in {layer.digest: layer for layer in layers}.values():
            entry = tarfile.TarInfo(f"blobs/sha256/{layer.digest}")
            entry.size = layer.size
            with layer.path.open("rb") as source:
                tar.addfile(entry, source)
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"


def _entries(top: Path) -> Iterator[tuple[tarfile.TarInfo, Path | None]]:
    """Yield what a layer has of a folder, in an order of its own: entries, and where the content of a file is."""
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
                continue  # A container's runtime makes the devices that it needs, and a socket has no content.
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
        # The time stays: Python takes compiled code only with a source as old as it was when that was compiled.
        entry.mode, entry.mtime = stat.S_IMODE(found.st_mode), int(found.st_mtime)
        entry.uid, entry.gid = found.st_uid, found.st_gid
    return entry


def _is_opaque(folder: str) -> bool:
    try:
        return os.getxattr(folder, _OPAQUE) == b"y"
    except OSError:
        return False


class _Digesting(io.RawIOBase):
    """Counts and digests what is written to a file."""

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


def _json(told: object) -> bytes:
    return json.dumps(told, sort_keys=True).encode()


def _put(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
