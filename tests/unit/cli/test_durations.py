from __future__ import annotations

import click
import pytest

from queuelet.cli.options import duration
from queuelet_operator.__main__ import main as operator


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


def test_flags_of_the_operator_take_units_too() -> None:
    context = operator.make_context("queuelet-operator", ["--release-after", "10m", "--outage-after", "1m30s"])
    assert (context.params["release_after"], context.params["outage_after"]) == (600, 90)
    with pytest.raises(click.BadParameter, match="'soon' is not a duration; write seconds, or numbers with units"):
        operator.make_context("queuelet-operator", ["--resync", "soon"])
