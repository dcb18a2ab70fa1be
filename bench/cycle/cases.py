"""The cases of the full cycle: the races of the systems, and single puts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.contenders import RIVALS
from bench.cycle import alone, figures, race
from bench.cycle.race import Plan
from bench.delivery import delivery_table
from bench.report import Progress

CASES = (*race.CASES, *alone.CASES)
QUICK = (*race.QUICK, *alone.CASES)

_TURNS_A_SECOND = 30
"""Turns of each way to add, per second of a race's round."""

__all__ = ["CASES", "QUICK", "RIVALS", "Plan", "run"]


def run(cases: Sequence[str], plan: Plan, progress: Progress) -> tuple[str, list[dict[str, Any]]]:
    """Measure cases; return the text to print, and all results of the systems."""
    races = [case for case in cases if case in race.CASES]
    measured = race.run(races, plan, progress)
    turns = max(1, int(plan.rounds * plan.seconds * _TURNS_A_SECOND))
    rows = alone.run([case for case in cases if case in alone.CASES], turns=turns, progress=progress)
    texts = []
    if races:
        texts += [
            figures.systems_table(measured),
            f"Medians of {plan.rounds} rounds of {plan.seconds:g} s.\n{figures.settings(races)}",
            f"Run were: {figures.versions(measured)}.",
        ]
    if rows := [*figures.targets(measured), *rows]:
        texts.append(delivery_table(rows))
    return "\n\n".join(texts), figures.as_facts(measured)
