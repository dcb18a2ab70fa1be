"""Certificates, keys and tokens in files that may change while the server runs.

Kubernetes renews a mounted Secret by switching a link, so a file is read again when what the path leads to has changed.
A renewal that cannot be used is logged, and what was there before stays in use.
"""

from __future__ import annotations

import hmac
from pathlib import Path

import structlog

from queuelet.errors import Unauthenticated
from queuelet.rpc import Call

log = structlog.get_logger()


class WatchedFile:
    """A file's content, read again when the file has changed."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises OSError where that fails."""
        self.path = path
        self._stamp = _stamp(path)
        self.content = path.read_bytes()

    def reload(self) -> bool:
        """Read the file again if it has changed; tell whether there is new content."""
        try:
            stamp = _stamp(self.path)
            if stamp == self._stamp:
                return False
            content = self.path.read_bytes()
        except OSError as error:
            log.warning("cannot read a file again, going on with what it held", file=str(self.path), error=str(error))
            return False
        self._stamp = stamp
        if not content.strip() or content == self.content:
            return False
        self.content = content
        log.info("read a changed file", file=str(self.path))
        return True


class TlsFiles:
    """The files of a TLS server: certificate, key, and for mutual TLS the authority that signs clients."""

    def __init__(self, certificate: Path, key: Path, client_authority: Path | None = None) -> None:
        """Read the files. Raises OSError where that fails."""
        self.certificate = WatchedFile(certificate)
        self.key = WatchedFile(key)
        self.client_authority = WatchedFile(client_authority) if client_authority else None

    def reload(self) -> bool:
        """Read again what has changed; tell whether anything has."""
        files = [self.certificate, self.key, self.client_authority]
        reloaded = [file.reload() for file in files if file]
        return any(reloaded)


class BearerToken:
    """Lets in calls that carry the token of a file."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises OSError where that fails, ValueError where it is empty."""
        self._file = WatchedFile(path)
        if not self._file.content.strip():
            raise ValueError(f"{path} is empty: put the token into it")

    def check(self, call: Call) -> None:
        """Raise `Unauthenticated` unless the call carries the token."""
        self._file.reload()
        scheme, _, token = call.metadata.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), self._file.content.strip()):
            raise Unauthenticated(
                "authorization: send the metadata 'authorization: Bearer <token>' with the server's token"
            )


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size
