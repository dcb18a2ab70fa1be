"""The files with which the operator identifies itself to the queue server, and the expiry of their certificates."""

from __future__ import annotations

from queuelet.certificates import ExpiryWarnings, FileFigures, Validity, validity_of
from queuelet.client import Connection
from queuelet.client.cached_files import CachedFile
from queuelet.client.connection import files_of


class OperatorCredentials:
    """The operator's files with certificates and the token, and their problems."""

    def __init__(self, connection: Connection) -> None:
        self._files = files_of(connection)
        self._parsed: dict[str, tuple[bytes, Validity | None]] = {}
        """The content of each file with certificates, and when they are valid."""
        self._warnings = ExpiryWarnings()

    def check(self, now: float) -> None:
        """Reload the files and log problems of the certificates.

        Args:
            now: the time to check certificates against, in seconds since 1970.
        """
        self._warnings.check(self._validities(), now)

    def problems(self, now: float) -> list[str]:
        """Return the problems at a time in seconds since 1970, one sentence each."""
        sentences = [file.problem() for file in self._files.values()]
        sentences += [validity.problem(now) for validity in self._validities().values()]
        return [sentence for sentence in sentences if sentence]

    def figures(self) -> list[FileFigures]:
        """Return the figures for the metrics of each file."""
        validities = self._validities()
        return [
            FileFigures(
                file=str(file.path),
                role=role,
                is_stale=bool(file.problem()),
                expires_at=validities[role].not_after if role in validities else None,
            )
            for role, file in self._files.items()
        ]

    def _validities(self) -> dict[str, Validity]:
        found = {
            role: self._validity(role, self._files[role])
            for role in ("server-ca", "certificate")
            if role in self._files
        }
        return {role: validity for role, validity in found.items() if validity}

    def _validity(self, role: str, file: CachedFile) -> Validity | None:
        try:
            content = file.read()
        except (OSError, ValueError):
            return None  # `problems` reports it
        if self._parsed.get(role, (b"", None))[0] != content:
            self._parsed[role] = content, validity_of(content, str(file.path), is_chain=role == "certificate")
        return self._parsed[role][1]
