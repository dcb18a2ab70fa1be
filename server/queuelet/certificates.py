"""How long certificates are valid."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

DAY = 86_400

THRESHOLDS = (0, 1, 7, 30)
"""Days that a certificate has left when a warning is logged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Validity:
    """From when to when the certificates of a file are valid, in seconds since 1970."""

    file: str
    not_before: float
    not_after: float

    def threshold(self, now: float) -> int | None:
        """Return the lowest of `THRESHOLDS` that is passed, None while none is. Not valid yet counts as 0."""
        if now < self.not_before:
            return 0
        return next((days for days in THRESHOLDS if self.not_after - now <= days * DAY), None)

    def problem(self, now: float) -> str:
        """Return what is wrong, in a sentence; empty if the certificate is valid for more than 30 days."""
        if now < self.not_before:
            return f"{self.file}: the certificate is not valid before {_date(self.not_before)}; check it and the clock"
        if self.threshold(now) == 0:
            return f"{self.file}: the certificate expired at {_date(self.not_after)}; replace it"
        if self.threshold(now) is not None:
            return f"{self.file}: the certificate expires at {_date(self.not_after)}; replace it before"
        return ""


def validity_of(pem: bytes, file: str, *, is_chain: bool) -> Validity | None:
    """Return how long the certificates of a PEM file are valid; None if they cannot be read.

    A chain is valid while each of its certificates is. Of several authorities one is enough.
    """
    # It takes some 10 MB, which a server without TLS does without.
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


class FileFigures(NamedTuple):
    """What metrics say of a file with credentials."""

    file: str
    role: str
    is_stale: bool
    """Whether the file cannot be used, so that its last good content is."""
    expires_at: float | None
    """When its certificate in use expires, in seconds since 1970; None if it has none."""


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
