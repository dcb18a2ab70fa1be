"""Reads from when to when certificates are valid, and words the warnings before they expire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

log = structlog.get_logger()

DAY = 86_400

THRESHOLDS = (0, 1, 7, 30)
"""Remaining days of a certificate's validity at which a warning is logged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Validity:
    """The time in which all certificates of a file are valid, in seconds since 1970."""

    file: str
    not_before: float
    not_after: float

    def threshold(self, now: float) -> int | None:
        """Return the lowest of `THRESHOLDS` that was reached, or None; 0 if a certificate is not valid yet."""
        if now < self.not_before:
            return 0
        return next((days for days in THRESHOLDS if self.not_after - now <= days * DAY), None)

    def problem(self, now: float) -> str:
        """Return a sentence about what is wrong; empty if the certificate is valid for more than 30 days."""
        if now < self.not_before:
            return f"{self.file}: the certificate is not valid before {_date(self.not_before)}; check it and the clock"
        if self.threshold(now) == 0:
            return f"{self.file}: the certificate expired at {_date(self.not_after)}; replace it"
        if self.threshold(now) is not None:
            return f"{self.file}: the certificate expires at {_date(self.not_after)}; replace it before then"
        return ""


def validity_of(pem: bytes, file: str, *, is_chain: bool) -> Validity | None:
    """Return when the certificates of a PEM file are valid, or None if they cannot be parsed.

    A chain is valid while every certificate in it is valid; for a list of authorities, one valid certificate is enough.
    """
    # Imported here because it takes about 10 MB, which a server without TLS can save.
    from cryptography import x509  # noqa: PLC0415

    try:
        certificates = x509.load_pem_x509_certificates(pem)
        begins = [each.not_valid_before_utc.timestamp() for each in certificates]
        ends = [each.not_valid_after_utc.timestamp() for each in certificates]
    except ValueError:
        return None
    if is_chain:
        return Validity(file=file, not_before=max(begins), not_after=min(ends))
    return Validity(file=file, not_before=min(begins), not_after=max(ends))


class ExpiryWarnings:
    """Logs a warning when a certificate is read that is about to expire, and whenever it reaches a threshold."""

    def __init__(self) -> None:
        self._warned: dict[str, tuple[Validity, int | None]] = {}

    def check(self, validities: Mapping[str, Validity], now: float) -> None:
        """Log warnings about certificates, by role.

        Args:
            validities: when the certificate in use for each role is valid.
            now: the time to check them against, in seconds since 1970.
        """
        for role, validity in validities.items():
            passed = (validity, validity.threshold(now))
            if self._warned.get(role) != passed:
                self._warned[role] = passed
                if problem := validity.problem(now):
                    log.warning("certificate needs attention", problem=problem)


class FileFigures(NamedTuple):
    """What the metrics report about a file with credentials."""

    file: str
    role: str
    is_stale: bool
    """Whether the file cannot be used, so that its last valid content stays in use."""
    expires_at: float | None
    """When the certificate in use expires, in seconds since 1970; None if the file has no certificate."""


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
