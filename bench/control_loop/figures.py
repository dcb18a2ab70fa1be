"""Figures of objects that were created at once, and how ours compares with its targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from bench.report import Figure

FLOOR = "floor"
"""The name of the client that only writes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Creation:
    """Objects that were created at once, until the last was ready."""

    who: str
    count: int
    round: int
    seconds: Sequence[float]
    """Seconds from just before an object's POST until it was seen ready, sorted."""
    makespan: float
    """Seconds from the first POST until the last object was seen ready."""
    writes: int
    """Writes by the operator or its substitute, without the client's own POSTs."""
    cpu: dict[str, float]
    """CPU seconds by process."""


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the smallest value that is at least as large as this percentage of all."""
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


def of_creations(creations: Sequence[Creation]) -> list[Figure]:
    """Return what each contender did: times, writes, and the resources of its processes."""
    groups: dict[tuple[int, str], list[Creation]] = {}
    for each in creations:
        groups.setdefault((each.count, each.who), []).append(each)
    return [figure for group in groups.values() for figure in _of_group(group)]


def targets(creations: Sequence[Creation], ours: str, nack: str) -> list[Figure]:
    """Return how ours compares, by number of objects: medians over the rounds."""
    figures: list[Figure] = []
    for count in sorted({each.count for each in creations}):
        by_name: dict[str, list[Creation]] = {}
        for each in creations:
            if each.count == count:
                by_name.setdefault(each.who, []).append(each)
        case = _case(count)
        mine = by_name.get(ours, [])
        if not mine:
            continue
        if floor := by_name.get(FLOOR):
            times = [a.makespan / b.makespan for a, b in zip(mine, floor, strict=False)]
            figures.append(Figure(case=case, what="makespan / floor", values=times, unit="x", who=ours, target=1.5))
        if theirs := by_name.get(nack):
            what = f"makespan of {nack} / ours"
            faster = [median(b.makespan for b in theirs) / median(a.makespan for a in mine)]
            figures.append(
                Figure(case=case, what=what, values=faster, unit="x", who=ours, target=2.5, more_is_better=True)
            )
            fewer = [median(a.writes for a in mine) / median(b.writes for b in theirs)]
            figures.append(Figure(case=case, what=f"API writes / {nack}", values=fewer, unit="x", who=ours, target=0.5))
    return figures


def figure(  # noqa: PLR0913  # each argument is a field of the figure
    case: str,
    what: str,
    value: float,
    *,
    unit: str = "",
    target: float | None = None,
    who: str = "Queuelet",
) -> Figure:
    """Return a figure that was measured once."""
    return Figure(case=case, what=what, values=[value], unit=unit, target=target, who=who)


def _of_group(group: Sequence[Creation]) -> Iterator[Figure]:
    count, who = group[0].count, group[0].who
    quantities: dict[tuple[str, str], list[float]] = {
        **{(f"p{percent}", "s"): [percentile(each.seconds, percent) for each in group] for percent in (50, 95, 99)},
        ("makespan", "s"): [each.makespan for each in group],
        ("a second", ""): [count / each.makespan for each in group],
        ("writes each", ""): [each.writes / count for each in group],
        **{(f"CPU {process}", "s"): [each.cpu[process] for each in group] for process in group[0].cpu},
    }
    for (what, unit), values in quantities.items():
        yield Figure(case=_case(count), what=what, values=values, unit=unit, who=who)


def _case(count: int) -> str:
    return f"create {count:,}"
