"""Whether settings make sense, so that one that does not is refused where it is chosen."""

from __future__ import annotations

from math import isfinite


def check_at_least(least: int, **settings: float | None) -> None:
    """Raise `ValueError` for a setting that is less, and `TypeError` for one that is no number.

    None is no bound, and may be.
    """
    for name, value in settings.items():
        if value is not None and not isinstance(value, int | float):
            raise TypeError(f"{name}: {value!r} is no number")
        if value is not None and not value >= least:
            raise ValueError(f"{name}: {value} is out of range; use {least} or more")


def check_finite(**settings: float) -> None:
    """Raise `ValueError` for a setting that is infinite, or no number."""
    for name, value in settings.items():
        if not isfinite(value):
            raise ValueError(f"{name}: {value} is out of range; use a finite number")
