"""What ends a benchmark, or removes one contender from it."""

from __future__ import annotations


class NotHere(Exception):
    """A contender cannot be measured here. The text says how to change that."""


class Failed(Exception):
    """A contender did not do what it should."""
