"""The server and its baselines over sockets: callers fill a queue for a time and then empty it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from bench.callers import Drivers, drivers
from bench.contender import MEMORY, Load
from bench.contenders import contender
from bench.errors import Failed
from bench.processes import cpu_seconds
from bench.race import Race
from bench.report import OURS, Figures, say

BATCHES = (1, 10, 100, 1_000)
SIZES = (128, 1_024)
CALLERS = (1, 64)

LOADS = {load.name: load for load in (Load(b, s, c) for b in BATCHES for s in SIZES for c in CALLERS)}
"""The cases by name."""

QUICK = ("unary-128B-1", "unary-128B-64", "batch100-128B-64", "batch1000-128B-1")
"""The cases of a quick run."""

TARGETS = {("batch1000-128B-1", "add"): 200_000.0, ("batch1000-128B-1", "pop"): 400_000.0}
"""The fewest messages a second."""


def run(cases: Sequence[str], baselines: Sequence[str], *, rounds: int, seconds: float, processes: int) -> Figures:
    """Run the cases on our server and on the available baselines; a round adds messages for some seconds."""
    figures = Figures()
    with closing(Race(MEMORY, lambda target, server: drivers(target.name, server, processes))) as race:
        race.start([OURS, *baselines])
        for case in cases:
            _run(LOADS[case], race, figures, rounds=rounds, seconds=seconds)
    return figures


def _run(load: Load, race: Race[Drivers], figures: Figures, *, rounds: int, seconds: float) -> None:
    say(load.name)
    able = {name for name in race.entrants if contender(name).can(load)}

    def go(name: str, entrant: Drivers) -> None:
        """Add for a time, then pop everything, and record both rates."""
        before = cpu_seconds(entrant.server.pid)
        added = entrant.add(seconds)
        between = cpu_seconds(entrant.server.pid)
        popped = entrant.pop()
        after = cpu_seconds(entrant.server.pid)
        if popped.messages != added.messages:
            raise Failed(f"{added.messages:,} messages were added but {popped.messages:,} popped")
        for what, span, cpu in (("add", added, between - before), ("pop", popped, after - between)):
            figures.rate(load.name, what, span.rate, name, TARGETS.get((load.name, what)) if name == OURS else None)
            figures.note(load.name, f"{what} CPU", cpu / span.messages * 1e6, "us", name)

    race.each("connect", lambda _, entrant: entrant.open(load), able)
    race.rounds("add and pop", rounds, go, able)
    race.each("disconnect", lambda _, entrant: entrant.close(), able)
    figures.drop_others(load.name, race.entrants)
    if OURS not in race.entrants:
        raise Failed(f"our own server does not serve {load.name}")
