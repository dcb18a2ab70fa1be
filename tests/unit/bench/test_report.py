"""Figures, and the tables and the JSON that benchmarks make of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.report import OURS, Figure, Figures, ratios, table_by_contender, table_by_figure, targets_table, write_json


def rate(who: str, *values: float, target: float | None = None) -> Figure:
    return Figure(
        case="unary",
        what="add",
        values=list(values),
        unit="msg/s",
        who=who,
        target=target,
        more_is_better=True,
        is_compared=True,
    )


def seconds(who: str, *values: float, target: float | None = None) -> Figure:
    return Figure(case="unary", what="CPU", values=values, unit="s", who=who, target=target)


def cells(table: str) -> list[list[str]]:
    """Return the rows of a table without its headings."""
    return [line.split() for line in table.splitlines()[2:]]


def test_a_ratio_says_how_many_times_better_ours_is_in_each_round() -> None:
    assert ratios(rate(OURS, 20, 30), rate("redis", 10, 10)) == [2, 3]
    assert ratios(seconds(OURS, 2, 2), seconds("redis", 4, 6)) == [2, 3]


@pytest.mark.parametrize(
    ("figure", "met"),
    [
        (rate(OURS, 10, target=10), True),
        (rate(OURS, 9, target=10), False),
        (seconds(OURS, 10, target=10), True),
        (seconds(OURS, 11, target=10), False),
        (seconds(OURS, 11), None),
    ],
)
def test_a_target_is_a_bound_of_the_median(figure: Figure, *, met: bool | None) -> None:
    assert figure.met is met


def test_a_table_by_contender_has_a_column_for_each_quantity() -> None:
    table = table_by_contender([rate(OURS, 20, 30), seconds(OURS, 1), rate("redis", 10, 10)])
    assert cells(table) == [["unary", OURS, "25", "-", "1"], ["unary", "redis", "10", "2.50x", "(2.00-3.00)", "-"]]


def test_a_table_by_figure_shows_the_target() -> None:
    ((*_, target, met),) = cells(table_by_figure([seconds(OURS, 1, target=2)]))
    assert (target, met) == ("2", "yes")


def test_figures_without_a_target_are_not_among_the_targets() -> None:
    assert not targets_table([seconds(OURS, 1)])


def test_the_values_of_a_figure_are_collected_round_by_round() -> None:
    figures = Figures()
    for value in (10, 20):
        figures.rate("unary", "add", value, target=5)
    assert list(figures) == [rate(OURS, 10, 20, target=5)]
    assert figures.values("unary", "add") == [10, 20]
    assert figures.values("unary", "pop") == []


def test_the_figures_of_a_contender_that_did_not_finish_a_case_are_dropped() -> None:
    figures = Figures()
    for case in ("unary", "batch"):
        for who in (OURS, "redis"):
            figures.rate(case, "add", 10, who)
    figures.drop_others("unary", {OURS})
    assert [(figure.case, figure.who) for figure in figures] == [("unary", OURS), ("batch", OURS), ("batch", "redis")]


def test_the_json_has_every_round(tmp_path: Path) -> None:
    write_json(tmp_path / "figures.json", {"rounds": 2}, [rate(OURS, 20, 30, target=10)], cycle=[])
    written = json.loads((tmp_path / "figures.json").read_text())
    (figure,) = written["figures"]
    assert (figure["values"], figure["median"], figure["met"]) == ([20, 30], 25, True)
    assert (written["settings"], written["cycle"]) == ({"rounds": 2}, [])
