"""Damage: what a store returns instead of a message whose row is damaged, and what a check found."""

from __future__ import annotations

from typing import NamedTuple


class Damage(NamedTuple):
    """Returned instead of the body of a damaged message."""

    reason: str
    size: int
    """The size of its body in bytes, 0 if the body cannot be read."""


class Checked(NamedTuple):
    """The result of a check."""

    problems: list[str]
    """A text for each problem."""
    remedy: str
    """What to do about them, empty if there are none."""
