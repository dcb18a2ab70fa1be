"""Validation of settings, so that a wrong one is refused where the program sets it."""

from __future__ import annotations

from datetime import timedelta
from math import inf
from numbers import Real

from queuelet.errors import InvalidArgument

Seconds = float | timedelta
"""A duration: a number of seconds, or a `timedelta`."""

MAX_DURATION_SECONDS = 315_576_000_000
"""The longest duration in protobuf, in seconds: ten thousand years."""


def check_at_least(least: int, **settings: float | None) -> None:
    """Raise `ValueError` for a setting below `least`, and `TypeError` for one that is not a number. None is allowed."""
    for name, value in settings.items():
        if value is not None and not isinstance(value, int | float):
            raise TypeError(f"{name}: {value!r} is not a number")
        if value is not None and not value >= least:
            raise ValueError(f"{name}: {value} is out of range; use {least} or more")


def seconds_of(
    field: str, value: Seconds, *, least: float = 0, most: float = MAX_DURATION_SECONDS, above: float | None = None
) -> float:
    """Return a duration in seconds, from `least` to `most`, and more than `above` if that is given.

    Raises:
        InvalidArgument: The duration is out of range, or not a number.
        TypeError: The value is neither a number nor a `timedelta`.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, Real) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except OverflowError:
            seconds = inf
    else:
        raise TypeError(f"{field}: {value!r:.80} is not a duration; use seconds or a timedelta")
    if above is not None and not seconds > above:
        raise InvalidArgument(f"{field}: {seconds:g} is out of range; use more than {above:g}", field=field)
    if not least <= seconds <= most:
        allowed = f"at most {most:,.0f} seconds" if seconds > most else f"{least:g} or more"
        raise InvalidArgument(f"{field}: {seconds:g} is out of range; use {allowed}", field=field)
    return seconds


def timeout_of(field: str, value: Seconds | None) -> float | None:
    """Return a timeout in seconds; None for unlimited. Raises as `seconds_of` does."""
    return None if value is None else seconds_of(field, value, most=inf)
