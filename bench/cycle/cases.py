"""The cases of the full cycle: the races of the contenders, and single puts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.contenders import RIVALS
from bench.cycle import alone, figures, race
from bench.cycle.race import Plan
from bench.report import Figure, Progress, table_by_contender, table_by_figure

CASES = (*race.CASES, *alone.CASES)
QUICK = (*race.QUICK, *alone.CASES)

_TURNS_A_SECOND = 30
"""Turns of each way to add, per second of a race's round."""

__all__ = ["CASES", "QUICK", "RIVALS", "Plan", "run"]


def run(cases: Sequence[str], plan: Plan, progress: Progress) -> tuple[str, list[Figure], list[dict[str, Any]]]:
    """Measure cases; return the text to print, all figures, and all trips of the contenders."""
    races = [case for case in cases if case in race.CASES]
    measured = race.run(races, plan, progress)
    turns = max(1, int(plan.rounds * plan.seconds * _TURNS_A_SECOND))
    single = alone.run([case for case in cases if case in alone.CASES], turns=turns, progress=progress)
    of_contenders = figures.of_contenders(measured)
    texts = []
    if races:
        texts += [
            table_by_contender(of_contenders),
            f"Medians of {plan.rounds} rounds of {plan.seconds:g} s.\n{figures.settings(races)}",
            f"Run were: {figures.versions(measured)}.",
        ]
    if compared := [*figures.targets(measured), *single]:
        texts.append(table_by_figure(compared))
    return "\n\n".join(texts), [*of_contenders, *compared], figures.as_facts(measured)
