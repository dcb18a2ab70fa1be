"""Finds the files of the console: its page, its own files, and those of packages of npm."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from queuelet.console.assets import STATIC, VENDOR

INDEX = STATIC / "index.html"
"""The page, which loads everything else."""

FOLDERS: Mapping[str, Path] = {"app": STATIC / "app", "style": STATIC / "style", "vendor": VENDOR}
"""The folders that are served, by the first part of a path below `console/`."""

SUFFIXES = frozenset({".css", ".js", ".mjs", ".svg", ".woff2"})
"""The files that are served; no others are."""

_IMPORT_MAP = re.compile(rb'<script type="importmap">(.*?)</script>', re.DOTALL)


def find(path: str) -> Path | None:
    """Return the file at a path such as `app/main.mjs`, or None if there is none."""
    top, _, rest = path.partition("/")
    folder = FOLDERS.get(top)
    if folder is None or "\0" in rest or ".." in Path(rest).parts:
        return None
    file = folder / rest
    return file if file.suffix in SUFFIXES and file.is_file() else None


@lru_cache(maxsize=1)
def script_hash() -> str:
    """Return the hash of the page's import map, which is the only script in it, for a Content-Security-Policy."""
    found = _IMPORT_MAP.search(INDEX.read_bytes())
    text = found[1] if found else b""
    return "sha256-" + base64.b64encode(hashlib.sha256(text).digest()).decode()
