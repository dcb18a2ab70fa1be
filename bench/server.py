"""The server and its baselines over sockets: each case in rounds of alternating order.

Every other round runs the contenders in the opposite order, so that none always follows the same neighbour.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.contender import Contender, Load
from bench.contenders import NEGZ, contender
from bench.driver import Drivers, Span
from bench.errors import Failed, NotHere
from bench.process import RunningServer, cpu_seconds
from bench.report import OURS, Figure, Progress

BATCHES = (1, 10, 100, 1_000)
SIZES = (128, 1_024)
CALLERS = (1, 64)

LOADS = {load.name: load for load in (Load(b, s, c) for b in BATCHES for s in SIZES for c in CALLERS)}
"""The cases by name."""

QUICK = ("unary-128B-1", "unary-128B-64", "batch100-128B-64", "batch1000-128B-1")
"""The cases of a quick run."""

TARGETS = {("batch1000-128B-1", "add"): 200_000.0, ("batch1000-128B-1", "pop"): 400_000.0}
"""The fewest messages a second."""

_RATES = ("add", "pop")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Settings of a run."""

    seconds: float
    """Seconds that a round adds messages."""
    rounds: int
    drivers: int
    """Number of driver processes."""
    peer_negz: str = ""
    """The address of a running server of negz/q's protocol; empty for none."""


_Measured = defaultdict[str, list[float]]
"""Quantities of one contender with one load, by round."""


class _Entrant:
    """A running contender with its drivers."""

    def __init__(self, target: Contender, running: RunningServer, drivers: Drivers) -> None:
        self.name = target.name
        self.can = target.can
        self._pid = running.pid
        self._drivers = drivers

    def open(self, load: Load) -> None:
        """Connect, and pass a few messages through."""
        self._drivers.open(load)
        self._drivers.add(0.02)
        self._drivers.pop()

    def round(self, seconds: float, measured: _Measured) -> None:
        """Add for a time, then pop everything, and record both rates."""
        before = cpu_seconds(self._pid)
        added = self._drivers.add(seconds)
        between = cpu_seconds(self._pid)
        popped = self._drivers.pop()
        after = cpu_seconds(self._pid)
        if popped.messages != added.messages:
            raise Failed(f"{added.messages:,} messages were added but {popped.messages:,} popped")
        _note(measured, "add", added, before, between)
        _note(measured, "pop", popped, between, after)

    def close(self) -> None:
        """Disconnect."""
        self._drivers.close()


def measure(loads: Sequence[Load], baselines: Sequence[str], plan: Plan, progress: Progress) -> list[Figure]:
    """Run all loads on our server and on the available baselines."""
    figures: list[Figure] = []
    with TemporaryDirectory(prefix="bench-") as folder, ExitStack() as running:
        entrants: list[_Entrant] = []
        progress.begin("starting")
        for name in (OURS, *baselines, *([NEGZ] if plan.peer_negz else [])):
            progress.step(name)
            try:
                entrants.append(running.enter_context(_entrant(name, Path(folder) / name, plan)))
            except NotHere as missing:
                if name == OURS:
                    raise
                progress.say(f"skipped {name}: {missing}")
        for number, load in enumerate(loads, 1):
            able = [entrant for entrant in entrants if entrant.can(load)]
            progress.begin(f"case {number} of {len(loads)}, {load.name}")
            measured = _alternate(able, load, plan, progress)
            figures += _figures(load, measured)
            entrants = [entrant for entrant in entrants if entrant not in able or entrant.name in measured]
    return figures


@contextmanager
def _entrant(name: str, folder: Path, plan: Plan) -> Iterator[_Entrant]:
    target = contender(name)
    folder.mkdir()
    with ExitStack() as running:
        server = RunningServer(plan.peer_negz) if name == NEGZ else running.enter_context(target.start(folder))
        yield _Entrant(target, server, running.enter_context(Drivers(name, server.address, plan.drivers)))


def _alternate(entrants: Sequence[_Entrant], load: Load, plan: Plan, progress: Progress) -> dict[str, _Measured]:
    """Run each contender in turn, round by round. One that fails is reported and skipped."""
    measured: dict[str, _Measured] = {}
    for entrant in entrants:
        progress.step(f"{entrant.name} connects")
        try:
            entrant.open(load)
        except Failed as failure:
            progress.say(f"dropped {entrant.name} at {load.name}: {failure}")
        else:
            measured[entrant.name] = _Measured(list)
    for number in range(1, plan.rounds + 1):
        for entrant in entrants if number % 2 else reversed(entrants):
            if entrant.name in measured:
                progress.step(f"round {number} of {plan.rounds}, {entrant.name}")
                try:
                    entrant.round(plan.seconds, measured[entrant.name])
                except Failed as failure:
                    del measured[entrant.name]
                    progress.say(f"dropped {entrant.name} at {load.name}: {failure}")
    for entrant in entrants:
        if entrant.name in measured:
            entrant.close()
    return measured


def _figures(load: Load, measured: dict[str, _Measured]) -> list[Figure]:
    if OURS not in measured:
        raise Failed("our own server does not serve the load")
    figures: list[Figure] = []
    for who, quantities in measured.items():
        for what, values in quantities.items():
            if what in _RATES:
                target = TARGETS.get((load.name, what)) if who == OURS else None
                figures.append(
                    Figure(
                        case=load.name,
                        what=what,
                        values=values,
                        unit="msg/s",
                        who=who,
                        target=target,
                        more_is_better=True,
                        is_compared=True,
                    )
                )
            else:
                figures.append(Figure(case=load.name, what=what, values=values, unit="us", who=who))
    return figures


def _note(measured: _Measured, what: str, span: Span, before: float | None, after: float | None) -> None:
    measured[what].append(span.rate)
    if before is not None and after is not None:
        measured[f"{what} CPU"].append((after - before) / span.messages * 1e6)
