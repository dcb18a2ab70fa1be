"""Reports results: progress on standard error, tables on standard output, and everything as JSON."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

import google.protobuf
import grpc
from google.protobuf.internal import api_implementation


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One measurement and its baseline, round by round in the same order."""

    case: str
    what: str
    baseline: str
    ours: Sequence[float]
    theirs: Sequence[float] = ()
    unit: str = "msg/s"
    more_is_better: bool = True
    our_cpu: Sequence[float] = field(default=())
    """Microseconds of our server's CPU per message."""
    their_cpu: Sequence[float] = field(default=())

    @property
    def ratios(self) -> list[float]:
        """How many times better ours is, in each round."""
        pairs = zip(self.ours, self.theirs, strict=False)
        return [ours / theirs if self.more_is_better else theirs / ours for ours, theirs in pairs]


def rates_table(results: Sequence[Result], baseline: str) -> str:
    """Return a table of messages a second, ours and one baseline's."""
    rows = [
        [
            result.case,
            result.what,
            f"{median(result.ours):,.0f}",
            f"{median(result.theirs):,.0f}",
            _ratio(result),
            _spread(result),
            _cpu(result.our_cpu),
            _cpu(result.their_cpu),
        ]
        for result in results
        if result.baseline == baseline
    ]
    heads = ["case", "", "queuelet/s", f"{baseline}/s", "ratio", "lowest-highest", "our CPU us", "its CPU us"]
    return table(heads, rows)


def times_table(results: Sequence[Result]) -> str:
    """Return a table of time or memory per message, ours and the plain baseline's."""
    rows = [
        [
            result.case,
            result.what,
            f"{median(result.ours):,.2f}",
            f"{median(result.theirs):,.2f}" if result.theirs else "-",
            _ratio(result),
            _spread(result),
            result.unit,
        ]
        for result in results
    ]
    return table(["case", "", "queuelet", "plain", "ratio", "lowest-highest", "unit"], rows)


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


@dataclass(frozen=True, slots=True)
class Target:
    """A target. The report says whether it was reached, but missing it is not a failure."""

    text: str
    case: str
    what: str
    bound: float
    unit: str


TARGETS = (
    Target("unary Add, handler", "handler-unary-128B", "Add", 5, "us"),
    Target("unary Pop, handler", "handler-unary-128B", "Pop", 1.5, "us"),
    Target("a message in AddBatch of 1,000, handler", "handler-batch1000-128B", "AddBatch", 3, "us"),
    Target("a message in PopBatch of 1,000, handler", "handler-batch1000-128B", "PopBatch", 0.3, "us"),
    Target("memory beyond the payload", "memory", "overhead", 300, "bytes"),
    Target("added in batches of 1,000, server", "batch1000-128B-1", "add", 200_000, "msg/s"),
    Target("popped in batches of 1,000, server", "batch1000-128B-1", "pop", 400_000, "msg/s"),
)


def targets(results: Sequence[Result]) -> str:
    """Return which targets were reached, or an empty text if none was measured."""
    rows = []
    for target in TARGETS:
        found = [result for result in results if (result.case, result.what) == (target.case, target.what)]
        if found:
            measured = median(found[0].ours)
            more = found[0].more_is_better
            reached = measured >= target.bound if more else measured <= target.bound
            bound = f"{'>=' if more else '<='} {target.bound:,} {target.unit}"
            rows.append([target.text, "yes" if reached else "NO", bound, f"{measured:,.{0 if more else 2}f}"])
    return table(["target", "met", "bound", "measured"], rows) if rows else ""


class Progress:
    """Progress: one line that is updated on a terminal, a line for each case elsewhere."""

    def __init__(self) -> None:
        self._began = monotonic()
        self._on_terminal = sys.stderr.isatty()
        self._case = ""

    def begin(self, case: str) -> None:
        """Report the next case."""
        self._case = case
        sys.stderr.write(f"\r\x1b[K{self._now} {case}" if self._on_terminal else f"{self._now} {case}\n")
        sys.stderr.flush()

    def step(self, doing: str) -> None:
        """Report the next action, before it starts."""
        if self._on_terminal:
            sys.stderr.write(f"\r\x1b[K{self._now} {self._case}: {doing}")
            sys.stderr.flush()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        sys.stderr.write(f"\r\x1b[K{text}\n" if self._on_terminal else f"{text}\n")
        sys.stderr.flush()

    def clear(self) -> None:
        """Finish an incomplete line."""
        if self._on_terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    @property
    def _now(self) -> str:
        seconds = int(monotonic() - self._began)
        return f"{seconds // 60}:{seconds % 60:02}"


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
    facts = machine()
    return (
        f"{facts['cores']} cores ({facts['cpu']}), {facts['system']}, {facts['python']}, "
        f"grpcio {facts['grpcio']}, protobuf {facts['protobuf']}"
    )


def as_json(results: Sequence[Result], settings: dict[str, Any]) -> dict[str, Any]:
    """Return everything that was measured."""
    return {"machine": machine(), "settings": settings, "results": [asdict(result) for result in results]}


def _ratio(result: Result) -> str:
    return f"{median(result.ratios):.2f}x" if result.theirs else "-"


def _spread(result: Result) -> str:
    return f"{min(result.ratios):.2f}-{max(result.ratios):.2f}" if result.theirs else "-"


def _cpu(microseconds: Sequence[float]) -> str:
    return f"{median(microseconds):,.2f}" if microseconds else "-"


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()
