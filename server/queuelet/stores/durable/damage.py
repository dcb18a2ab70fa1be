"""Damage: what a store returns instead of a message whose row is damaged."""

from __future__ import annotations

from typing import NamedTuple


class Damage(NamedTuple):
    """Returned instead of the body of a damaged message."""

    reason: str
    size: int
    """The size of its body in bytes, 0 if the body cannot be read."""
