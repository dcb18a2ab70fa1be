"""Certificates and keys of a server in files that may change while it runs.

Kubernetes updates a mounted Secret by switching a symbolic link, so a file is reloaded when the target of its path has
changed. If the new content is unusable, the server logs it and continues with the last good one.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Self

import structlog

from queuelet.certificates import validity_of
from queuelet.reminders import Reminder

log = structlog.get_logger()


class WatchedFile:
    """A file's content, reloaded when the file has changed."""

    def __init__(self, path: Path, role: str) -> None:
        """Read the file. Raises OSError if that fails."""
        self.path = path
        self.role = role
        """What the file is for: the label `role` in metrics."""
        self.unreadable = ""
        """Why the last attempt to read the file failed; empty if it succeeded."""
        self._stamp = _stamp(path)
        self.content = path.read_bytes()

    def reload(self) -> bool:
        """Reload the file if it has changed; return whether its content is new."""
        try:
            stamp = _stamp(self.path)
            if stamp == self._stamp:
                self.unreadable = ""
                return False
            content = self.path.read_bytes()
        except OSError as error:
            self.unreadable = f"{self.path}: cannot be read ({error.strerror}); its last good content stays in use"
            return False
        self.unreadable = ""
        self._stamp = stamp
        if content == self.content:
            return False
        self.content = content
        log.info("file reloaded", file=str(self.path))
        return True


class TlsFiles:
    """The files of a TLS server: certificate, key, and for mutual TLS the authority that signs client certificates."""

    def __init__(self, certificate: Path, key: Path, client_authority: Path | None = None) -> None:
        """Read the files. Raises OSError if that fails, ValueError if they cannot be used together."""
        roles = {"certificate": certificate, "key": key, "client-ca": client_authority}
        self.files = [WatchedFile(path, role) for role, path in roles.items() if path]
        self.version = 0
        """Grows each time new content is put to use."""
        self._unusable = ""
        self._reminder = Reminder()
        # gRPC calls `reload` from threads of its own.
        self._lock = Lock()
        self._use()

    @classmethod
    def of(cls, certificate: Path | None, key: Path | None, authority: Path | None, *, flags: str) -> Self | None:
        """Return the files that flags name, None if they name none.

        Args:
            certificate: the value of the flag for the certificate.
            key: that for its key.
            authority: that for the authority of clients.
            flags: what the flags begin with, such as `--tls`.

        Raises:
            OSError: a file cannot be read.
            ValueError: the flags or the files cannot be used together.
        """
        if certificate and key:
            return cls(certificate, key, authority)
        if certificate or key or authority:
            raise ValueError(f"{flags}-cert, {flags}-key: give both or neither; {flags}-client-ca needs both")
        return None

    def reload(self) -> None:
        """Reload files that have changed, and put them to use if they are valid. Thread-safe."""
        with self._lock:
            reloaded = [file.reload() for file in self.files]
            if any(reloaded):
                try:
                    self._use()
                    self._unusable = ""
                except ValueError as error:
                    self._unusable = f"{error}; replace the files: their last good content stays in use"
            remind(self._reminder, self._why_stale())

    @property
    def problem(self) -> str:
        """Why the files on disk are not the ones in use; empty if they are."""
        return self._reminder.problem

    def _why_stale(self) -> str:
        return next((file.unreadable for file in self.files if file.unreadable), self._unusable)

    def _use(self) -> None:
        certificate, key, *authority = self.files
        _check_tls(certificate.path, key.path, *(file.path for file in authority))
        self.certificate, self.key = certificate.content, key.content
        self.client_authority = authority[0].content if authority else None
        self.validities = {
            file.role: validity_of(file.content, str(file.path), is_chain=file is certificate)
            for file in (certificate, *authority)
        }
        """The validity of the certificates in use, by role; None if it is unknown."""
        self.version += 1


def _check_tls(certificate: Path, key: Path, authority: Path | None = None) -> None:
    """Raise ValueError unless the files hold a certificate, its key and, if given, an authority's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ValueError(f"{certificate} and {key}: not a certificate and its key: {error}") from None
    try:
        if authority:
            context.load_verify_locations(authority)
    except (ssl.SSLError, OSError) as error:
        raise ValueError(f"{authority}: no certificate of an authority in it: {error}") from None


def _no_password() -> str:
    raise ValueError("the key is encrypted with a password; use a key without one")


def remind(reminder: Reminder, problem: str) -> None:
    """Log the problem of a file if that is due, or that there is none any more."""
    if reminder.is_due(problem, monotonic()):
        if problem:
            log.warning("credentials need attention", problem=problem)
        else:
            log.info("credentials are usable again")


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size
