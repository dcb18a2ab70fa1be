"""What goes wrong, told in sentences for the one who started it."""

from __future__ import annotations


class ControlPlaneError(Exception):
    """The control plane could not be built or started, or has ended."""


class Unreachable(ControlPlaneError):
    """The API server does not answer."""


class ApiError(Exception):
    """The API server's refusal of one request."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        """The HTTP status code."""
        self.reason = reason
        """Its word for it, such as NotFound, Invalid or Conflict."""
        self.message = message
        """Its sentence."""
