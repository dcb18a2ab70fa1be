from __future__ import annotations

import pytest

from queuelet.cli.options import duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("0.5", 0.5),
        ("0", 0),
        ("250ms", 0.25),
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5_400),
        ("1.5h", 5_400),
        ("1d", 86_400),
        ("1m500ms", 60.5),
    ],
)
def test_a_duration_is_seconds_or_has_units(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["5 m", "m", "5x", "1h30", "-5m", "5m-", "1e3m", "\u0665m", "ms5", "", "nan", "5M", "1:30"]
)
def test_anything_else_is_none(text: str) -> None:
    assert duration(text) is None
