"""The bearer token of a server, and all files that identify it or authenticate its callers."""

from __future__ import annotations

import hmac
from pathlib import Path

import structlog

from queuelet.bearer_tokens import token_in
from queuelet.certificates import ExpiryWarnings, FileFigures, Validity
from queuelet.errors import Unauthenticated
from queuelet.reminders import Reminder
from queuelet.server.endpoint import Call
from queuelet.tls_files import TlsFiles, WatchedFile, remind

log = structlog.get_logger()


class BearerToken:
    """Admits calls that carry the token in a file."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises OSError if that fails, ValueError if its content is not usable as a token."""
        self.file = WatchedFile(path, "token")
        self.files = [self.file]
        self._reminder = Reminder()
        self._unusable = ""
        self._token = token_in(path, self.file.content)

    def check(self, call: Call) -> None:
        """Raise `Unauthenticated` unless the call carries the token."""
        self.reload()
        scheme, _, token = call.metadata.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), self._token):
            raise Unauthenticated(
                "authorization: send the metadata 'authorization: Bearer <token>' with the server's token"
            )

    @property
    def current(self) -> str:
        """The token in use."""
        return self._token.decode()

    def reload(self) -> None:
        """Reload the file if it has changed. If its content is not usable as a token, the last token stays in use."""
        if self.file.reload():
            try:
                self._token = token_in(self.file.path, self.file.content)
                self._unusable = ""
            except ValueError as error:
                self._unusable = f"{error}: the last one stays in use"
        remind(self._reminder, self.file.unreadable or self._unusable)

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
