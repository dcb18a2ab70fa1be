"""Certificates, keys and tokens in files that may change while the server runs.

Kubernetes updates a mounted Secret by switching a symbolic link, so a file is reloaded when the target of its path has
changed. If the new content is unusable, the server logs it and continues with the last good one.
"""

from __future__ import annotations

import hmac
import ssl
from pathlib import Path
from threading import Lock
from time import monotonic

import structlog

from queuelet.certificates import ExpiryWarnings, FileFigures, Validity, validity_of
from queuelet.errors import Unauthenticated
from queuelet.reminders import Reminder
from queuelet.server.endpoint import Call

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
            _remind(self._reminder, self._why_stale())

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


class BearerToken:
    """Admits calls that carry the token in a file."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises OSError if that fails, ValueError if it is empty."""
        self.file = WatchedFile(path, "token")
        self.files = [self.file]
        self._reminder = Reminder()
        self._token = self.file.content.strip()
        if not self._token:
            raise ValueError(f"{path}: empty; write the token to it")

    def check(self, call: Call) -> None:
        """Raise `Unauthenticated` unless the call carries the token."""
        self.reload()
        scheme, _, token = call.metadata.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), self._token):
            raise Unauthenticated(
                "authorization: send the metadata 'authorization: Bearer <token>' with the server's token"
            )

    def reload(self) -> None:
        """Reload the file if it has changed. If it is empty, the last token stays in use."""
        if self.file.reload():
            self._token = self.file.content.strip() or self._token
        problem = self.file.unreadable
        if not problem and not self.file.content.strip():
            problem = f"{self.file.path}: empty; write the token to it: the last one stays in use"
        _remind(self._reminder, problem)

    @property
    def problem(self) -> str:
        """Why the token on disk is not the one in use; empty if it is."""
        return self._reminder.problem


class Credentials:
    """All files that identify the server or authenticate callers, and their problems."""

    def __init__(self, tls: TlsFiles | None, token: BearerToken | None) -> None:
        self.tls = tls
        self.token = token
        self._sources = [each for each in (tls, token) if each]
        self._warnings = ExpiryWarnings()

    def check(self, now: float) -> None:
        """Reload changed files, and log problems of files and certificates.

        Args:
            now: the time to check certificates against, in seconds since 1970.
        """
        for each in self._sources:
            each.reload()
        self._warnings.check(self._validities(), now)

    def problems(self, now: float) -> list[str]:
        """Return the problems at a time in seconds since 1970, one sentence each."""
        sentences = [each.problem for each in self._sources]
        sentences += [validity.problem(now) for validity in self._validities().values()]
        return [sentence for sentence in sentences if sentence]

    def figures(self) -> list[FileFigures]:
        """Return the figures for the metrics of each file."""
        validities = self._validities()
        files = [(each, file) for each in self._sources for file in each.files]
        return [
            FileFigures(
                file=str(file.path),
                role=file.role,
                is_stale=bool(each.problem),
                expires_at=validities[file.role].not_after if file.role in validities else None,
            )
            for each, file in files
        ]

    def _validities(self) -> dict[str, Validity]:
        known = self.tls.validities if self.tls else {}
        return {role: validity for role, validity in known.items() if validity}


def _remind(reminder: Reminder, problem: str) -> None:
    if reminder.is_due(problem, monotonic()):
        if problem:
            log.warning("credentials need attention", problem=problem)
        else:
            log.info("credentials are usable again")


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size
