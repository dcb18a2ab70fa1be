"""What goes wrong, told in sentences for the one who started it."""

from __future__ import annotations


class ImageError(Exception):
    """The Dockerfile can't be read, or one of its steps can't be done."""
