"""Errors, with messages for the person at the terminal."""

from __future__ import annotations


class ControlPlaneError(Exception):
    """The control plane could not be built or started, or has ended."""


class Unreachable(ControlPlaneError):
    """The API server does not respond."""


class ApiError(Exception):
    """The API server refused a request."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        """The HTTP status code."""
        self.reason = reason
        """The reason in its status, such as NotFound, Invalid or Conflict."""
        self.message = message
        """Its message."""
