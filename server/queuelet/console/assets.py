"""The files of the pages: our own, and those of packages of npm.

They are sent compressed, and only once to each browser as long as they do not change.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from aiohttp import ETag, hdrs, web

from queuelet.web.connections import HttpConnections

VENDOR = Path(__file__).with_name("vendor")
"""The files of packages of npm, in a folder for each package. `make console-assets` makes it."""

STATIC = Path(__file__).with_name("static")
"""Our own files."""

INDEX = STATIC / "index.html"
"""The console's page, which loads everything else."""

FOLDERS: Mapping[str, Path] = {"app": STATIC / "app", "style": STATIC / "style", "vendor": VENDOR}
"""The folders that are served, by the first part of a path below `console/`."""

SUFFIXES = frozenset({".css", ".js", ".mjs", ".svg", ".woff2"})
"""The files in them that are served; no others are."""

_IMPORT_MAP = re.compile(rb'<script type="importmap">(.*?)</script>', re.DOTALL)

_PIECE = 64 * 1024
"""The most bytes that are written at once, so that a slow reader is not taken for a stalled one."""

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}

_COMPRESSED_ALREADY = {".woff2"}

_HEADERS: Mapping[str, str] = {
    # The browser asks each time whether its copy is still valid, so that a page never mixes files of two versions.
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A file in the form in which it is sent."""

    body: bytes
    is_compressed: bool
    etag: str
    content_type: str


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


def load(path: Path, *, compressed: bool) -> Asset:
    """Read a file, unless it was read before. Raises `FileNotFoundError` if it was not installed."""
    return _load(path, path.stat().st_mtime_ns, compressed=compressed)


@lru_cache(maxsize=256)
def _load(path: Path, modified: int, *, compressed: bool) -> Asset:  # noqa: ARG001  # part of the key
    body = path.read_bytes()
    # By content, because the times of installed files say nothing about their version.
    etag = hashlib.sha256(body).hexdigest()[:32]
    kind = _TYPES[path.suffix]
    if not compressed or path.suffix in _COMPRESSED_ALREADY:
        return Asset(body=body, is_compressed=False, etag=etag, content_type=kind)
    # Compressed and not compressed are two representations, which must not have the same tag.
    return Asset(body=gzip.compress(body, mtime=0), is_compressed=True, etag=f"{etag}-gzip", content_type=kind)


async def respond(
    request: web.Request, path: Path, connections: HttpConnections, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Send a file, or 304 if the browser has it.

    Args:
        request: the request.
        path: the file.
        connections: notes when the client reads.
        headers: more headers.
    """
    compressed = "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "")
    asset = await asyncio.to_thread(load, path, compressed=compressed)
    known = request.if_none_match or ()
    if any(each.value in {asset.etag, "*"} for each in known):
        response = web.StreamResponse(status=304, headers={**_HEADERS, **headers})
        response.etag = asset.etag
        await response.prepare(request)
        return response
    response = web.StreamResponse(headers={**_HEADERS, **headers, hdrs.CONTENT_TYPE: asset.content_type})
    response.etag = ETag(asset.etag)
    if asset.is_compressed:
        response.headers[hdrs.CONTENT_ENCODING] = "gzip"
    response.content_length = len(asset.body)
    await response.prepare(request)
    if request.method != hdrs.METH_HEAD:
        for start in range(0, len(asset.body), _PIECE):
            with connections.writing(request):
                await response.write(asset.body[start : start + _PIECE])
    await response.write_eof()
    return response
