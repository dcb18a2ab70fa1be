"""Errors, with messages for the person at the terminal."""

from __future__ import annotations


class ImageError(Exception):
    """The Dockerfile is not supported or one of its steps failed."""
