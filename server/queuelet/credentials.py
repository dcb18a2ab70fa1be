"""Certificates, keys and tokens in files that may change while the server runs.

Kubernetes renews a mounted Secret by switching a link, so a file is read again when what the path leads to has changed.
A renewal that cannot be used is logged, and what was there before stays in use.
"""

from __future__ import annotations

import hmac
import ssl
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
        if content == self.content:
            return False
        self.content = content
        log.info("read a changed file", file=str(self.path))
        return True


class TlsFiles:
    """The files of a TLS server: certificate, key, and for mutual TLS the authority that signs clients."""

    def __init__(self, certificate: Path, key: Path, client_authority: Path | None = None) -> None:
        """Read the files. Raises OSError where that fails, ValueError where they cannot be used together."""
        self._files = [WatchedFile(path) for path in (certificate, key, client_authority) if path]
        self._use()

    def reload(self) -> bool:
        """Read again what has changed; tell whether there is something new to use."""
        reloaded = [file.reload() for file in self._files]
        if not any(reloaded):
            return False
        try:
            self._use()
        except ValueError as error:
            files = [str(file.path) for file in self._files]
            log.warning("cannot use a renewal, going on with what was there before", files=files, error=str(error))
            return False
        return True

    def _use(self) -> None:
        certificate, key, *authority = self._files
        _check_tls(certificate.path, key.path, *(file.path for file in authority))
        self.certificate, self.key = certificate.content, key.content
        self.client_authority = authority[0].content if authority else None


def _check_tls(certificate: Path, key: Path, authority: Path | None = None) -> None:
    """Raise ValueError unless the files hold a certificate, its key and an authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ValueError(f"{certificate} and {key} are not a certificate and its key: {error}") from None
    try:
        if authority:
            context.load_verify_locations(authority)
    except (ssl.SSLError, OSError) as error:
        raise ValueError(f"{authority} holds no certificate of an authority: {error}") from None


def _no_password() -> str:
    raise ValueError("the key has a password, which a server has nobody to ask for")


class BearerToken:
    """Lets in calls that carry the token of a file."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises OSError where that fails, ValueError where it is empty."""
        self._file = WatchedFile(path)
        self._token = self._file.content.strip()
        if not self._token:
            raise ValueError(f"{path} is empty: put the token into it")

    def check(self, call: Call) -> None:
        """Raise `Unauthenticated` unless the call carries the token."""
        if self._file.reload():
            self._renew()
        scheme, _, token = call.metadata.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), self._token):
            raise Unauthenticated(
                "authorization: send the metadata 'authorization: Bearer <token>' with the server's token"
            )

    def _renew(self) -> None:
        token = self._file.content.strip()
        if token:
            self._token = token
        else:
            log.warning("a file is empty, going on with the token it held", file=str(self._file.path))


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size
