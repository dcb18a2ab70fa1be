"""Reports figures: progress on standard error, tables on standard output, and everything as JSON."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

import google.protobuf
import grpc
from google.protobuf.internal import api_implementation

_BEGAN = monotonic()

OURS = "queuelet"
"""The contender that all others are compared with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One quantity of one contender, by round."""

    case: str
    what: str
    values: Sequence[float]
    unit: str = ""
    who: str = OURS
    target: float | None = None
    """The bound that the median should reach. Missing it is reported, but is not a failure."""
    more_is_better: bool = False
    is_compared: bool = False
    """Whether a table by contender shows how many times better ours is."""

    @property
    def median(self) -> float:
        """The median of all rounds."""
        return median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the target was reached, None if there is none."""
        if self.target is None:
            return None
        return self.median >= self.target if self.more_is_better else self.median <= self.target


def ratios(ours: Figure, other: Figure) -> list[float]:
    """Return how many times better ours is, in each round."""
    pairs = zip(ours.values, other.values, strict=False)
    return [mine / theirs if ours.more_is_better else theirs / mine for mine, theirs in pairs]


def table_by_figure(figures: Sequence[Figure]) -> str:
    """Return a line for each figure, with its target if it has one."""
    heads = ["case", "what", "who", "median", "unit", "lowest-highest", "queuelet is", "target", "met"]
    rows = [
        [
            figure.case,
            figure.what,
            figure.who,
            _number(figure.median),
            figure.unit,
            f"{_number(min(figure.values))}-{_number(max(figure.values))}" if len(figure.values) > 1 else "-",
            _comparison(figure, figures),
            "-" if figure.target is None else f"{'>=' if figure.more_is_better else '<='} {_number(figure.target)}",
            {True: "yes", False: "NO", None: "-"}[figure.met],
        ]
        for figure in figures
    ]
    return table(heads, rows)


def table_by_contender(figures: Sequence[Figure]) -> str:
    """Return a line for each contender in each case, with a column for each quantity."""
    cells = {(figure.case, figure.who, figure.what): figure for figure in figures}
    columns = {figure.what: figure for figure in figures}
    heads = ["case", "who"]
    for what, figure in columns.items():
        heads += [f"{what} {figure.unit}".rstrip(), *(["queuelet is"] if figure.is_compared else [])]
    rows: list[list[str]] = []
    for case, who in dict.fromkeys((figure.case, figure.who) for figure in figures):
        row = [case, who]
        for what, column in columns.items():
            found = cells.get((case, who, what))
            row.append(_number(found.median) if found else "-")
            if column.is_compared:
                row.append(_comparison(found, figures) if found else "-")
        rows.append(row)
    return table(heads, rows)


def targets_table(figures: Sequence[Figure]) -> str:
    """Return the figures that have a target, or an empty text if none was measured."""
    found = [figure for figure in figures if figure.target is not None]
    return table_by_figure(found) if found else ""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows below their headings: the first two columns left-aligned, numbers right-aligned."""
    widths = [max(len(row[place]) for row in [heads, *rows]) for place in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [heads, ["-" * width for width in widths], *rows]
    )


class Figures:
    """Collects the values of figures, round by round."""

    def __init__(self) -> None:
        self._figures: dict[tuple[str, str, str], Figure] = {}
        self._values: dict[tuple[str, str, str], list[float]] = {}

    def __iter__(self) -> Iterator[Figure]:
        """Yield the figures in the order of their first values."""
        yield from self._figures.values()

    def note(self, case: str, what: str, value: float, unit: str = "", who: str = OURS, **more: Any) -> None:  # noqa: ANN401  # fields of a figure
        """Add a value to a figure. Further arguments are fields of `Figure`."""
        key = (case, what, who)
        if key not in self._figures:
            values = self._values[key] = []
            self._figures[key] = Figure(case=case, what=what, values=values, unit=unit, who=who, **more)
        self._values[key].append(value)

    def rate(self, case: str, what: str, value: float, who: str = OURS, target: float | None = None) -> None:
        """Add a value to a figure in messages a second, which a table by contender compares."""
        self.note(case, what, value, "msg/s", who, target=target, more_is_better=True, is_compared=True)

    def drop_others(self, case: str, names: Container[str]) -> None:
        """Drop the figures of contenders that did not finish a case."""
        self._figures = {
            key: figure for key, figure in self._figures.items() if figure.case != case or figure.who in names
        }

    def values(self, case: str, what: str, who: str = OURS) -> list[float]:
        """Return the values of a figure so far."""
        return self._values.get((case, what, who), [])


def say(text: str) -> None:
    """Report progress."""
    seconds = int(monotonic() - _BEGAN)
    sys.stderr.write(f"{seconds // 60}:{seconds % 60:02} {text}\n")
    sys.stderr.flush()


def machine() -> dict[str, str]:
    """Return facts about the machine and the versions."""
    return {
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "cpu": _cpu_name(),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "grpcio": grpc.__version__,
        "protobuf": f"{google.protobuf.__version__} ({api_implementation.Type()})",
    }


def machine_line() -> str:
    """Return the machine in one line."""
    return ", ".join(f"{name} {fact}" for name, fact in machine().items())


def write_json(path: Path, settings: Mapping[str, Any], figures: Sequence[Figure], **more: object) -> None:
    """Write everything that was measured."""
    facts = {
        "machine": machine(),
        "settings": settings,
        "figures": [asdict(figure) | {"median": figure.median, "met": figure.met} for figure in figures],
        **more,
    }
    path.write_text(json.dumps(facts, indent=1) + "\n")


def _comparison(figure: Figure, figures: Sequence[Figure]) -> str:
    """Return how many times better ours is: the median of the rounds, with the lowest and the highest."""
    if figure.who == OURS:
        return "-"
    key = (figure.case, figure.what, OURS)
    ours = next((other for other in figures if (other.case, other.what, other.who) == key), None)
    if not ours:
        return "-"
    found = ratios(ours, figure)
    return f"{median(found):.2f}x ({min(found):.2f}-{max(found):.2f})"


def _number(value: float) -> str:
    return f"{value:,.{0 if abs(value) >= 1_000 or value == int(value) else 2}f}"


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()
