"""The files of the console, with their types, tags and compressed forms."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_HERE = Path(__file__).parent

FOLDERS: Mapping[str, Path] = {"app": _HERE / "static/app", "style": _HERE / "static/style", "vendor": _HERE / "vendor"}
"""The folders that are served, by the first part of a path below `console/`."""

INDEX = _HERE / "static/index.html"

TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
"""The types of files that are served; no others are."""

_PACKED = frozenset({".woff2"})
"""Files that gzip makes no smaller."""

_IMPORT_MAP = re.compile(rb'<script type="importmap">(.*?)</script>', re.DOTALL)


class File(NamedTuple):
    """A file as it is sent."""

    body: bytes
    packed: bytes | None
    """The body compressed with gzip; None if that makes it no smaller."""
    type: str
    tag: str
    """The value of `ETag`."""


class Files:
    """The files, each read when it is first asked for and again after it has changed."""

    def __init__(self, folders: Mapping[str, Path] = FOLDERS, index: Path = INDEX) -> None:
        """Make it for these folders; nothing is read yet."""
        self._folders = folders
        self._index = index
        self._read: dict[Path, tuple[tuple[int, int], File]] = {}

    def find(self, path: str) -> File | None:
        """Return the file at a path such as `app/main.mjs`, or None if there is none."""
        top, _, rest = path.partition("/")
        folder = self._folders.get(top)
        if folder is None:
            return None
        file = folder / rest
        if file.suffix not in TYPES or ".." in Path(rest).parts or not file.is_file():
            return None
        return self._load(file)

    def index(self) -> File:
        """Return the page that loads everything else."""
        return self._load(self._index)

    def script_hash(self) -> str:
        """Return the hash of the page's import map, which is the only script in it, for a Content-Security-Policy."""
        found = _IMPORT_MAP.search(self.index().body)
        text = found[1] if found else b""
        return "sha256-" + base64.b64encode(hashlib.sha256(text).digest()).decode()

    def _load(self, file: Path) -> File:
        stat = file.stat()
        version = (stat.st_mtime_ns, stat.st_size)
        known = self._read.get(file)
        if known and known[0] == version:
            return known[1]
        body = file.read_bytes()
        packed = None if file.suffix in _PACKED else gzip.compress(body, 9, mtime=0)
        found = File(body, packed, TYPES[file.suffix], f'"{hashlib.sha256(body).hexdigest()[:16]}"')
        self._read[file] = (version, found)
        return found
